"""Vectors of parameters and moments: there and back, and the same step of the optimiser."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmbc_jax.learners._flat import Flat
from mmbc_jax.learners._optim import optimizer

TREES = {
    "tree": {"w": (5, 3), "b": [(3,), ()], "none": {}},
    "scalar": (),
    "vector": (4,),
    "empty": {},
}


def draw(shapes, seed):
    rng = np.random.default_rng(seed)
    made = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    return jax.tree.map(made, shapes, is_leaf=lambda x: isinstance(x, tuple))


@pytest.mark.parametrize("name", TREES)
def test_there_and_back(name):
    """The state of an optimiser, whose counters stay as they are between the moments."""
    params = draw(TREES[name], 0)
    tx, flat = optimizer(0.1, 0.0, 1.0), Flat.like(params)
    _, state = tx.update(draw(TREES[name], 1), tx.init(params), params)
    packed = flat.pack(state)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert [leaf.size for leaf in jax.tree.leaves(packed) if leaf.ndim] == [numbers, numbers]
    assert jax.tree.structure(flat.unpack(packed)) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, flat.unpack(packed), state)
    jax.tree.map(np.testing.assert_array_equal, flat.unpack(flat.pack(params)), params)


@pytest.mark.parametrize("clip", [1e9, 0.5])
def test_steps_on_vectors_are_those_on_trees(clip):
    """But for the order in which the norm is added up; a gradient that is not finite is skipped alike."""
    params = draw(TREES["tree"], 0)
    tx, flat = optimizer(0.01, 0.1, clip), Flat.like(params)
    vector, trees, vectors = flat.pack(params), tx.init(params), flat.pack(tx.init(params))
    for seed in range(1, 5):
        grads = draw(TREES["tree"], seed)
        grads["b"][1] += np.nan if seed == 3 else 0.0
        updates, trees = tx.update(grads, trees, params)
        params = optax.apply_updates(params, updates)
        updates, vectors = tx.update(flat.pack(grads), vectors, vector)
        vector = optax.apply_updates(vector, updates)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # noqa: E731
    jax.tree.map(close, (flat.unpack(vector), flat.unpack(vectors)), (params, trees))
    assert vectors.total_notfinite == 1
