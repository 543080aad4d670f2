"""The task and the sizes on which PPO implementations are compared, and ours on them.

brax's inverted pendulum (backend `positional`), 256 environments, 16 steps of each before an update, 4 epochs of 8
minibatches, networks of two layers of 256 for actor and value. A unit is one update.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from benchmarks.comparison import OURS, Comparison
from mmbc_jax.core.config import plugin
from mmbc_jax.runs import setup
from mmbc_jax.runs.epoch import make_epoch
from mmbc_jax.runs.grid import config_grid
from mmbc_jax.runs.mesh import Mesh
from mmbc_jax.runs.sections import base_config
from mmbc_jax.runs.stages import make_stages

ENV, BACKEND = "inverted_pendulum", "positional"
ENVS, STEPS, EPOCHS, MINIBATCHES, WIDTH, RATE = 256, 16, 4, 8, 256, 3e-4
UPDATES = 5  # in a block


def ours() -> Callable[[], Any]:
    """A function that runs `UPDATES` updates of our PPO, a Gaussian over single actions, from scratch."""
    config = base_config()
    config.stages = ("plain",)
    config.env = plugin("env", f"brax:{ENV}", backend=BACKEND)
    config.actor = plugin("actor", "gaussian", hidden=(WIDTH,) * 2)
    config.reward = plugin("reward", "none")
    config.learner = plugin(
        "learner",
        "ppo",
        num_envs=ENVS,
        decisions=STEPS,
        epochs=EPOCHS,
        minibatches=MINIBATCHES,
        learning_rate=RATE,
        critic_learning_rate=RATE,
        critic_hidden=(WIDTH,) * 2,
        critic_octaves=0,
    )
    config.chunk.update({"predict": 1, "execute": 1})
    stage = make_stages(setup.build(config), ("plain",))["plain"]
    grid = config_grid(config)
    state = jax.jit(stage.start)(
        jax.random.key(0)[None], stage.make_hparams(grid, stage.runs(grid)), None, ()
    )
    epoch = make_epoch(stage.learner.train_step, 1, UPDATES, Mesh(), stage.learner.logs)
    run, holder = jax.jit(epoch, donate_argnums=0), [state]

    def block() -> None:
        holder[0], metrics = run(holder[0], ())
        jax.block_until_ready(metrics)

    return block


def against(name: str, theirs: Callable[[], Callable[[], Any]], not_the_same: str) -> Comparison:
    """Ours beside another PPO, whose block does `UPDATES` updates, too."""
    return Comparison(
        "PPO, an update",
        "update",
        {OURS: ours, name: theirs},
        f"Ours normalises no rewards, logs, and has two optimisers for actor and value. {not_the_same}",
        units=UPDATES,
        counted=("environment steps", ENVS * STEPS),
    )
