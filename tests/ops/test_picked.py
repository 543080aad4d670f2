"""Entries of the last axis and rows of a table against a loop, and their gradients against plain indexing's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.ops.picked import picked, rows
from tests.toys.products import spared

SHAPES = [(), (3,), (4, 2)]


def table_of(shape, event):
    """(values, indices, weights of what is found): a row nobody asks for, and one that most ask for."""
    rng = np.random.default_rng(0)
    index = np.where(rng.random(shape) < 0.5, 2, rng.integers(1, 6, size=shape))
    weight = rng.normal(size=(*shape, *event))
    return (
        jnp.asarray(rng.normal(size=(6, *event)), jnp.float32),
        jnp.asarray(index, jnp.int32),
        jnp.asarray(weight, jnp.float32),
    )


def entries_of(shape):
    rng = np.random.default_rng(0)
    values, index = rng.normal(size=(*shape, 5)), rng.integers(5, size=shape)
    return jnp.asarray(values, jnp.float32), jnp.asarray(index, jnp.int32)


def plain_picked(values, index):
    return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]


def plain_rows(table, index):
    return table[index]


def slope_of(read, values, index, weight):
    return jax.jit(jax.grad(lambda v: (weight * jnp.sin(read(v, index))).sum()))(values)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_entry_for_each_index(shape):
    values, index = entries_of(shape)
    expected = np.array([values[at][index[at]] for at in np.ndindex(shape)]).reshape(shape)
    np.testing.assert_array_equal(picked(values, index), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_entries_is_that_of_indexing(shape):
    values, index = entries_of(shape)
    weight = jnp.arange(1.0, 1.0 + index.size).reshape(shape)
    expected = slope_of(plain_picked, values, index, weight)
    np.testing.assert_array_equal(slope_of(picked, values, index, weight), expected)
    assert np.any(expected)


@pytest.mark.parametrize("event", [(), (3,), (2, 3)])
@pytest.mark.parametrize("shape", [*SHAPES, (500,)])
@spared("shape2*", "shape1*")
def test_rows_and_their_gradient_are_those_of_indexing(shape, event):
    table, index, weight = table_of(shape, event)
    np.testing.assert_array_equal(rows(table, index), table[index])
    found, expected = (slope_of(read, table, index, weight) for read in (rows, plain_rows))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert not np.any(found[0])
    assert np.any(found)


def test_one_table_for_each_run():
    table, index, weight = table_of((7,), (3,))
    tables, indices = jnp.stack([table, 2.0 * table]), jnp.stack([index, index[::-1]])
    for read, plain, values in ((rows, plain_rows, tables), (picked, plain_picked, tables[:, :7, :])):
        own = indices if read is rows else indices[:, :6] % 3
        scale = weight if read is rows else weight[:6, 0]
        found, expected = (
            jax.vmap(lambda v, i, r=r, scale=scale: slope_of(r, v, i, scale))(values, own)
            for r in (read, plain)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("read", [picked, rows])
def test_no_gradient_scatters(read):
    values, index = entries_of((9,)) if read is picked else table_of((9,), (4, 2))[:2]
    step = jax.jit(jax.vmap(jax.grad(lambda v, i: jnp.sin(read(v, i)).sum())))
    lowered = step.lower(values[None], index[None])
    assert "stablehlo.scatter" not in lowered.as_text()
    assert " scatter(" not in lowered.compile().as_text()
    plain = plain_picked if read is picked else plain_rows
    text = jax.jit(jax.grad(lambda v: jnp.sin(plain(v, index)).sum())).lower(values).as_text()
    assert "stablehlo.scatter" in text  # what the others would have shown
