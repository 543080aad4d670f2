"""Clones D3IL's Aligning in its plane, from within and from without, beside a deterministic baseline.

Run:     python -m mmbc_jax.train --config configs/bc/aligning.py --workdir runs/aligning
Expect:  2 minutes on one core; success .88 to .93 of four seeds, a fifth of it from without.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/bc/pushing.py").get_config()
    config.env = plugin("env", "aligning")
    config.bc.steps = 12000
    return config
