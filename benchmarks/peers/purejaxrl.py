"""PureJaxRL (github.com/luchris429/purejaxrl): its `ppo_continuous_action` on the task of `_pendulum`.

Its wrappers import navix for grid worlds, which this script does not use; an empty stand-in takes its place where it
is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.comparison import Comparison, bring_in
from benchmarks.peers import _pendulum as task

NEEDS = (
    "PureJaxRL: git clone https://github.com/luchris429/purejaxrl, pip install gymnax, "
    "--peer purejaxrl=ITS_FOLDER"
)
CONFIG = {
    "LR": task.RATE,
    "NUM_ENVS": task.ENVS,
    "NUM_STEPS": task.STEPS,
    "TOTAL_TIMESTEPS": task.UPDATES * task.ENVS * task.STEPS,
    "UPDATE_EPOCHS": task.EPOCHS,
    "NUM_MINIBATCHES": task.MINIBATCHES,
    "GAMMA": 0.99,
    "GAE_LAMBDA": 0.95,
    "CLIP_EPS": 0.2,
    "ENT_COEF": 0.0,
    "VF_COEF": 0.5,
    "MAX_GRAD_NORM": 0.5,
    "ACTIVATION": "tanh",
    "ENV_NAME": task.ENV,
    "ANNEAL_LR": False,
    "NORMALIZE_ENV": True,
    "DEBUG": False,
}


def training(script: Any) -> Callable[[], Any]:
    """A whole training of `UPDATES` updates, with another key each time."""
    run, holder = jax.jit(script.make_train(dict(CONFIG))), [jax.random.key(0)]

    def block() -> None:
        holder[0], key = jax.random.split(holder[0])
        jax.block_until_ready(run(jax.random.key_data(key)))

    return block


def comparisons(checkout: Path | None, cores: int, quick: bool) -> Iterator[Comparison]:
    """An update."""
    (script,) = bring_in(NEEDS, checkout, "purejaxrl", ["ppo_continuous_action"], "navix")
    yield task.against(
        "purejaxrl",
        lambda: training(script),
        "PureJaxRL starts anew in every block (network and environments), normalises observations and rewards by "
        "running moments, and clips values.",
    )
