"""The whole failure study: every question of paper A and the blog, one report.

Run:     python -m mmbc_jax.study --config configs/study/failure.py --config.scale=small --workdir runs/failure
Costs:   at small scale about 7,200 s of process time, an hour on two cores: 168 cells of the synthetic tasks (4
         seeds, 15 to 60 s each), 102 of the blog (6 seeds, 14 s), 10 variants of human data (60 to 100 s each).
"""

import dataclasses
from pathlib import Path

from mmbc_jax.core.config import load_module
from mmbc_jax.study.plan import Study

PARTS = ("modes", "tasks", "regularisation", "transport", "blog", "human")


def get_studies(scale: str) -> list[Study]:
    here = Path(__file__).parent
    files = [here / f"{part}.py" for part in PARTS]
    return [
        dataclasses.replace(study, source=str(file))
        for file in files
        for study in load_module(file).get_studies(scale)
    ]
