"""The same policies from the state and from 64 x 64 pixels rendered on the device: does the encoder cost modes?

Run:     python -m mmbc_jax.study --config configs/study/images.py --config.scale=small --workdir runs/images
Expect:  about fifty minutes on two cores; the pixels' success within a few hundredths of the state's.
"""

from mmbc_jax.study.claims import every_mode, gap, interval_bound, together
from mmbc_jax.study.family_settings import open_loop
from mmbc_jax.study.plan import Change, Study, Variant

TASKS = {"radial": 8, "conditional_circle": 2}  # and their modes
FAMILIES = {"flow": 4000, "mixture flow": 1500}  # and their steps, equal for state and pixels
COLUMNS = (
    ("success_rate", "SR", 3),
    ("valid_mode_coverage", "valid cov.", 2),
    ("mode_entropy", "entropy", 3),
    ("bridge_fraction", "bridges", 3),
    ("separation/path_modes", "modes shown", 2),
    ("offline/best_of_1", "held-out error", 4),
)


BOTH = Change(
    2,
    "weak: two claims, of which nulls passed in 4 % (every mode is reached) and in 23 % (a mean of .95) of draws",
    "both at once, with the interval over seeds above .95, and four seeds for three",
    "one path in a thousand is enough to reach a mode; the question is whether the encoder costs modes",
)


def make(task: str, modes: int, family: str, observe: str) -> Variant:
    """One family on one task, from the state or from pixels."""
    config = open_loop(task, modes, family, observe=observe)
    config.bc.update({"steps": FAMILIES[family], "batch_size": 64, "learning_rate": 1e-3})
    config.diagnostics = ("bridges", "separation")
    tags = {"family": family, "task": task, "observe": observe}
    return Variant(f"{family.replace(' ', '_')}-{task}-{observe}", tags, config)


def get_studies(scale: str) -> list[Study]:
    variants = [
        make(task, modes, family, observe)
        for task, modes in TASKS.items()
        for family in FAMILIES
        for observe in ("state", "image")
    ]
    ours, seen = {"family": "mixture flow"}, {"observe": "image"}
    claims = [
        together("mixture flow reaches every mode from pixels and succeeds in more than .95",
                 every_mode("", "valid_mode_coverage", lambda tags: TASKS[tags["task"]], **ours, **seen),
                 interval_bound("", "success_rate", ">", 0.95, **ours, **seen)).changed(BOTH),
        together("the encoder costs less than .05 of success on either task, whichever family",
                 *(gap("", "success_rate", {"family": family, "task": task, **seen},
                       {"family": family, "task": task, "observe": "state"}, margin=-0.05)
                   for family in FAMILIES for task in TASKS)),
    ]  # fmt: skip
    question = (
        "The open-loop tasks seen as an image. The conditional circle shows which loop is wanted by the colour of "
        "the goal alone, so that the encoder decides whether the task has one answer or two. On radial the flow has "
        "4,000 steps of 64 windows, far from its budget in the failure study (success .92): its two rows compare "
        "inputs, not families."
    )
    return [Study("images", question, variants, COLUMNS, claims)]
