"""The denoising chain against its own formulas in float64, against the samplers, and against quadrature."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.actors.denoise import published
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from tests.actors._chains import build, estimates, fresh, log_normal, moved, observations
from tests.toys.products import spared

ROWS = 2000


def drawn(actor, params, reference, obs, seed=1):
    z = jnp.zeros(len(obs), jnp.int32)
    return jax.jit(actor.act)(params, reference, jax.random.key(seed), obs, z)


def ancestral(x, data, t, s):
    """(mean, std) of q(x_s | x_t, x1 = data) for x_t = t x1 + (1 - t) x0, by the product of two Gaussians.

    Of x_s before x_t is seen: N(s data, (1 - s)^2). x_t given x_s: N(r x_s, (1 - t)^2 - r^2 (1 - s)^2), r = t / s.
    """
    if s == 1.0:
        return data, 0.0
    r = t / s
    rest = (1 - t) ** 2 - r**2 * (1 - s) ** 2
    precision = 1 / (1 - s) ** 2 + r**2 / rest
    return (s * data / (1 - s) ** 2 + r * x / rest) / precision, precision**-0.5


def step_of(chain, eta, params, obs, x, t, s):
    """(mean, the sampler's std) of a step."""
    _, data, noise = estimates(params, obs, x, t)
    mean, std = ancestral(x, data, t, s)
    if chain == "ddpm":
        return mean, std
    return s * data + math.sqrt(max((1 - s) ** 2 - (eta * std) ** 2, 0.0)) * noise, eta * std


@pytest.mark.parametrize(("chain", "eta"), [("ddpm", 0.0), ("ddim", 0.0), ("ddim", 0.7)])
def test_likelihood_of_a_chain_by_the_formulas(chain, eta):
    """Each step's log density is that of a Gaussian of the stated mean, its std not below the floor of .15."""
    actor, reference = build(
        "denoise", chunk=(2, 2), steps=4, trained=3, chain=chain, eta=eta, min_std=0.1, density_min_std=0.15
    )
    obs = observations(50)
    params = moved(fresh(actor, reference))
    chunk, info = drawn(actor, params, reference, obs)
    points = np.asarray(info["points"], np.float64)
    assert points.shape == (50, 4, 2, 2)
    np.testing.assert_array_equal(points[:, -1], np.asarray(chunk, np.float64))
    for i in range(3):
        mean, std = step_of(chain, eta, params, obs, points[:, i], (i + 1) / 4, (i + 2) / 4)
        expected = log_normal(points[:, i + 1], mean, max(std, 0.15)).sum((1, 2))
        np.testing.assert_allclose(info["log_prob"][:, i], expected, rtol=2e-4, atol=2e-3)
        scaled = (points[:, i + 1] - mean) / max(std, 0.1)  # drawn with the other floor
        assert abs(scaled.std() - 1) < 5 / math.sqrt(2 * scaled.size)


@pytest.mark.parametrize("chain", ["ddpm", "ddim"])
def test_density_of_the_chunk_is_the_integral_over_the_way_there(chain):
    """H = A = 1, K = 2: p(a) is the double integral of the Gaussian steps, on a grid; shares of bins within 5 SE."""
    rows = 20_000
    actor, reference = build("denoise", steps=2, trained=2, chain=chain, eta=0.5, min_std=0.1)
    params, obs = moved(fresh(actor, reference)), jnp.zeros((rows, 2))
    chunk = np.asarray(drawn(actor, params, reference, obs)[0])[:, 0, 0]
    grid = np.linspace(-5, 5, 1001)
    width, one = grid[1] - grid[0], grid.reshape(-1, 1, 1)
    density = stats.norm.pdf(grid)
    for t, s in ((0.0, 0.5), (0.5, 1.0)):
        mean, std = step_of(chain, 0.5, params, np.zeros((1001, 2)), one, t, s)
        kernel = stats.norm.pdf(grid[None, :], mean[:, :, 0], max(std, 0.1))
        density = (density @ kernel) * width
    assert density.sum() * width == pytest.approx(1.0, abs=1e-6)
    for edge in np.arange(-0.5, 1.01, 0.25):
        share, wanted = (chunk <= edge).mean(), np.interp(edge, grid + width / 2, np.cumsum(density) * width)
        assert abs(share - wanted) < 5 * math.sqrt(wanted * (1 - wanted) / rows)


@pytest.mark.parametrize("trained", [4, 2])
@pytest.mark.parametrize(("chain", "eta"), [("ddpm", 0.0), ("ddim", 0.7)])
@spared("ddpm-0.0-4", "ddim-0.7-2")
def test_untrained_it_is_the_sampler(chain, eta, trained):
    """With the same noise the chain's chunk is that of samplers/ddpm with the same floor, or of samplers/ddim.

    Both run in float32 over four steps; DDIM has no floor, so that of the chain is 1e-6, less than rounding.
    """
    floor = 0.1 if chain == "ddpm" else 1e-6
    fields = {"chain": chain, "eta": eta, "min_std": floor, "steps": 4, "trained": trained}
    actor, reference = build("denoise", chunk=(2, 2), **fields)
    obs, key = observations(ROWS), jax.random.key(1)
    params = fresh(actor, reference)
    chunk, info = drawn(actor, params, reference, obs)
    key_start, key_path = jax.random.split(key)
    w, _ = actor.tuned.start.draw(params, reference, key_start, obs, jnp.zeros(ROWS, jnp.int32))
    noise = jax.random.normal(key_path, (4, ROWS, 2, 2))
    settings = {"min_std": floor} if chain == "ddpm" else {"eta": eta}
    sampler = registry.build("sampler", plugin("sampler", chain, steps=4, **settings))
    field = actor.tuned.policy.field(reference, obs)
    expected = jax.jit(sampler.integrate, static_argnums=0)(field, w, jnp.moveaxis(noise, 0, -3))
    np.testing.assert_allclose(chunk, expected, atol=1e-5)
    visited = sampler.trace(field, w, jnp.moveaxis(noise, 0, -3))
    np.testing.assert_allclose(info["points"], jnp.moveaxis(visited[4 - trained :], 0, 1), atol=1e-5)
    assert np.std(chunk) > 0.3


def test_played_the_floor_is_gone():
    """DDIM then is the deterministic sampler; ancestral sampling keeps its own noise, of which the last has none."""
    obs, z = observations(200), jnp.zeros(200, jnp.int32)
    for chain in ("ddpm", "ddim"):
        actor, reference = build(
            "denoise", chunk=(2, 2), steps=4, trained=2, chain=chain, eta=0.7, min_std=0.3
        )
        params, key = fresh(actor, reference), jax.random.key(3)
        played = jax.jit(actor.play)(params, reference, key, obs, z)
        key_start, key_path = jax.random.split(jax.random.clone(key))
        w, _ = actor.tuned.start.draw(params, reference, key_start, obs, z)
        settings = {} if chain == "ddpm" else {"eta": 0.0}
        sampler = registry.build("sampler", plugin("sampler", chain, steps=4, **settings))
        noise = jnp.moveaxis(jax.random.normal(key_path, (4, 200, 2, 2)), 0, -3)
        expected = sampler.integrate(actor.tuned.policy.field(reference, obs), w, noise)
        np.testing.assert_allclose(played, expected, atol=1e-5)


def surrogate(head=False, **fields):
    actor, _ = build("denoise", modes=2 if head else 1, **{"steps": 3, "trained": 3, **fields})
    return actor.surrogate


def test_the_last_step_weighs_one():
    """.9^2, .9, 1 at gamma .9; the noise of a head comes one step before: .9^3."""
    np.testing.assert_allclose(surrogate(gamma_denoise=0.9).weight, [0.81, 0.9, 1.0])
    np.testing.assert_allclose(surrogate(True, gamma_denoise=0.9).weight, [0.729, 0.81, 0.9, 1.0])
    assert surrogate(gamma_denoise=0.9, trained=1).weight == (1.0,)


def test_the_clip_grows_exponentially():
    """Half way from .1 to 1 at rate 3 it is .1 + .9 (e^1.5 - 1) / (e^3 - 1) = .1 + .9 x 3.48169 / 19.08554."""
    np.testing.assert_allclose(surrogate(clip_start=0.1).clip, [0.1, 0.264184, 1.0], rtol=1e-5)
    np.testing.assert_allclose(surrogate(True, clip_start=0.1).clip, [0.1, 0.1, 0.264184, 1.0], rtol=1e-5)
    assert surrogate(clip_start=0.1, trained=1).clip == (1.0,)  # the published schedule is 0 / 0 here


def test_published_ratio():
    """Of log densities -7, 3, 0 and 1 the clamped are -5, 2, 0 and 1, whose mean is -1/2."""
    each = jnp.array([[[[-7.0, 3.0], [0.0, 1.0]]]])
    np.testing.assert_allclose(published(each), [[-0.5]])
    both = []
    for semantics in ("exact", "published"):
        actor, reference = build("denoise", chunk=(2, 2), steps=3, trained=2, semantics=semantics)
        old, obs = fresh(actor, reference), observations(20)
        info = drawn(actor, old, reference, obs)[1]
        new, z = moved(old), jnp.zeros(20, jnp.int32)
        both.append(np.asarray(jax.jit(actor.log_ratio)(new, reference, obs, z, info)))
        points = np.asarray(info["points"], np.float64)
        for i in range(2):
            steps = [step_of("ddim", 0.0, p, obs, points[:, i], (i + 1) / 3, (i + 2) / 3) for p in (old, new)]
            before, after = (log_normal(points[:, i + 1], mean, 0.1) for mean, _ in steps)
            if semantics == "published":
                expected = (np.clip(after, -5, 2) - np.clip(before, -5, 2)).mean((1, 2))
            else:
                expected = (after - before).sum((1, 2))
            np.testing.assert_allclose(both[-1][:, i], expected, rtol=2e-3, atol=2e-3)
    assert np.abs(both[0]).mean() > 4 * np.abs(both[1]).mean()  # four numbers a step, and a clamp


def test_divergence_is_the_mean_log_ratio_to_the_reference():
    """E[log p - log p_ref] over chains of the actor is E[divergence], within 5 SE of the difference."""
    actor, reference = build("denoise", chunk=(2, 1), steps=3, trained=3, chain="ddpm")
    start, obs, z = fresh(actor, reference), observations(ROWS), jnp.zeros(ROWS, jnp.int32)
    params = moved(start, by=0.1)
    info = drawn(actor, params, reference, obs)[1]
    found = np.asarray(jax.jit(actor.divergence)(params, reference, obs, z, info), np.float64)
    sampled = -np.asarray(jax.jit(actor.log_ratio)(start, reference, obs, z, info), np.float64).sum(-1)
    gap = sampled - found
    assert abs(gap.mean()) < 5 * gap.std() / math.sqrt(ROWS)
    assert found.mean() > 10 * gap.std() / math.sqrt(ROWS)
    np.testing.assert_array_equal(actor.divergence(start, reference, obs, z, info), 0.0)


def test_imitation_is_the_cross_entropy_of_the_references_chains():
    """-E log p: the entropy at first; then that and KL(ref || actor), by Gaussians of one std, within 5 SE.

    KL of a step is |m - m_ref|^2 / (2 sigma^2), at the points that the reference comes to.
    """
    actor, reference = build("denoise", chunk=(2, 1), steps=3, trained=2, chain="ddim")
    start, obs, z = fresh(actor, reference), observations(ROWS), jnp.zeros(ROWS, jnp.int32)
    params, imitation = moved(start, by=0.25), jax.jit(actor.imitation)
    info = drawn(actor, start, reference, obs, seed=2)[1]
    entropy = 2 * 2 * (math.log(0.1) + 0.5 * math.log(2 * math.pi * math.e))
    apart = np.asarray(jax.jit(actor.divergence)(params, reference, obs, z, info), np.float64)
    for at, expected in ((start, np.full(ROWS, entropy)), (params, entropy + apart)):
        found = np.asarray(imitation(at, reference, jax.random.key(3), obs, z), np.float64)
        assert abs(found.mean() - expected.mean()) < 5 * math.hypot(found.std(), expected.std()) / ROWS**0.5
    assert apart.mean() > 1.0  # nats: not a thing that the error hides


def test_more_steps_are_trained_than_there_are():
    with pytest.raises(ConfigError, match="at most steps = 3") as info:
        build("denoise", steps=3, trained=4)
    assert info.value.field == "actor.trained"
