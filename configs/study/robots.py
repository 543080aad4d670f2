"""Robot tasks: how well clones do, and what steering keeps of their ways, with the MI reward and without it.

Run:     python -m mmbc_jax.study --config configs/study/robots.py --config.scale=small --workdir runs/robots
Expect:  small, 3 seeds of five tasks: some 15 minutes of a core each, most of it for lift and for compiling.
         full: 6 seeds, so that a paired claim can count, and the conventional fine-tuner.

Each task is the run of its configuration in configs/finetune: clone, discovery of modes, fine-tuning with the MI
reward (lambda) and without (0); in full also one z with the environment steps of both. Settings are chosen on seed 0.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module
from mmbc_jax.study.claims import every_mode, interval_bound
from mmbc_jax.study.nulls import Tags
from mmbc_jax.study.paired import paired_gap
from mmbc_jax.study.plan import Claim, Study, Variant

COLUMNS = (
    ("success_rate", "SR", 3),
    ("success_per_mode", "SR by mode", 2),
    ("sr_m", "SR_M", 2),
    ("mode_share", "shares", 2),
    ("mode_entropy", "entropy", 2),
    ("modes_kept", "kept", 1),
    ("commandable", "comm.", 1),
    ("mi_z_mode", "I(z; mode)", 2),
    ("mi_estimate", "MI", 2),
    ("separation/modes", "modes / obs", 2),
    ("separation/multimodal", "multimodal", 2),
)
TASKS = {
    "pushing": (4, 0.7),
    "reach": (2, 0.8),
    "block_push": (4, 0.4),
    "aligning": (2, 0.7),
    "lift": (2, 0.8),
}
"""Ways of each, and the success that fine-tuning with the MI reward is to exceed."""
SEEDS = {"small": 3, "full": 6}
NEAR = 1.0
"""Distance of observations [deviations] within which demonstrations are compared: starts differ in many numbers."""


def tuned(task: str) -> ConfigDict:
    """The configuration of a task."""
    config: ConfigDict = load_module(f"configs/finetune/{task}_bmd.py").get_config()
    return config


def job(scale: str, task: str) -> Variant:
    """The run of a task, with both lambdas."""
    config = tuned(task)
    config.sweep.grid = f"finetune.mi_coef=0,{config.finetune.mi_coef}"
    config.seeds, config.figures = SEEDS[scale], ()
    config.diagnostics = ("separation", "bridges")
    for instrument in config.diagnostics:
        config.instruments[instrument].radius = NEAR
    beside = ("bc", "plain")
    if scale == "small":
        config.stages, beside = ("bc", "discover", "finetune"), ("bc",)
    return Variant(task, {"task": task}, config, stage="finetune", beside=beside)


def claims(task: str) -> list[Claim]:
    """What is to hold of a task."""
    without = {"task": task, "stage": "finetune", "mi_coef": 0.0}
    paid = {**without, "mi_coef": tuned(task).finetune.mi_coef}
    least = TASKS[task][1]
    return [
        every_mode(f"{task}: with the MI reward every way is kept", "valid_mode_coverage", ways, **paid),
        interval_bound(
            f"{task}: with it more than {least:g} of the episodes succeed", "success_rate", ">", least, **paid
        ),
        paired_gap(f"{task}: it adds control", "mi_z_mode", paid, without),
    ]


def ways(tags: Tags) -> int:
    """K of the task of an entry."""
    return TASKS[tags["task"]][0]


def get_studies(scale: str) -> list[Study]:
    question = (
        "How well do clones of the scripted experts do, and which of their ways does fine-tuning keep, with the MI "
        "reward and without it? Separation of the demonstrations first."
    )
    said = [claim for task in TASKS for claim in claims(task)]
    return [Study("robots", question, [job(scale, task) for task in TASKS], COLUMNS, said)]
