"""The main job: clone a flow policy on D3IL Avoiding, then fine-tune it with and without the MI reward.

Run:     python -m mmbc_jax.train --config configs/finetune/avoiding_bmd.py --workdir runs/avoiding_bmd
"""

from ml_collections import ConfigDict

from mmbc_jax.runs.defaults import base_config


def get_config() -> ConfigDict:
    return base_config()
