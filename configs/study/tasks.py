"""The paper's other tasks: one choice, the same choice shown in the observation, two choices in a row.

Run:     python -m mmbc_jax.study --config configs/study/tasks.py --config.scale=small --workdir runs/tasks
"""

from mmbc_jax.study.claims import against_the_rest, bound, gap, mean_bound
from mmbc_jax.study.family_settings import FAMILIES, open_loop
from mmbc_jax.study.plan import Change, Study, Variant

TASKS = {"circle": 2, "conditional_circle": 2, "sequential": 4}  # and their modes
COLUMNS = (
    ("success_rate", "SR", 3),
    ("valid_mode_coverage", "valid cov.", 2),
    ("mode_entropy", "entropy", 3),
    ("bridge_fraction", "bridges", 3),
    ("separation/path_modes", "modes shown", 2),
    ("separation/path_delta", "Delta", 2),
    ("capacity/lipschitz", "L sampled", 1),
    ("capacity/needed_lipschitz", "L needed", 1),
)


def get_studies(scale: str) -> list[Study]:
    families = ("deterministic", "flow", "mixture flow .6") if scale == "small" else tuple(FAMILIES)
    variants = [
        Variant(
            f"{family.replace(' ', '_')}-{task}", {"family": family, "task": task}, open_loop(task, k, family)
        )
        for task, k in TASKS.items()
        for family in families
    ]
    claims = [
        mean_bound(
            "deterministic regression fails where one observation has two answers",
            "success_rate",
            "<=",
            0.01,
            family="deterministic",
            task="circle",
        ),
        against_the_rest(
            "and is within .02 of the best where the observation shows which one",
            "success_rate",
            "deterministic",
            wins=True,
            lower=False,
            margin=0.02,
            shown="separation/path_modes",
            task="conditional_circle",
        ),
        gap(
            "the diagnostic tells the two apart before anything is trained",
            "separation/path_modes",
            {"task": "circle"},
            {"task": "conditional_circle"},
            margin=0.8,
        ).changed(
            Change(
                2,
                "not recorded",
                "9c0236f: by separation/path_modes, before by separation/modes",
                "separation in the metric of paths",
            )
        ),
        mean_bound(
            "flow: bridges of at most 2 % on the circle, K = 2",
            "bridge_fraction",
            "<=",
            0.02,
            family="flow",
            task="circle",
        ),
        bound(
            "mixture flow reaches every mode",
            "valid_mode_coverage",
            ">=",
            1.0,
            null=0.95,
            family="mixture flow .6",
        ),
    ]
    question = (
        "The paper's tasks with few modes, each under its open-loop protocol. Separation next to success: the same "
        "two loops are multimodal from one start and unimodal once the observation names the loop."
    )
    return [Study("tasks", question, variants, COLUMNS, claims)]
