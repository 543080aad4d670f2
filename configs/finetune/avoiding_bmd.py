"""The main job: clone a flow policy on D3IL Avoiding, then fine-tune it with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/avoiding_bmd.py --workdir runs/avoiding_bmd
Expect:  2 to 3 minutes on two cores; success .95 to .97, 20 to 24 of 24 ways kept, of which 15 to 21 can be
         commanded; 1 way with one command and no MI reward. Under noise (docs/results/avoiding.md).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config

SHIFTS = "calm: start_noise=0, action_noise=0, obs_noise=0; gust: action_noise=0.3"


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "discover", "finetune", "plain")
    config.env = plugin("env", "avoiding", start_noise=0.01, action_noise=0.1, obs_noise=0.002)
    config.policy = plugin("policy", "flow")
    config.sampler = plugin("sampler", "euler", steps=5)
    config.actor = plugin("actor", "steer")
    config.discriminator = plugin("discriminator", "categorical")
    config.reward = plugin("reward", "mi", payment="absorbing", forfeit=True)
    config.learner = plugin(
        "learner",
        "ppo",
        num_envs=512,
        decisions=16,
        epochs=4,
        minibatches=8,
        learning_rate=4e-3,
        critic_learning_rate=2e-3,
        iterations_per_epoch=10,
    )
    config.chunk.update({"predict": 8, "execute": 8})
    config.data.update({"episodes": 2400, "noise": 0.3})
    config.bc.update({"steps": 6000, "batch_size": 512, "learning_rate": 4e-3, "ema_decay": 0.998})
    config.discover.update({"iterations": 20, "start_horizon": 32})
    config.finetune.update({"iterations": 160, "mi_coef": 2.0, "num_modes": 64})
    config.evaluation.update({"episodes": 2048, "shifts": SHIFTS})
    return config
