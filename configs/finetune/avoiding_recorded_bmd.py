"""From 72 episodes recorded in the original D3IL simulator to a policy that succeeds on commanded ways.

Needs:   $MMBC_DATA/avoiding/d3il_avoiding_scripted_72.npz (see docs/data.md)
Run:     python -m mmbc_jax.train --config configs/finetune/avoiding_recorded_bmd.py --workdir runs/recorded_bmd
Expect:  4 to 5 minutes on one core; success .998 or more with 17 to 19 of 24 ways commanded, 1 way without the MI
         reward; see docs/results/avoiding_recorded.md, also for what noise takes away.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "discover", "finetune", "plain")
    config.env = plugin("env", "avoiding")
    # The clone of configs/bc/avoiding_recorded.py, which says why.
    config.policy = plugin("policy", "mixture_flow", obs_noise=0.0)
    config.sampler = plugin("sampler", "euler", steps=5)
    config.chunk.update({"predict": 16, "execute": 16})
    config.data.update({"path": "$MMBC_DATA/avoiding/d3il_avoiding_scripted_72.npz", "holdout": 0.0})
    config.bc.update({"steps": 3000, "batch_size": 256, "learning_rate": 1e-3, "ema_decay": 0.999})
    # The ways lie in the components of the clone's base, so z chooses among them.
    config.actor = plugin("actor", "steer", components="commanded")
    config.discriminator = plugin("discriminator", "categorical")
    config.reward = plugin("reward", "mi", payment="absorbing", forfeit=True)
    config.learner = plugin(
        "learner", "ppo", num_envs=512, decisions=8, epochs=4, minibatches=8, iterations_per_epoch=10
    )
    config.discover.update({"iterations": 20, "start_horizon": 32})
    config.finetune.update({"iterations": 120, "mi_coef": 0.5, "num_modes": 32})
    config.evaluation.update({"episodes": 1024})
    return config
