"""Clones D3IL's Aligning in its plane, from within and from without, beside a deterministic baseline.

Run:     python -m mmbc_jax.train --config configs/bc/aligning.py --workdir runs/aligning
Expect:  2 minutes on one core; success .66 to .69 of three seeds; .9 of its successes from within, .1 from without.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/bc/pushing.py").get_config()
    config.env = plugin("env", "aligning")
    config.policy.update({"fourier_octaves": 3, "skip": False})
    config.baseline.fourier_octaves = 3
    config.data.scale = "auto"
    config.bc.update({"steps": 15000, "learning_rate": 1e-3})
    return config
