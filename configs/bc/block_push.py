"""Clones two cubes pushed into two targets in either order, beside a deterministic baseline.

What is seen is relative, and recorded episodes stray (`data.noise`): with less noise the clone mostly fails
(see docs/results/push-t.md).

Run:     python -m mmbc_jax.train --config configs/bc/block_push.py --workdir runs/block_push
Expect:  about 5 minutes on one core; success .56 to .68 of three seeds, the four orders alike.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module, plugin


def get_config() -> ConfigDict:
    config: ConfigDict = load_module("configs/bc/pushing.py").get_config()
    config.env = plugin("env", "block_push", observe="relative")
    config.data.noise = 0.2
    return config
