"""Clones the episodes recorded in the original D3IL Avoiding simulator, beside a deterministic baseline.

Needs:   $MMBC_DATA/avoiding/d3il_avoiding_scripted_72.npz (see docs/data.md)
Run:     python -m mmbc_jax.train --config configs/bc/avoiding_recorded.py --workdir runs/avoiding_recorded
Expect:  2 minutes on two cores; success .36 for the flow, 0 for the regression.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "baseline")
    config.env = plugin("env", "avoiding")
    config.sampler = plugin("sampler", "euler", steps=5)
    config.chunk.update({"predict": 8, "execute": 8})
    # 58 training episodes: a small network, averaged long, before it learns them by heart.
    config.policy = plugin("policy", "flow", hidden=(128, 128, 128), fourier_octaves=3)
    config.baseline = plugin("policy", "mse", hidden=(128, 128, 128), fourier_octaves=3)
    config.data.update({"path": "$MMBC_DATA/avoiding/d3il_avoiding_scripted_72.npz", "holdout": 0.2})
    config.bc.update({"steps": 4000, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.999})
    return config
