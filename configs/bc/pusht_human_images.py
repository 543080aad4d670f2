"""Clones human Push-T episodes from 96 x 96 frames and the disc's position, and plays the clone in the simulator.

The encoder starts from patches of 8 x 8 pixels, a step of which costs a quarter of that of 4 x 4; for their time both
locate the block as well (docs/results/push-t.md). The environment draws the frames that the clone sees in play.

Needs:   $MMBC_DATA/pusht/pusht_human_164.npz and, beside it, pusht_human_164_images.npz (see docs/data.md)
Run:     python -m mmbc_jax.train --config configs/bc/pusht_human_images.py --workdir runs/pusht_images
Expect:  6.5 minutes of one core; success .03, best coverage .56 (one seed): far too short for images, see there
GPU:     --config.bc.steps=50000 --config.bc.batch_size=256 --config.policy.image_patch=4
         --config.policy.image_channels="(32, 64, 128)"; frames take 560 MB of its memory
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc",)
    config.env = plugin("env", "push_t", observe="both")
    config.sampler = plugin("sampler", "euler", steps=5)
    config.policy = plugin("policy", "flow", hidden=(512, 512, 512), fourier_octaves=0, skip=True)
    config.policy.update({"image_channels": (16, 32), "image_features": 128, "image_patch": 8})
    config.chunk.update({"predict": 16, "execute": 8, "observe": 2})
    config.data.update({"path": "$MMBC_DATA/pusht/pusht_human_164.npz", "holdout": 0.1, "scale": "mean_std"})
    config.data.reader.obs_keys = ("image", "state[0:2]")
    config.bc.update({"steps": 6000, "batch_size": 128, "learning_rate": 4e-3, "ema_decay": 0.999})
    config.evaluation.episodes = 256
    return config
