"""Clones human Push-T episodes from keypoints and plays the clone in the simulator, beside a deterministic baseline.

Needs:   $MMBC_DATA/pusht/pusht_human_164.npz (see docs/data.md)
Run:     python -m mmbc_jax.train --config configs/bc/push_t.py --workdir runs/push_t
Expect:  3 minutes on one core; no solution: of 1,024 episodes the regression solves 6 %, the flow none (3,000 steps).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "baseline")
    config.env = plugin("env", "push_t", observe="keypoints")
    config.sampler = plugin("sampler", "euler", steps=5)
    config.policy = plugin("policy", "flow", fourier_octaves=0)
    config.baseline = plugin("policy", "mse", fourier_octaves=0)
    config.chunk.update({"predict": 16, "execute": 8})
    config.data.update({"path": "$MMBC_DATA/pusht/pusht_human_164.npz", "holdout": 0.0})
    config.data.reader.obs_keys = ("keypoint", "state[0:2]")
    config.bc.update({"steps": 3000, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.999})
    return config
