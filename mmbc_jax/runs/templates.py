"""Shapes of what a stage keeps and shares, told from a configuration alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import PyTree
from mmbc_jax.data.windows import Windows
from mmbc_jax.ops.normalisation import Normalizer
from mmbc_jax.runs.grid import parse_grid
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.stages import BaseStage

OWN_SCALE = "own_scale"  # in what a checkpoint says of itself: see `has_own_scale`


def template_of(stage: BaseStage, runs: int, own_scale: bool) -> PyTree:
    """Shapes of a stage's state for R runs, by way of its ancestors'; see `dummy_shared`."""
    grid = parse_grid("", 1, 0)
    parent = None if stage.parent is None else template_of(stage.parent, runs, own_scale)
    one = stage.make_hparams(grid, stage.runs(grid))
    hp = jax.tree.map(lambda _: jax.ShapeDtypeStruct((runs,), jnp.float32), one)
    return stage.template(hp, parent, dummy_shared(stage.setup, own_scale))


def has_own_scale(state: TrainState) -> bool:
    """Whether the policy of a state has another scale of actions than its environment."""
    return getattr(state.stats.get("normalizer"), "box", None) is not None


def likely_own_scale(setup: Setup) -> bool:
    """Whether a clone of this configuration will have, as far as can be said before there are demonstrations."""
    return setup.env is not None and setup.config.data.scale not in ("auto", "box")


def dummy_shared(setup: Setup, own_scale: bool = False) -> PyTree:
    """Shapes of what cloning stages share, where the data itself is not needed.

    Args:
      setup: of the run.
      own_scale: whether the normaliser has another scale of actions than the environment.
    """
    spec, length = setup.policy_spec, setup.config.chunk.observe

    def make() -> tuple[Windows, Normalizer]:
        integers = jnp.zeros((2,), jnp.int32)
        chunk, mask = jnp.zeros((2, *spec.chunk_shape)), jnp.zeros((2, spec.chunk_len))
        past = jnp.zeros((2, length), jnp.int32) if length > 1 else None
        windows = Windows(setup.obs.dummy(2), chunk, mask, integers, integers, integers, past)
        vectors = {name: jnp.zeros(e.shape) for name, e in spec.obs.entries if e.kind == "vector"}
        bounds, action = spec.obs.joined(vectors), jnp.zeros(spec.action_dim)
        box = (action, action) if own_scale else None
        return windows, Normalizer(bounds, bounds, action, action, box)

    return jax.eval_shape(make)
