"""Success against modes: the MI coefficient over four values and three seeds, in one compilation a stage.

Run:     python -m mmbc_jax.train --config configs/sweep/avoiding_lambda.py --workdir runs/avoiding_lambda
"""

from ml_collections import ConfigDict

from mmbc_jax.runs.defaults import base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.stages = ("bc", "discover", "finetune")
    config.seeds = 3
    config.sweep.grid = "finetune.mi_coef=0,0.1,0.5,2"
    return config
