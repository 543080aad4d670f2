"""Ratios of flow-matching losses against numpy, and what is kept of a decision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.ops.policy_gradient import clipped_surrogate
from tests.actors._chains import build, estimates, fresh, moved, observations

PAIRS = 3


def make(**fields):
    return build("cfm_ratio", chunk=(2, 2), steps=4, samples=PAIRS, **fields)


def losses(params, obs, info, supervise):
    """[B, N] in float64."""
    x1 = np.asarray(info["x1"], np.float64)
    found = []
    for i in range(PAIRS):
        noise, t = (np.asarray(info[name], np.float64)[:, i] for name in ("noise", "time"))
        t = t[:, None, None]
        v, _, start = estimates(params, obs, t * x1 + (1 - t) * noise, t)
        error = v - (x1 - noise) if supervise == "velocity" else start - noise
        found.append(np.square(error).mean((1, 2)))
    return np.minimum(np.stack(found, 1), 20.0)


@pytest.mark.parametrize("semantics", ["fpo", "fpo_pp"])
@pytest.mark.parametrize("supervise", ["velocity", "noise"])
def test_the_loss_comes_out_again_exactly(semantics, supervise):
    """From the stored pairs, in one program: the first ratio is 1 to the last bit."""
    actor, reference = make(semantics=semantics, supervise=supervise, feather=0.1)
    params = moved(fresh(actor, reference))
    obs, z = observations(50), jnp.zeros(50, jnp.int32)

    @jax.jit
    def both(key):
        info = actor.act(params, reference, key, obs, z)[1]
        return actor.log_ratio(params, reference, obs, z, info), info["loss"]

    ratio, loss = both(jax.random.key(2))
    np.testing.assert_array_equal(ratio, np.zeros((50, 1 if semantics == "fpo" else PAIRS)))
    assert loss.std() > 0


@pytest.mark.parametrize("supervise", ["velocity", "noise"])
def test_losses_and_ratios_by_the_formulas(supervise):
    obs, z = observations(50), jnp.zeros(50, jnp.int32)
    for semantics in ("fpo", "fpo_pp"):
        actor, reference = make(semantics=semantics, supervise=supervise)
        old = fresh(actor, reference)
        info = jax.jit(actor.act)(old, reference, jax.random.key(3), obs, z)[1]
        before, new = losses(old, obs, info, supervise), moved(old)
        np.testing.assert_allclose(info["loss"], before, rtol=1e-4, atol=1e-5)
        fall = before - losses(new, obs, info, supervise)
        fall = fall.mean(1, keepdims=True) if semantics == "fpo" else fall
        found = jax.jit(actor.log_ratio)(new, reference, obs, z, info)
        np.testing.assert_allclose(found, fall, rtol=1e-3, atol=1e-4)
        assert np.abs(found).max() > 0.1
        assert actor.surrogate.asymmetric == (semantics == "fpo_pp")


def test_a_loss_counts_as_twenty_at_most():
    """A field that is 100 too fast errs by 100^2."""
    actor, reference = make()
    params, obs, z = fresh(actor, reference), observations(5), jnp.zeros(5, jnp.int32)
    info = jax.jit(actor.act)(params, reference, jax.random.key(4), obs, z)[1]
    own = params["policy"]
    fast = {**params, "policy": {**own, "bias": own["bias"] + 100.0}}
    found = actor.log_ratio(fast, reference, obs, z, info)
    np.testing.assert_allclose(found[:, 0], info["loss"].mean(1) - 20.0, rtol=1e-5)


def test_pairs_are_those_of_the_path():
    """Noise N(0, 1) and times uniform in [0, 1], within 5 standard errors; the chunk is the end of Euler's steps."""
    rows = 2000
    actor, reference = make()
    params, obs, z = fresh(actor, reference), observations(rows), jnp.zeros(rows, jnp.int32)
    key = jax.random.key(5)
    chunk, info = jax.jit(actor.act)(params, reference, key, obs, z)
    noise, time = np.asarray(info["noise"]), np.asarray(info["time"])
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
    assert abs(noise.std() - 1) < 5 / np.sqrt(2 * noise.size)
    assert 0 <= time.min() < time.max() < 1
    assert abs(time.mean() - 0.5) < 5 / np.sqrt(12 * time.size)
    np.testing.assert_array_equal(chunk, info["x1"])
    w, _ = actor.tuned.start.draw(params, reference, jax.random.split(jax.random.clone(key), 4)[0], obs, z)
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=4))
    expected = sampler.integrate(actor.tuned.policy.field(reference, obs), w, None)
    np.testing.assert_allclose(chunk, expected, atol=1e-5)


def test_the_feather_is_added_in_exploring_alone():
    rows = 2000
    actor, reference = make(feather=0.2)
    plain, _ = make()
    params, obs, z = fresh(actor, reference), observations(rows), jnp.zeros(rows, jnp.int32)
    keys = [jax.random.clone(jax.random.key(6)) for _ in range(2)]
    off = [jax.jit(a.act)(params, reference, k, obs, z)[0] for a, k in zip((actor, plain), keys, strict=True)]
    added = np.asarray(off[0] - off[1])
    assert abs(added.std() - 0.2) < 5 * 0.2 / np.sqrt(2 * added.size)
    keys = [jax.random.clone(jax.random.key(7)) for _ in range(2)]
    played = [
        jax.jit(a.play)(params, reference, k, obs, z) for a, k in zip((actor, plain), keys, strict=True)
    ]
    np.testing.assert_array_equal(*played)


def test_asymmetric_surrogate_against_numpy():
    """A >= 0: min(rho A, clip(rho) A). A < 0: rho A - |A| (rho - 1)^2 / (2 eps), which pulls back from outside."""
    rng = np.random.default_rng(0)
    log_ratio, advantage, eps = 0.3 * rng.standard_normal((200, PAIRS)), rng.standard_normal(200), 0.05
    rho, a = np.exp(log_ratio), advantage[:, None]
    clipped = np.minimum(rho * a, np.clip(rho, 1 - eps, 1 + eps) * a)
    expected = -np.where(a < 0, rho * a - np.abs(a) * (rho - 1) ** 2 / (2 * eps), clipped).mean(1)
    given = jnp.asarray(log_ratio, jnp.float32), jnp.asarray(advantage, jnp.float32)
    np.testing.assert_allclose(
        clipped_surrogate(*given, eps, asymmetric=True)[0], expected, rtol=1e-4, atol=1e-5
    )

    def slope(ratio, a):
        return jax.grad(
            lambda x: clipped_surrogate(x[None, None], jnp.full(1, a), eps, asymmetric=True)[0].sum()
        )(jnp.log(ratio))

    # A = -1: d/dlog rho of rho + (rho - 1)^2 / (2 eps) is rho (1 + (rho - 1) / eps), 0 at rho = 1 - eps
    for ratio in (0.9, 0.95, 1.3):
        assert float(slope(jnp.asarray(ratio), -1.0)) == pytest.approx(
            ratio * (1 + (ratio - 1) / eps), abs=1e-5
        )
    assert float(slope(jnp.asarray(1.3), 1.0)) == 0.0


def test_imitation_is_the_loss_on_chunks_of_the_reference():
    """At first it is the loss of what `act` draws, in the mean, within 5 SE; away from there more."""
    actor, reference = make()
    start = fresh(actor, reference)
    obs, z = observations(2000), jnp.zeros(2000, jnp.int32)
    own = np.asarray(jax.jit(actor.act)(start, reference, jax.random.key(8), obs, z)[1]["loss"]).mean(-1)
    imitation = jax.jit(actor.imitation)
    found = np.asarray(imitation(start, reference, jax.random.key(9), obs, z))
    error = np.hypot(own.std(), found.std()) / 2000**0.5
    assert abs(found.mean() - own.mean()) < 5 * error
    assert imitation(moved(start), reference, jax.random.key(9), obs, z).mean() > found.mean() + 5 * error


def test_pairs_are_estimates_of_one_kl():
    """A log ratio of .2 in every pair is e^.2 - 1.2 = .0214 nats, however many; a head's factor adds its own."""
    kl = np.expm1(0.2) - 0.2
    for pairs in (1, 8, 32):
        actor = build("cfm_ratio", chunk=(2, 2), semantics="fpo_pp", samples=pairs)[0]
        share = actor.surrogate.share
        given = jnp.full((10, pairs), 0.2), jnp.ones(10)
        found = clipped_surrogate(*given, 0.05, asymmetric=True, shares=share)[2]
        assert float(found) == pytest.approx(kl, rel=1e-4)
    headed = build("cfm_ratio", modes=3, semantics="fpo_pp", samples=8)[0].surrogate.share
    given = jnp.full((10, 9), 0.2), jnp.ones(10)
    assert float(clipped_surrogate(*given, 0.05, shares=headed)[2]) == pytest.approx(2 * kl, rel=1e-4)
    assert make(semantics="fpo")[0].surrogate.share == ()
