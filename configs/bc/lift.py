"""Clones a Panda that lifts a cuboid by one of two pairs of faces, from its scripted expert.

Run:     python -m mmbc_jax.train --config configs/bc/lift.py --workdir runs/lift
Expect:  see docs/robots.md.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc",)
    config.env = plugin("env", "lift")
    config.policy = plugin("policy", "flow")
    config.sampler = plugin("sampler", "euler", steps=5)
    config.chunk.update({"predict": 8, "execute": 4})
    config.data.update({"episodes": 200, "noise": 0.1})
    config.bc.update({"steps": 6000, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.998})
    config.evaluation.update({"episodes": 128})
    return config
