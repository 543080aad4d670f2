"""Avoiding where half of the ways pay less: what the MI reward keeps of them, and what that costs.

Run:     python -m mmbc_jax.study --config configs/study/one_sided.py --config.scale=small --workdir runs/one_sided
Expect:  steering on 6 seeds, half an hour of a core.

The main job (configs/finetune/avoiding_bmd.py), whose success pays .8 to the right of the first row's obstacle: 12 of
24 ways. Each seed has its clone; from it start z with the MI reward (lambda = 2), z without (0), and one z with the
environment steps of both stages. Settings are those of the main job, none was chosen here.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module
from mmbc_jax.study.claims import interval_bound
from mmbc_jax.study.paired import paired_gap
from mmbc_jax.study.plan import Claim, Study, Variant

COLUMNS = (
    ("success_rate", "SR", 3),
    ("mean_reward", "return", 3),
    ("mode_share", "shares", 3),
    ("sr_m", "SR_M", 2),
    ("mc_08", "mc@.8", 2),
    ("mode_entropy", "entropy", 2),
    ("modes_kept", "kept", 1),
    ("commandable", "comm.", 1),
    ("mi_estimate", "MI", 2),
    ("mi_z_mode", "I(z; mode)", 2),
    ("env_steps_to_95", "steps to .95", 0),
)
SEEDS = {"small": 6, "full": 6}
WITH, WITHOUT, ONE = {"command": "z", "mi_coef": 2.0}, {"command": "z", "mi_coef": 0.0}, {"command": "one"}


def commanded(scale: str, command: str) -> Variant:
    """The main job with z, both lambdas, or with one z."""
    config: ConfigDict = load_module("configs/finetune/avoiding_bmd.py").get_config()
    config.env.right_share = 0.8
    config.seeds, config.figures = SEEDS[scale], ()
    config.stages = ("bc", "discover", "finetune") if command == "z" else ("bc", "finetune")
    if command == "z":
        config.sweep.grid = f"finetune.mi_coef=0,{config.finetune.mi_coef}"
    else:
        together = config.discover.iterations + config.finetune.iterations
        config.finetune.update({"num_modes": 1, "mi_coef": 0.0, "iterations": together})
    return Variant(f"steer-{command}", {"command": command}, config, stage="finetune")


def claims() -> list[Claim]:
    return [
        interval_bound("succeeds with the MI reward", "success_rate", ">", 0.95, **WITH),
        paired_gap("the MI reward keeps more ways", "modes_kept", WITH, WITHOUT),
        paired_gap("the MI reward commands more ways", "commandable", WITH, WITHOUT),
        paired_gap("z without the reward keep more ways than one z", "modes_kept", WITHOUT, ONE),
        paired_gap("one z earns more than z with the MI reward", "mean_reward", ONE, WITH),
    ]


def get_studies(scale: str) -> list[Study]:
    asked = "What is kept of 24 ways of which half pay .8, and what does it cost?"
    return [Study("one_sided", asked, [commanded(scale, "z"), commanded(scale, "one")], COLUMNS, claims())]
