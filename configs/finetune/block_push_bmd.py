"""Two cubes pushed into two targets: a clone, fine-tuned with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/block_push_bmd.py --workdir runs/block_push_bmd
Expect:  from the clone of configs/bc/block_push.py; what fine-tuning makes of it is not measured.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/finetune/pushing_bmd.py").get_config()
    cloned = load_module("configs/bc/block_push.py").get_config()
    config.env = plugin("env", "block_push", observe="relative")
    for section in ("policy", "data", "bc"):
        config[section] = cloned[section]
    return config
