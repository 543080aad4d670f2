from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.nn.mlp import ACTIVATIONS, MLP, BoundedDense, mish


def test_mish_golden_value():
    # softplus(1) = 1.3132617, tanh of it .8650984
    np.testing.assert_allclose(mish(jnp.array(1.0)), 0.8650984, rtol=1e-6)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_mlp_against_numpy(layer_norm, residual):
    module = MLP((6, 6), 3, "relu", layer_norm=layer_norm, residual=residual)
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    params = module.init(jax.random.key(0), x)["params"]
    noise = jax.tree.map(lambda p: p + 0.1, params)

    h = x
    for i in range(2):
        dense = noise[f"Dense_{i}"]
        y = h @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
        if layer_norm:
            norm = noise[f"LayerNorm_{i}"]
            y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
            y = y * np.asarray(norm["scale"]) + np.asarray(norm["bias"])
        y = np.maximum(y, 0)
        h = h + y if residual and i == 1 else y
    expected = h @ np.asarray(noise["Dense_2"]["kernel"]) + np.asarray(noise["Dense_2"]["bias"])
    np.testing.assert_allclose(module.apply({"params": noise}, x), expected, atol=2e-5)


def test_zero_last_starts_at_zero_but_learns():
    module = MLP((8,), 2, zero_last=True)
    x = jnp.ones((3, 4))
    params = module.init(jax.random.key(0), x)["params"]
    np.testing.assert_array_equal(module.apply({"params": params}, x), 0.0)
    gradient = jax.grad(lambda p: jnp.sum((module.apply({"params": p}, x) - 1.0) ** 2))(params)
    assert np.abs(gradient["Dense_1"]["kernel"]).max() > 0


def test_no_hidden_layer_is_linear():
    module = MLP((), 2)
    params = module.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
    assert list(params) == ["Dense_0"]
    a, b = (
        module.apply({"params": params}, jnp.ones((1, 3))),
        module.apply({"params": params}, 2 * jnp.ones(3)),
    )
    np.testing.assert_allclose(2 * a[0], b, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_is_finite_far_out(name):
    x = jnp.array([-80.0, -1.0, 0.0, 1.0, 80.0])
    assert np.isfinite(ACTIVATIONS[name](x)).all()
    assert np.isfinite(jax.vmap(jax.grad(ACTIVATIONS[name]))(x)).all()


def test_bounded_layers_stay_within_their_spectral_norm():
    layer = BoundedDense(7, 0.5)
    x = jax.random.normal(jax.random.key(0), (5, 9))
    params = layer.init(jax.random.key(1), x)["params"]
    params = {**params, "kernel": 10.0 * params["kernel"]}
    slope = np.asarray(jax.jacobian(lambda v: layer.apply({"params": params}, v))(x[0]))
    assert 0.1 < np.linalg.norm(slope, 2) <= 0.5
    # a kernel that is within the bound already is left alone: one entry .3 has norm .3
    small = {"kernel": jnp.zeros((9, 7)).at[2, 3].set(0.3), "bias": jnp.zeros(7)}
    np.testing.assert_allclose(layer.apply({"params": small}, x)[:, 3], 0.3 * x[:, 2], rtol=1e-6)


def test_a_bounded_layer_of_zeros_has_the_gradient_of_a_dense_layer():
    x = jax.random.normal(jax.random.key(0), (5, 9))
    params = {"kernel": jnp.zeros((9, 7)), "bias": jnp.zeros(7)}
    slope = jax.grad(lambda p: jnp.square(BoundedDense(7, 0.5).apply({"params": p}, x) - 1.0).sum())(params)
    # d/dW |x W + b - 1|^2 at W = 0, b = 0 is -2 x^T 1
    np.testing.assert_allclose(slope["kernel"], -2.0 * np.asarray(x).T @ np.ones((5, 7)), rtol=1e-5)


def test_a_bounded_network_is_certified_by_the_product_of_its_layers():
    network = MLP((16, 16), 4, activation="relu", spectral_norm=2.0)
    x = jax.random.normal(jax.random.key(2), (200, 3))
    params = network.init(jax.random.key(3), x)
    params = jax.tree.map(lambda p: 5.0 * p, params)
    y = np.asarray(network.apply(params, x))
    steps = np.linalg.norm(np.diff(y, axis=0), axis=1) / np.linalg.norm(
        np.diff(np.asarray(x), axis=0), axis=1
    )
    assert 0.0 < steps.max() <= 2.0**3
