"""D3IL's Aligning in its plane: a clone, fine-tuned with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/aligning_bmd.py --workdir runs/aligning_bmd
Expect:  from a clone with success .68, .9 of it from within; what fine-tuning makes of it is not measured.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/finetune/pushing_bmd.py").get_config()
    config.env = plugin("env", "aligning")
    return config
