"""Two cubes pushed into two targets: a clone, fine-tuned with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/block_push_bmd.py --workdir runs/block_push_bmd
Expect:  of three seeds, success .83 to .93 after clones with .59 to .62; 4 of 4 orders kept, none commanded;
         .90 to .96 without the MI reward (docs/robots.md).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/finetune/pushing_bmd.py").get_config()
    cloned = load_module("configs/bc/block_push.py").get_config()
    for section in ("env", "policy", "data", "bc"):
        config[section] = cloned[section]
    config.actor.init_std = 0.95
    config.discover.start_horizon = 350
    return config
