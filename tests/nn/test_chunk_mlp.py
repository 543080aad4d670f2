from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.nn.backbone import bind
from mmbc_jax.nn.chunk_mlp import ChunkMLP
from mmbc_jax.nn.embedding import fourier_features, time_embedding
from mmbc_jax.nn.obs_encoder import ObsEncoder


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "layer_norm"])
def net(request):
    module = ChunkMLP(
        ObsEncoder(ObsSpec.vector(4), 2), (3, 2), (16, 16), layer_norm=request.param, time_dim=8
    )
    init = jax.jit(module.init)
    params = init(jax.random.key(0), jnp.zeros((1, 3, 2)), jnp.zeros(()), jnp.zeros((1, 4)))["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [p + 0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return module, tree.unflatten(moved)


def draw(*batch: int):
    rng = np.random.default_rng(2)
    return rng.standard_normal((*batch, 3, 2), np.float32), rng.uniform(-1, 1, (*batch, 4)).astype(np.float32)


def test_split_first_layer_equals_one_dense_layer_on_everything(net):
    module, params = net
    x, obs = draw(5)
    t = jnp.linspace(0, 1, 5)
    inputs = np.concatenate(
        [x.reshape(5, -1), time_embedding(t, 8), fourier_features(jnp.asarray(obs), 2)], axis=-1
    )
    kernel = np.concatenate([params[k]["kernel"] for k in ("from_x", "from_time", "from_obs")])
    h = inputs @ kernel + params["from_obs"]["bias"]
    if module.layer_norm:
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
        h = h * params["norm"]["scale"] + params["norm"]["bias"]
    h = np.asarray(jax.nn.gelu(h)) @ params["trunk"]["Dense_0"]["kernel"] + params["trunk"]["Dense_0"]["bias"]
    if module.layer_norm:
        norm = params["trunk"]["LayerNorm_0"]
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
        h = h * norm["scale"] + norm["bias"]
    out = (
        np.asarray(jax.nn.gelu(h)) @ params["trunk"]["Dense_1"]["kernel"] + params["trunk"]["Dense_1"]["bias"]
    )
    result = module.apply({"params": params}, x, t, obs)
    np.testing.assert_allclose(result, np.asarray(out).reshape(5, 3, 2), rtol=1e-4, atol=1e-4)


def test_scalar_time_equals_the_same_time_per_example(net):
    module, params = net
    x, obs = draw(4)
    one = module.apply({"params": params}, x, jnp.array(0.3), obs)
    many = module.apply({"params": params}, x, jnp.full((4,), 0.3), obs)
    np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-5)


def test_bound_field_equals_the_call_for_any_leading_dims(net):
    module, params = net
    x, obs = draw(2, 3)
    t = jnp.array(0.7)
    full = module.apply({"params": params}, x, t, obs)
    assert full.shape == (2, 3, 3, 2)
    np.testing.assert_allclose(bind(module, params, obs)(x, t), full, rtol=1e-5, atol=1e-5)
    single = bind(module, params, obs[1, 2])(x[1, 2], t)
    np.testing.assert_allclose(single, full[1, 2], rtol=1e-4, atol=1e-5)


def test_output_depends_on_each_input(net):
    module, params = net
    x, obs = draw(1)
    t = jnp.array([0.4])

    def total(x, t, obs):
        return (module.apply({"params": params}, x, t, obs) ** 2).sum()

    for gradient in jax.jit(jax.grad(total, argnums=(0, 1, 2)))(x, t, obs):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).min() > 0


def test_untrained_field_is_zero():
    module = ChunkMLP(ObsEncoder(ObsSpec.vector(4), 4), (3, 2), (8,), time_dim=4)
    x, obs = draw(2)
    params = jax.jit(module.init)(jax.random.key(0), x, jnp.zeros(()), obs)
    np.testing.assert_array_equal(module.apply(params, x, jnp.array(0.5), obs), 0.0)
