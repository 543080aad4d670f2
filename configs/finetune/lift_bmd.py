"""Paper B's Lift: clone two grasps of a cuboid, then fine-tune with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/lift_bmd.py --workdir runs/lift_bmd
Expect:  15 minutes on one core; of three seeds, success .98 to .99 after clones with .99 to 1, 2 of 2 grasps kept,
         1 to 2 commanded; 1.00 and as many without the MI reward (docs/results/robots-lift.md).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/finetune/reach_bmd.py").get_config()
    cloned = load_module("configs/bc/lift.py").get_config()
    for section in ("env", "policy", "chunk", "data", "bc"):
        config[section] = cloned[section]
    config.actor.init_std = 0.3  # success does not suffer here, and commands mean more
    config.learner.update({"num_envs": 64, "decisions": 32})
    config.discover.update({"iterations": 10, "start_horizon": 200})
    config.finetune.iterations = 20
    config.evaluation.episodes = 128
    return config
