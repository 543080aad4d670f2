"""Success against modes: the MI coefficient over four values and three seeds, in one compilation a stage.

Run:     python -m mmbc_jax.train --config configs/sweep/avoiding_lambda.py --workdir runs/avoiding_lambda
Expect:  about 20 minutes on two cores; ways that can be commanded grow with lambda (docs/results/factorial.md has 0
         against 2).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import plugin
from mmbc_jax.runs.sections import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "discover", "finetune")
    config.seeds = 3
    config.sweep.grid = "finetune.mi_coef=0,0.1,0.5,2"
    config.env = plugin("env", "avoiding", start_noise=0.01, action_noise=0.1, obs_noise=0.002)
    config.policy = plugin("policy", "flow")
    config.sampler = plugin("sampler", "euler", steps=5)
    config.learner = plugin(
        "learner",
        "ppo",
        num_envs=512,
        decisions=16,
        learning_rate=4e-3,
        critic_learning_rate=2e-3,
        iterations_per_epoch=10,
    )
    config.chunk.update({"predict": 8, "execute": 8})
    config.data.update({"episodes": 2400, "noise": 0.3})
    config.bc.update({"steps": 6000, "batch_size": 512, "learning_rate": 4e-3, "ema_decay": 0.998})
    config.discover.update({"iterations": 20, "start_horizon": 32})
    config.finetune.update({"iterations": 160, "num_modes": 64})
    config.evaluation.update({"episodes": 2048})
    return config
