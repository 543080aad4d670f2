"""Clones two cubes pushed into two targets in either order, beside a deterministic baseline.

Run:     python -m mmbc_jax.train --config configs/bc/block_push.py --workdir runs/block_push
Expect:  4 minutes on one core. The clone fails: success .01 with one seed, as it does not settle on one of the cubes.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/bc/pushing.py").get_config()
    config.env = plugin("env", "block_push")
    config.data.noise = 0.03
    return config
