"""The Gaussian actor against scipy; ratios by step and of the chunk."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.ops.policy_gradient import clipped_surrogate

SPEC = PolicySpec(obs_dim=2, action_dim=2, chunk_len=3)
MODES, ROWS = 2, 40


def build(**fields):
    cfg = plugin("actor", "gaussian", **{"hidden": (8,), **fields})
    return registry.build("actor", cfg, spec=SPEC, policy=None, num_modes=MODES)


def fresh(actor, seed=0):
    """Parameters whose mean and spread differ by mode."""
    params = jax.jit(lambda key: actor.init(key, None))(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), params)


def data():
    rng = np.random.default_rng(1)
    obs = jnp.asarray(rng.uniform(-1, 1, (ROWS, 2)), jnp.float32)
    return obs, jnp.asarray(rng.integers(0, MODES, ROWS), jnp.int32)


def moments(params, obs, z):
    """Mean and standard deviation by the MLP's formula, silu between the layers, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = np.concatenate([np.asarray(obs, np.float64), np.eye(MODES)[np.asarray(z)]], -1)
    first, last = p["network"]["params"]["Dense_0"], p["network"]["params"]["Dense_1"]
    h = x @ first["kernel"] + first["bias"]
    return (h / (1 + np.exp(-h))) @ last["kernel"] + last["bias"], np.exp(p["log_std"][np.asarray(z)])


def test_starts_at_zero_with_the_configured_spread():
    actor = build(init_std=0.25)
    params = jax.jit(lambda key: actor.init(key, None))(jax.random.key(0))
    obs, z = data()
    chunk, info = jax.jit(actor.act)(params, None, jax.random.key(1), obs, z)
    assert chunk.shape == (ROWS, 3, 2)
    np.testing.assert_allclose(np.std(info["x"]), 0.25, rtol=5 / np.sqrt(2 * ROWS * 6))
    np.testing.assert_allclose(
        actor.entropy(params, None, obs, z), 6 * stats.norm.entropy(scale=0.25), rtol=1e-5
    )


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("ratio", ["joint", "step"])
def test_ratios_match_scipy(squash, ratio):
    actor = build(squash=squash, ratio=ratio)
    old, new = fresh(actor, 0), fresh(actor, 1)
    obs, z = data()
    chunk, info = jax.jit(actor.act)(old, None, jax.random.key(2), obs, z)
    x = np.asarray(info["x"], np.float64)
    np.testing.assert_allclose(chunk.reshape(ROWS, 6), np.tanh(x) if squash else x, rtol=1e-5, atol=1e-6)
    each = [stats.norm.logpdf(x, *moments(p, obs, z)).reshape(ROWS, 3, 2) for p in (old, new)]
    expected = (each[1] - each[0]).sum(-1)
    expected = expected if ratio == "step" else expected.sum(-1, keepdims=True)
    found = jax.jit(actor.log_ratio)(new, None, obs, z, info)
    assert found.shape == (ROWS, 3 if ratio == "step" else 1)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert np.abs(expected).max() > 1


def test_a_clip_by_step_lets_the_other_steps_go_on():
    """Ratio 2 in one step and 1 in two, A = 1, clip .2: min gives 1.2, 1, 1, and no slope in the first alone.

    The joint ratio is 2 as well, so that its clip stops all three.
    """
    log_ratio = jnp.log(jnp.array([[2.0, 1.0, 1.0]]))
    slope = jax.grad(lambda x: clipped_surrogate(x, jnp.ones(1), 0.2)[0].sum())
    np.testing.assert_allclose(slope(log_ratio), [[0.0, -1 / 3, -1 / 3]], rtol=1e-6)

    def joint(x):
        return clipped_surrogate(x.sum(-1, keepdims=True), jnp.ones(1), 0.2)[0].sum()

    np.testing.assert_array_equal(jax.grad(joint)(log_ratio), [[0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("field", "value"),
    [("activation", "tan"), ("fourier_octaves", -1), ("init_std", 0.0), ("ratio", "each"), ("hidden", (0,))],
)
def test_refuses_what_cannot_work(field, value):
    with pytest.raises(ConfigError) as info:
        build(**{field: value})
    assert info.value.field == f"actor.{field}"
