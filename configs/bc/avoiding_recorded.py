"""Clones the 72 episodes recorded in the original D3IL Avoiding simulator, beside a deterministic baseline.

Needs:   $MMBC_DATA/avoiding/d3il_avoiding_scripted_72.npz (see docs/data.md)
Run:     python -m mmbc_jax.train --config configs/bc/avoiding_recorded.py --workdir runs/avoiding_recorded
Expect:  2 minutes on one core; success .94 to .95 with 22 or 23 of 24 ways kept, 0 for the regression.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "baseline")
    config.env = plugin("env", "avoiding")
    # Three episodes a way: a base that has the ways as components learns from fewer than a flow that must find them.
    config.policy = plugin("policy", "mixture_flow", obs_noise=0.0)
    config.baseline = plugin("policy", "mse", hidden=(128, 128, 128), fourier_octaves=3)
    config.sampler = plugin("sampler", "euler", steps=5)
    # Half a second at once: long enough for ways that part to be apart, so that no decision falls between two.
    config.chunk.update({"predict": 16, "execute": 16})
    # Nothing is held out, as success is measured in the simulator.
    config.data.update({"path": "$MMBC_DATA/avoiding/d3il_avoiding_scripted_72.npz", "holdout": 0.0})
    config.bc.update({"steps": 3000, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.999})
    return config
