"""Entries of the last axis against a loop."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.ops.picked import picked


@pytest.mark.parametrize("shape", [(), (3,), (4, 2)])
def test_one_entry_for_each_index(shape):
    rng = np.random.default_rng(0)
    values, index = rng.normal(size=(*shape, 5)).astype(np.float32), np.asarray(rng.integers(5, size=shape))
    expected = np.array([values[at][index[at]] for at in np.ndindex(shape)]).reshape(shape)
    np.testing.assert_array_equal(picked(jnp.asarray(values), jnp.asarray(index, jnp.int32)), expected)
