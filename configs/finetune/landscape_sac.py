"""Four goals, of which the reward prefers one, with SAC on the noise of the clone (DSRL) in place of PPO.

Run:     python -m mmbc_jax.train --config configs/finetune/landscape_sac.py --workdir runs/landscape_sac
Expect:  about 4 minutes on two cores, 3 seeds; 4 of 4 goals kept, one without the MI reward.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "discover", "finetune", "plain")
    config.seeds = 3
    config.env = plugin("env", "landscape", reward="unbalanced")
    config.policy = plugin("policy", "flow", hidden=(128, 128, 128), fourier_octaves=2)
    config.sampler = plugin("sampler", "euler", steps=5)
    config.actor = plugin("actor", "steer", box=3.0)
    config.learner = plugin("learner", "sac", num_envs=64, decisions=4, updates=32, batch_size=256)
    config.chunk.update({"predict": 4, "execute": 4})
    config.data.update({"episodes": 1000, "noise": 0.2})
    config.bc.update({"steps": 3000, "batch_size": 256, "learning_rate": 2e-3})
    config.discover.update({"iterations": 60, "start_horizon": 8})
    config.finetune.update({"iterations": 60, "mi_coef": 0.5, "num_modes": 8})
    return config
