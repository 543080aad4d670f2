"""What keeps the ways of Avoiding: the number of commands, how they start, discovery, or the MI reward.

Run:     python -m mmbc_jax.study --config configs/study/factorial.py --config.scale=small --workdir runs/factorial
Expect:  small, the half that matters on 6 seeds: 90 minutes on two cores. full, |Z| of 1, 8, 16, 32 and 64 x start x
         discovery x four lambdas on 10 seeds: 170 processes of two to six CPU minutes, or one and a half on a GPU.

All cells take as many environment steps: without discovery its iterations go to fine-tuning. `start` says whether
every z begins with a field of noise of its own (split) or all with the base (alike). A seed has demonstrations of its
own, and the same ones and the same clone in every cell.
"""

from ml_collections import ConfigDict

from mmbc_jax.core.config import load_module
from mmbc_jax.study.claims import interval_bound
from mmbc_jax.study.paired import paired_gap
from mmbc_jax.study.plan import Claim, Plot, Study, Variant

MAIN = "configs/finetune/avoiding_bmd.py"
COLUMNS = (
    ("success_rate", "SR", 3),
    ("modes_kept", "kept", 1),
    ("commandable", "comm.", 1),
    ("mi_z_mode", "I(z; mode)", 2),
    ("mode_entropy", "entropy", 2),
    ("shifts/calm/commandable", "comm., calm", 1),
    ("shifts/gust/commandable", "comm., gusts", 1),
)
SEEDS = {"small": 6, "full": 10}
LAMBDAS = {"small": "0,2", "full": "0,0.1,0.5,2"}
SPLIT, ALIKE = "split", "alike"
SMALL = [(8, SPLIT, True), (32, SPLIT, True), (64, SPLIT, True), (64, SPLIT, False), (64, ALIKE, True)]
FULL = [(z, start, found) for z in (8, 16, 32, 64) for start in (SPLIT, ALIKE) for found in (True, False)]


def cell(scale: str, modes: int, start: str, discovery: bool) -> Variant:
    """One number of commands, start and discovery, with all lambdas."""
    config: ConfigDict = load_module(MAIN).get_config()
    before = config.discover.iterations if discovery else 0
    total = config.discover.iterations + config.finetune.iterations
    config.stages = ("bc", "discover", "finetune") if discovery else ("bc", "finetune")
    config.finetune.update({"num_modes": modes, "iterations": total - before})
    config.sweep.grid = f"finetune.mi_coef={LAMBDAS[scale] if modes > 1 else '0'}"
    if start == ALIKE:
        config.actor.init_std = 1.0
    config.seeds = SEEDS[scale]
    config.figures = ()
    tags = {"Z": modes, "start": start, "discovery": "yes" if discovery else "no"}
    name = f"Z{modes}-{start}-{'found' if discovery else 'not_found'}"
    return Variant(name, tags, config, stage="finetune")


def main_cell(**tags: object) -> dict[str, object]:
    """The main job's cell with some tags changed."""
    return {"Z": 64, "start": SPLIT, "discovery": "yes", "mi_coef": 2.0, **tags}


def claims() -> list[Claim]:
    one, whole, plain = {"Z": 1}, main_cell(), main_cell(mi_coef=0.0, discovery="no")
    return [
        interval_bound("one z keeps two ways at most", "modes_kept", "<", 2.5, **one),
        paired_gap("MI in both stages adds ways that can be commanded", "commandable", whole, plain),
        paired_gap("MI in both stages adds control", "mi_z_mode", whole, plain),
        paired_gap(
            "MI in fine-tuning adds control where discovery came before",
            "mi_z_mode",
            whole,
            main_cell(mi_coef=0.0),
        ),
        paired_gap(
            "starting every z elsewhere adds ways that can be commanded",
            "commandable",
            whole,
            main_cell(start=ALIKE),
        ),
        paired_gap("64 commands reach more ways than 8", "commandable", whole, main_cell(Z=8)),
        paired_gap("64 z without any MI keep more ways than one", "modes_kept", plain, one),
    ]


def get_studies(scale: str) -> list[Study]:
    cells = [(1, ALIKE, False), *(SMALL if scale == "small" else FULL)]
    variants = [cell(scale, *one) for one in cells]
    question = (
        "Which part of the recipe keeps the ways of Avoiding, and which makes them answer to the command? Trained "
        "and evaluated under noise (start 10 mm, action .1, observation 2 mm); beside it without noise and in gusts "
        "(action noise .3)."
    )
    plots = [
        Plot(
            "commandable",
            x="mi_coef",
            lines="Z",
            label="commandable ways",
            where={"start": SPLIT, "discovery": "yes"},
        ),
        Plot(
            "mi_z_mode",
            x="mi_coef",
            lines="start",
            label="I(z; mode) [nats]",
            where={"Z": 64, "discovery": "yes"},
        ),
    ]
    return [Study("factorial", question, variants, COLUMNS, claims(), plots)]
