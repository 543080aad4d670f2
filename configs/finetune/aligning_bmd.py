"""D3IL's Aligning in its plane: a clone, fine-tuned with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/aligning_bmd.py --workdir runs/aligning_bmd
Expect:  of three seeds, success .86 to .93 after clones with .87 to .90; both sides kept, hardly commanded;
         .90 to .96 without the MI reward (docs/robots.md).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/finetune/pushing_bmd.py").get_config()
    cloned = load_module("configs/bc/aligning.py").get_config()
    for section in ("env", "policy", "data", "bc"):
        config[section] = cloned[section]
    config.actor.init_std = 0.95
    return config
