"""Clones a Panda that reaches behind a pillar on two ways, from its scripted expert.

Run:     python -m mmbc_jax.train --config configs/bc/reach.py --workdir runs/reach
Expect:  2 minutes on one core; success .93 to .97 of four seeds, both ways alike.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc",)
    config.env = plugin("env", "reach")
    config.policy = plugin("policy", "flow", skip=True)
    config.sampler = plugin("sampler", "euler", steps=5)
    config.chunk.update({"predict": 8, "execute": 8})
    config.data.update({"episodes": 400, "noise": 0.2, "scale": "mean_std"})
    config.bc.update({"steps": 3000, "batch_size": 256, "learning_rate": 4e-3, "ema_decay": 0.998})
    config.evaluation.update({"episodes": 256})
    return config
