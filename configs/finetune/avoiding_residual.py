"""Ways kept on Avoiding by a bounded correction beside the frozen clone, codes merged during discovery.

Run:     python -m mmbc_jax.train --config configs/finetune/avoiding_residual.py --workdir runs/avoiding_residual
Expect:  7 minutes on one core. On five fresh seeds, under noise: success .974 to .992, 21 to 24 of 24 ways kept,
         20 to 23 commanded (docs/results/avoiding.md).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/finetune/avoiding_bmd.py").get_config()
    config.stages = ("bc", "discover", "finetune")
    config.actor = plugin("actor", "residual", scale=0.3)
    config.learner.merge = True
    config.discover.iterations = 80
    config.finetune.update({"iterations": 200, "num_modes": 128})
    return config
