"""Spreading a batch: nothing without a mesh."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mmbc_jax.core.sharding import spread


def test_without_a_mesh_a_tree_is_returned_as_it_is():
    tree = {"a": jnp.ones((3, 2)), "key": jax.random.split(jax.random.key(0), 3)}
    assert spread(tree) is tree

    def step(rows):
        return spread(rows, axis=1) * 2.0

    text = jax.jit(step).lower(jnp.ones((3, 2))).as_text()
    assert "sharding" not in text
