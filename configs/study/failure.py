"""The whole failure study: every question of paper A and the blog, one report.

Run:     python -m mmbc_jax.study --config configs/study/failure.py --config.scale=small --workdir runs/failure
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
