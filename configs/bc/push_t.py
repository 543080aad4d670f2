"""Clones human Push-T episodes from keypoints and plays the clone in the simulator, beside a deterministic baseline.

The flow learns what a Gaussian leaves (`skip`), at six times the rate of most configs: with neither it has learned
hardly anything after these steps.

Needs:   $MMBC_DATA/pusht/pusht_human_164.npz (see docs/data.md)
Run:     python -m mmbc_jax.train --config configs/bc/push_t.py --workdir runs/push_t
Longer:  --config.bc.steps=12000: flow .38 of one seed
Expect:  4 minutes on a core; success of three seeds .32 to .34, regression .18 to .19 (docs/results/push-t.md).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "baseline")
    config.env = plugin("env", "push_t", observe="keypoints")
    config.sampler = plugin("sampler", "euler", steps=5)
    config.policy = plugin("policy", "flow", hidden=(512, 512, 512), fourier_octaves=0, skip=True)
    config.baseline = plugin("policy", "mse", hidden=(512, 512, 512), fourier_octaves=0)
    config.chunk.update({"predict": 16, "execute": 8, "observe": 2})
    config.data.update({"path": "$MMBC_DATA/pusht/pusht_human_164.npz", "holdout": 0.0, "scale": "mean_std"})
    config.data.reader.obs_keys = ("keypoint", "state[0:2]")
    config.bc.update({"steps": 6000, "batch_size": 256, "learning_rate": 6e-3, "ema_decay": 0.999})
    return config
