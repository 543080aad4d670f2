"""All three stages of the landscape task at toy size: does everything run?

Run:     python -m mmbc_jax.train --config configs/smoke.py --workdir runs/smoke
Expect:  under a minute on two cores; the figures mean little at this size.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "discover", "finetune")
    config.env = plugin("env", "landscape")
    config.policy = plugin("policy", "flow", hidden=(64, 64), fourier_octaves=1)
    config.sampler = plugin("sampler", "euler", steps=4)
    config.actor = plugin("actor", "steer", hidden=(32, 32))
    config.discriminator = plugin("discriminator", "categorical", hidden=(32, 32))
    config.chunk.update({"predict": 4, "execute": 4})
    config.data.update({"episodes": 200, "noise": 0.1})
    config.bc.update({"steps": 1000, "batch_size": 128, "steps_per_epoch": 500})
    config.learner = plugin(
        "learner", "ppo", num_envs=64, decisions=8, minibatches=4, epochs=2, iterations_per_epoch=5
    )
    config.discover.update({"iterations": 5, "start_horizon": 8})
    config.finetune.update({"iterations": 10, "mi_coef": 0.5, "num_modes": 4})
    config.evaluation.update({"episodes": 256, "samples": 4})
    return config
