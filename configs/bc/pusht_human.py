"""Clones human Push-T episodes from keypoints, without a simulator, beside a deterministic baseline.

Needs:   $MMBC_DATA/pusht/pusht_human_164.npz (see docs/data.md)
Run:     python -m mmbc_jax.train --config configs/bc/pusht_human.py --workdir runs/pusht_human
Expect:  3 minutes on two cores; held-out errors of single answers and of the best of 16.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "baseline")
    config.env = plugin("env", "")
    config.sampler = plugin("sampler", "euler", steps=5)
    config.policy = plugin("policy", "flow", fourier_octaves=0)
    config.baseline = plugin("policy", "mse", fourier_octaves=0)
    config.chunk.update({"predict": 16, "execute": 8})
    config.data.update({"path": "$MMBC_DATA/pusht/pusht_human_164.npz", "holdout": 0.2})
    config.data.reader.obs_keys = ("keypoint", "state[0:2]")
    config.bc.update({"steps": 6000, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.999})
    return config
