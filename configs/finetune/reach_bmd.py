"""Paper B's Reach: clone a Panda's two ways past a pillar, then fine-tune with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/reach_bmd.py --workdir runs/reach_bmd
Expect:  meant for an accelerator: 20 million steps of the physics a stage.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "discover", "finetune", "plain")
    config.env = plugin("env", "reach")
    config.policy = plugin("policy", "flow")
    config.sampler = plugin("sampler", "euler", steps=5)
    config.actor = plugin("actor", "steer")
    config.discriminator = plugin("discriminator", "categorical")
    config.reward = plugin("reward", "mi", payment="absorbing", forfeit=True)
    config.learner = plugin("learner", "ppo", num_envs=256, decisions=8, iterations_per_epoch=10)
    config.chunk.update({"predict": 8, "execute": 8})
    config.data.update({"episodes": 400, "noise": 0.2})
    config.bc.update({"steps": 3000, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.998})
    config.discover.update({"iterations": 20, "start_horizon": 32})
    config.finetune.update({"iterations": 100, "mi_coef": 0.5, "num_modes": 8})
    config.evaluation.update({"episodes": 1024})
    return config
