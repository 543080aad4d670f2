"""Clones D3IL's Pushing in its plane, in any of four orders, beside a deterministic baseline.

Run:     python -m mmbc_jax.train --config configs/bc/pushing.py --workdir runs/pushing
Expect:  about 4 minutes on one core; success .96 to .98 of three seeds, all four orders (entropy .95 of 1).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "baseline")
    config.env = plugin("env", "pushing", observe="relative")
    config.policy = plugin("policy", "flow", hidden=(256, 256, 256), fourier_octaves=0, skip=True)
    config.baseline = plugin("policy", "mse", hidden=(256, 256, 256), fourier_octaves=0)
    config.sampler = plugin("sampler", "euler", steps=5)
    config.chunk.update({"predict": 4, "execute": 2})
    config.data.update({"episodes": 1000, "noise": 0.3, "scale": "mean_std"})
    config.bc.update({"steps": 10000, "batch_size": 256, "learning_rate": 4e-3, "ema_decay": 0.998})
    config.evaluation.update({"episodes": 256})
    return config
