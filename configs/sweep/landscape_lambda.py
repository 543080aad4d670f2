"""Modes against lambda on the landscape whose reward prefers one goal: five values, eight seeds, one program a stage.

Run:     python -m mmbc_jax.train --config configs/sweep/landscape_lambda.py --workdir runs/landscape_lambda
Expect:  under 4 minutes on two cores; 4 of 4 goals kept and commanded in every seed from lambda = .1 on, 3.0 and 2.9
         without it (docs/results/landscape_lambda_table.md).
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module


def get_config() -> ConfigDict:
    config = load_module("configs/finetune/landscape_bmd.py").get_config()
    config.stages = ("bc", "discover", "finetune")
    config.seeds = 8
    config.sweep.grid = "finetune.mi_coef=0,0.1,0.5,1,2"
    config.mesh.cores = "shared"
    return config
