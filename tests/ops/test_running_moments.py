"""Moments of a stream against numpy on all of it at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.ops.running_moments import Moments, merge, moments_of


def test_batches_of_any_size_add_up_to_all_of_them():
    rng = np.random.default_rng(0)
    parts = [
        rng.normal(100.0 + i, 0.1 + i, (n, 2, 3)).astype(np.float32) for i, n in enumerate((1, 7, 40, 3))
    ]
    found = moments_of(jnp.asarray(parts[0]))
    for part in parts[1:]:
        found = jax.jit(merge)(found, moments_of(jnp.asarray(part)))
    rows = np.concatenate([part.reshape(-1, 3) for part in parts]).astype(np.float64)
    assert found.rows == len(rows) == 102
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.variance, rows.var(0), rtol=1e-4)


def test_by_hand():
    """One row at 0 and three at 4: mean 3, variance (9 + 3) / 4 = 3; in shares 3/4 * 1/4 * 16 = 3."""
    found = merge(moments_of(jnp.zeros((1, 1))), moments_of(jnp.full((3, 1), 4.0)))
    np.testing.assert_allclose([*found.mean, *found.variance], [3.0, 3.0])


def test_a_long_stream_forgets_nothing():
    """10^8 rows of N(5, 2^2) and then a batch of 1000 at 5 +- 2: nothing moves by more than rounding."""
    batch = moments_of(jnp.concatenate([jnp.full((500, 1), 3.0), jnp.full((500, 1), 7.0)]))
    found = merge(Moments(jnp.asarray(1e8), jnp.array([5.0]), jnp.array([4.0])), batch)
    np.testing.assert_allclose([*found.mean, *found.variance], [5.0, 4.0], rtol=1e-6)
