"""Paper B's Reach: clone a Panda's two ways past a pillar, then fine-tune with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/reach_bmd.py --workdir runs/reach_bmd
Expect:  from the clone of configs/bc/reach.py; see docs/results/robots.md.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/bc/reach.py").get_config()
    config.stages = ("bc", "discover", "finetune", "plain")
    config.actor = plugin("actor", "steer")
    config.learner = plugin("learner", "ppo", num_envs=128, decisions=8, iterations_per_epoch=10)
    config.discover.update({"iterations": 20, "start_horizon": 32})
    config.finetune.update({"iterations": 40, "mi_coef": 0.5, "num_modes": 8})
    config.evaluation.update({"episodes": 512})
    return config
