"""The most ways kept on Avoiding: a bounded correction beside the frozen clone, and codes merged during discovery.

Run:     python -m mmbc_jax.train --config configs/finetune/avoiding_residual.py --workdir runs/avoiding_residual
Expect:  7 minutes on one core. Success, ways kept and ways commanded on five fresh
         seeds are in docs/results/fine-tuning-avoiding.md.
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
