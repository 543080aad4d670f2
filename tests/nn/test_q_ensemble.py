"""The ensemble against NumPy head by head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.nn.q_ensemble import QEnsemble


def inputs(leading=(4,)):
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.normal(size=(*leading, 5)), jnp.float32),
        jnp.asarray(rng.normal(size=(*leading, 3, 2)), jnp.float32),
        jnp.asarray(rng.integers(0, 3, leading), jnp.int32),
        jnp.asarray(rng.random(leading), jnp.float32),
    )


def by_hand(params, features, action, z, time, layer_norm):
    """One head: features, the flattened chunk, one-hot z and the time through dense layers with ReLU."""
    parts = (features, np.reshape(action, (len(features), -1)), np.eye(3)[np.asarray(z)], time[:, None])
    h = np.concatenate(parts, -1, dtype=np.float64)
    for i in range(2):
        h = h @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]
        if layer_norm:
            h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
            h = h * params[f"LayerNorm_{i}"]["scale"] + params[f"LayerNorm_{i}"]["bias"]
        h = np.maximum(h, 0)
    return (h @ params["Dense_2"]["kernel"] + params["Dense_2"]["bias"])[:, 0]


@pytest.mark.parametrize("layer_norm", [False, True])
def test_every_head_against_numpy(layer_norm):
    module = QEnsemble((8, 6), 3, heads=4, activation="relu", layer_norm=layer_norm)
    params = jax.tree.map(lambda p: p + 0.1, jax.jit(module.init)(jax.random.key(0), *inputs()))
    found = jax.jit(module.apply)(params, *inputs())
    assert found.shape == (4, 4)
    ((_, stacked),) = params["params"].items()
    for j in range(4):
        head = jax.tree.map(lambda p, j=j: np.asarray(p[j], np.float64), stacked)
        np.testing.assert_allclose(found[j], by_hand(head, *inputs(), layer_norm), rtol=1e-4, atol=1e-5)


def test_heads_start_apart_and_learn_apart():
    """The gradient of head 0 leaves the parameters of head 1 alone."""
    module = QEnsemble((8,), 3)
    params = jax.jit(module.init)(jax.random.key(1), *inputs())
    q = jax.jit(module.apply)(params, *inputs())
    assert q.shape == (2, 4)
    assert np.abs(q[0] - q[1]).min() > 1e-3
    slope = jax.grad(lambda p: module.apply(p, *inputs())[0].sum())(params)
    sizes = [np.abs(leaf).reshape(2, -1).max(1) for leaf in map(np.asarray, jax.tree.leaves(slope))]
    assert all(own > 0 and other == 0 for own, other in sizes)


def test_leading_axes_and_flat_actions():
    module = QEnsemble((8,), 3, heads=3, activation="silu")
    features, action, z, time = inputs((2, 4))
    params = jax.jit(module.init)(jax.random.key(2), features, action, z, time)
    q = jax.jit(module.apply)(params, features, action, z, time)
    assert q.shape == (3, 2, 4)
    flat = jax.jit(module.apply)(params, features, action.reshape(2, 4, 6), z, time)
    np.testing.assert_array_equal(q, flat)
    single = jax.jit(module.apply)(params, *(x[1, 2] for x in (features, action, z, time)))
    np.testing.assert_allclose(q[:, 1, 2], single, atol=1e-5)


@pytest.mark.parametrize("position", range(4))
def test_every_input_counts(position):
    """Shifting one input in one row moves that row's values and no other's."""
    module = QEnsemble((8,), 3)
    given = list(inputs())
    params = jax.jit(module.init)(jax.random.key(3), *given)
    before = np.asarray(jax.jit(module.apply)(params, *given))
    moved = (given[2][1] + 1) % 3 if position == 2 else given[position][1] + 0.5
    given[position] = given[position].at[1].set(moved)
    difference = np.abs(np.asarray(jax.jit(module.apply)(params, *given)) - before)
    assert (difference[:, 1] > 1e-4).all()
    np.testing.assert_array_equal(np.delete(difference, 1, axis=1), 0.0)


def test_the_action_has_a_gradient():
    """What the actor climbs: dQ/dw is there and of the action's shape."""
    features, action, z, time = inputs()
    module = QEnsemble((8,), 3)
    params = jax.jit(module.init)(jax.random.key(4), features, action, z, time)
    slope = jax.grad(lambda w: jax.jit(module.apply)(params, features, w, z, time).min(0).sum())(action)
    assert slope.shape == action.shape
    assert (np.abs(slope).max((1, 2)) > 1e-4).all()
