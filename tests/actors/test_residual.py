"""The residual: what is not corrected is the reference's chunk bit for bit; densities against scipy."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from tests.actors._chains import build, fresh, moved, observations
from tests.toys.products import spared

ROWS, MODES = 400, 2


def make(**fields):
    """(actor, reference, params that correct, observations, commands)."""
    actor, reference = build("residual", modes=MODES, chunk=(2, 2), **{"scale": 0.2, **fields})
    params = moved(fresh(actor, reference))
    return actor, reference, params, observations(ROWS), jnp.arange(ROWS) % MODES


def key(seed=1):
    return jax.random.key(seed)


def base_of(actor, reference, params, obs, z, key):
    """The reference's chunk of the noise that `act` draws from this key."""
    w, _ = actor.start.draw(params, reference, jax.random.split(key, 3)[0], obs, z)
    return actor.policy.transport(reference, obs, w)


@pytest.mark.parametrize("steered", [True, False])
def test_without_scale_or_share_the_chunk_is_the_references_bit_for_bit(steered):
    """Operation by operation: in two compiled programs the reference's own answers differ in their last bits."""
    for scale, share in ((0.0, None), (0.2, 0.0)):
        actor, reference, params, obs, z = make(scale=scale, steered=steered, ramp=10)
        kept = params if share is None else actor.exploring(params, jnp.asarray(0))
        acted = actor.act(kept, reference, key(), obs, z)[0]
        flat, _ = actor.sample(kept, reference, key(), obs, z)
        base = base_of(actor, reference, kept, obs, z, key())
        np.testing.assert_array_equal(acted, base)
        np.testing.assert_array_equal(flat.reshape(acted.shape), base)
        assert np.std(base) > 0.3
    corrected = actor.exploring(params, jnp.asarray(10))
    assert np.abs(actor.act(corrected, reference, key(), obs, z)[0] - base).max() > 0.05


@pytest.mark.parametrize(
    ("decisions", "share"), [(0, 0.0), (100, 0.25), (300, 0.75), (400, 1.0), (4000, 1.0)]
)
@spared("4000-1.0", "100-0.25")
def test_share_of_corrected_decisions_is_the_ramp(decisions, share):
    """min(n / H, 1) with H = 400, within 5 standard errors; each is corrected whole or not at all."""
    actor, reference, params, obs, z = make(ramp=400)
    exploring = actor.exploring(params, jnp.asarray(decisions))
    chunk, info = jax.jit(actor.act)(exploring, reference, key(2), obs, z)
    on = np.asarray(info["on"])
    assert set(np.unique(on)) <= {0.0, 1.0}
    assert abs(on.mean() - share) <= 5 * math.sqrt(share * (1 - share) / ROWS)
    base = np.asarray(base_of(actor, reference, params, obs, z, key(2)))
    same = np.isclose(chunk, base, atol=1e-6).all((1, 2))
    np.testing.assert_array_equal(same, on == 0)
    ratio = np.asarray(jax.jit(actor.log_ratio)(moved(params, 1), reference, obs, z, info))[:, -1]
    np.testing.assert_array_equal(ratio == 0, on == 0)


def test_without_a_ramp_every_decision_is_corrected():
    actor, reference, params, obs, z = make()
    assert actor.exploring(params, jnp.asarray(0)) is params
    assert (np.asarray(actor.act(params, reference, key(3), obs, z)[1]["on"]) == 1).all()


def moments(actor, params, obs, z, x0=None):
    """(mean, std) of x in float64; the network's own output, the rest by hand."""
    other = jax.nn.one_hot(z, MODES) if x0 is None else jnp.concatenate([jax.nn.one_hot(z, MODES), x0], -1)
    mean = actor.correction.network.apply(params["network"], obs, other)
    return np.asarray(mean, np.float64), np.exp(np.asarray(params["log_std"], np.float64))[np.asarray(z)]


@pytest.mark.parametrize("sees_noise", [False, True])
def test_correction_and_its_density_against_scipy(sees_noise):
    """chunk = base + .2 tanh(x), so at most .2 away; log ratios of x against scipy, given the noise if it is seen."""
    actor, reference, old, obs, z = make(sees_noise=sees_noise)
    chunk, info = jax.jit(actor.act)(old, reference, key(4), obs, z)
    base = np.asarray(base_of(actor, reference, old, obs, z, key(4)), np.float64).reshape(ROWS, 4)
    x = np.asarray(info["x"], np.float64)
    np.testing.assert_allclose(chunk.reshape(ROWS, 4), base + 0.2 * np.tanh(x), atol=1e-5)
    assert np.abs(np.tanh(x)).max() > 0.5
    new = moved(old, 1)
    x0 = info["start"] if sees_noise else None
    before, after = (stats.norm.logpdf(x, *moments(actor, p, obs, z, x0)).sum(1) for p in (old, new))
    found = jax.jit(actor.log_ratio)(new, reference, obs, z, info)
    assert found.shape == (ROWS, 2)  # of the noise first
    np.testing.assert_allclose(found[:, 1], after - before, rtol=1e-3, atol=1e-3)
    mean, std = moments(actor, old, obs, z, x0)
    scaled = (x - mean) / std
    assert abs(scaled.std() - 1) < 5 / math.sqrt(2 * scaled.size)


def test_log_density_of_a_sampled_correction_by_the_change_of_variables():
    """c = .2 tanh(x): log p(c) = log N(x) - sum log(.2 (1 - tanh^2 x)), where the wall is not too near."""
    actor, reference, params, obs, z = make(steered=False)
    flat, log_prob = jax.jit(actor.sample)(params, reference, key(5), obs, z)
    base = np.asarray(base_of(actor, reference, params, obs, z, key(5)), np.float64).reshape(ROWS, 4)
    ratio = (np.asarray(flat, np.float64) - base) / 0.2
    inner = (np.abs(ratio) < 0.9).all(1)
    assert inner.mean() > 0.8
    x = np.arctanh(ratio[inner])
    mean, std = (m[inner] for m in moments(actor, params, obs, z))
    expected = stats.norm.logpdf(x, mean, std).sum(1) - np.log(0.2 * (1 - ratio[inner] ** 2)).sum(1)
    np.testing.assert_allclose(np.asarray(log_prob)[inner], expected, rtol=1e-3, atol=1e-2)


def test_played_it_is_the_mean_correction():
    actor, reference, params, obs, z = make(steered=False)
    played = jax.jit(actor.play)(params, reference, key(6), obs, z)
    w, _ = actor.start.draw(params, reference, key(6), obs, z)
    base = np.asarray(actor.policy.transport(reference, obs, w), np.float64).reshape(ROWS, 4)
    expected = base + 0.2 * np.tanh(moments(actor, params, obs, z)[0])
    np.testing.assert_allclose(played.reshape(ROWS, 4), expected, atol=1e-5)


def test_divergence_is_that_of_the_correction_from_one_of_mean_zero():
    """KL(N(m, s^2) || N(0, s^2)) = m^2 / 2 s^2 for each number; no head, no other part."""
    actor, reference, params, obs, z = make(steered=False)
    mean, std = moments(actor, params, obs, z)
    info = jax.jit(actor.act)(params, reference, key(7), obs, z)[1]
    found = jax.jit(actor.divergence)(params, reference, obs, z, info)
    np.testing.assert_allclose(found, (mean**2 / (2 * std**2)).sum(1), rtol=1e-4, atol=1e-5)


def test_the_reference_receives_no_gradient():
    actor, reference, params, obs, z = make(steered=False)

    def total(reference):
        return actor.sample(params, reference, key(8), obs, z)[0].sum()

    for leaf in jax.tree.leaves(jax.grad(total)(reference)):
        np.testing.assert_array_equal(leaf, 0.0)


def test_refuses_to_correct_nothing():
    with pytest.raises(ConfigError, match="nothing is corrected") as info:
        registry.build("actor", plugin("actor", "residual"), spec=make()[0].spec, policy=None, num_modes=2)
    assert info.value.field == "actor.name"
