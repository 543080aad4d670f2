"""Two leading axes as one."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mmbc_jax.ops.leading_axes import merge_leading


def test_rows_follow_each_other():
    merged = merge_leading({"a": jnp.arange(12).reshape(2, 3, 2), "b": jnp.arange(6).reshape(2, 3)})
    np.testing.assert_array_equal(merged["a"], np.arange(12).reshape(6, 2))
    np.testing.assert_array_equal(merged["b"], np.arange(6))


def test_leaves_without_elements_keep_their_rows():
    """Of size 0, where no axis could be inferred."""
    assert merge_leading(jnp.zeros((2, 3, 0))).shape == (6, 0)
    assert merge_leading(jnp.zeros((2, 0, 4))).shape == (0, 4)
