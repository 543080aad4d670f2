"""Every prior in the folder: shapes, normalisation, samples against the density, and training by its loss."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import chex
import distrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.types import PolicySpec
from tests.toys.products import spared, sparing

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)
NAMES = sorted(registry.available("prior"))
ONE_NETWORK = ("categorical", "conditional", "spline")  # condition as `conditional_mixture` does


@functools.cache
def make(name: str, event_shape: tuple[int, ...]):
    """A prior, with parameters moved off the zeros that make most untrained ones N(0, I) or uniform."""
    cfg = plugin("prior", name)
    if "hidden" in cfg:
        cfg.hidden = (32, 32)
    prior = registry.build("prior", cfg, event_shape, spec=SPEC)
    rng = np.random.default_rng(0)
    fresh = jax.jit(prior.init)(jax.random.key(0))
    return prior, jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape, np.float32), fresh)


def toy_posterior(event_shape):
    """A posterior for priors that are made of one: centred on 2 (mean of the chunk) + the first observation."""

    def posterior(obs, chunk):
        first = jax.tree.leaves(obs)[0]
        first = first.reshape(*chunk.shape[:-2], -1)[..., 0]
        centre = 2.0 * chunk.mean((-2, -1)) + first
        mean = jnp.broadcast_to(
            centre.reshape(*centre.shape, *(1,) * len(event_shape)), (*centre.shape, *event_shape)
        )
        return distrax.Independent(distrax.Normal(mean, jnp.full_like(mean, 0.6)), len(event_shape))

    return posterior


def distribution(prior, params, obs):
    return prior.distribution(
        params, obs, toy_posterior(prior.event_shape) if prior.needs_posterior else None
    )


def skip_if_discrete(name: str) -> None:
    if make(name, (1, 1))[0].discrete:
        pytest.skip("a mass function over codes: its probabilities are enumerated in a test of their own")


def built(name, spec, event_shape=(2,), **fields):
    """A small prior for a spec, with the fields that its plug-in has."""
    cfg = plugin("prior", name)
    cfg.update({key: value for key, value in ({"hidden": (32, 32)} | fields).items() if key in cfg})
    return registry.build("prior", cfg, event_shape, spec=spec)


def perturbed(prior):
    rng = np.random.default_rng(0)
    fresh = jax.jit(prior.init)(jax.random.key(0))
    return jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape, np.float32), fresh)


def answers(prior, params, obs):
    """Samples, with more of them in front, their log-probabilities and losses at observations."""

    @jax.jit
    def of(params, obs):
        base = distribution(prior, params, obs)
        w, many = base.sample(seed=jax.random.key(1)), base.sample(seed=jax.random.key(2), sample_shape=(4,))
        posterior = toy_posterior(prior.event_shape) if prior.needs_posterior else None
        loss = prior.loss(params, jax.random.key(3), obs, w, posterior)
        return w, many, base.log_prob(w), loss

    return of(params, obs)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_the_configured_one(name):
    prior = built(name, SPEC)
    assert prior.name == name
    assert dataclasses.replace(prior, options=prior.options.replace(name="")).name == name
    assert (
        dataclasses.replace(prior, options=prior.options.replace(name="out.side:prior")).name
        == "out.side:prior"
    )


@pytest.mark.parametrize("name", sparing(NAMES, slow=ONE_NETWORK))
@spared("latent_flow")
def test_entries_are_seen_as_one_vector(name):
    # without octaves an observation of two entries has the features of the vector of both, one after the other
    entries = ObsSpec.of({"arm": ObsEntry((1,)), "goal": ObsEntry((2,))})
    plain = built(name, SPEC, fourier_octaves=0)
    named = built(name, dataclasses.replace(SPEC, obs=entries), fourier_octaves=0)
    params = perturbed(plain)
    chex.assert_trees_all_equal(params, perturbed(named))
    obs = jax.random.uniform(jax.random.key(4), (2, 5, 3), minval=-1, maxval=1)
    both = {"arm": obs[..., :1], "goal": obs[..., 1:]}
    chex.assert_trees_all_equal(answers(plain, params, obs), answers(named, params, both))


@pytest.mark.parametrize("name", sparing(NAMES, slow=(*ONE_NETWORK, "latent_flow")))
@spared("conditional_mixture")
def test_octaves_of_entries_are_looked_at(name):
    entries = ObsSpec.of({"arm": ObsEntry((1,)), "goal": ObsEntry((2,))})
    prior = built(name, dataclasses.replace(SPEC, obs=entries))
    params = perturbed(prior)
    assert "encoder" not in params
    obs = {"arm": jnp.full((6, 1), 0.3), "goal": jnp.full((6, 2), -0.2)}
    w, many, log_prob, loss = answers(prior, params, obs)
    assert (w.shape, many.shape, log_prob.shape, loss.shape) == ((6, 2), (4, 6, 2), (6,), (6,))
    moved = answers(prior, params, {**obs, "goal": jnp.full((6, 2), 0.7)})[2]
    # the posterior of these tests looks at the first entry alone
    follows = prior.trainable and not prior.needs_posterior
    assert np.array_equal(log_prob, moved) != follows


@pytest.mark.parametrize("name", sparing(NAMES, slow=(*ONE_NETWORK, "latent_flow")))
@spared("conditional_mixture")
def test_images_alone(name):
    prior = built(name, PolicySpec(0, 2, 4, ObsSpec.of({"camera": ObsEntry((8, 8, 3), "image")})))
    params = perturbed(prior)
    obs = {"camera": jax.random.randint(jax.random.key(5), (6, 8, 8, 3), 0, 256).astype(jnp.uint8)}
    w, many, log_prob, loss = answers(prior, params, obs)
    assert (w.shape, many.shape, log_prob.shape, loss.shape) == ((6, 2), (4, 6, 2), (6,), (6,))
    assert np.isfinite(log_prob).all()
    if prior.trainable and not prior.needs_posterior:  # its encoder is one of its parameters, and learns
        gradient = jax.jit(jax.grad(lambda p: prior.loss(p, jax.random.key(3), obs, w).mean()))(params)
        encoder = gradient.get("network", gradient)["encoder"]
        assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(encoder)) > 0


def on_grid(prior, params, grid):
    obs = jnp.zeros((grid.size, 3))
    return jax.jit(lambda x: distribution(prior, params, obs).log_prob(x))(jnp.asarray(grid)[:, None, None])


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("name", NAMES)
@spared("latent_flow-batch0", "spline-batch0", "conditional_mixture-batch0")
def test_shapes(name, batch):
    prior, params = make(name, (5, 2))
    assert isinstance(prior.gaussian, bool)
    assert isinstance(prior.trainable, bool)
    hash(prior)
    obs = jnp.zeros((*batch, 3))

    @jax.jit
    def both(key):
        base = distribution(prior, params, obs)
        w = base.sample(seed=key)
        return w, base.log_prob(w)

    w, log_prob = both(jax.random.key(1))
    assert w.shape == (*batch, 5, 2)
    assert jnp.issubdtype(w.dtype, jnp.integer) == prior.discrete
    assert log_prob.shape == batch
    assert np.isfinite(log_prob).all()
    np.testing.assert_array_equal(w, both(jax.random.key(1))[0])
    assert not np.array_equal(w, both(jax.random.key(2))[0])


@pytest.mark.parametrize("name", NAMES)
@spared("latent_flow", "spline", "conditional_mixture")
def test_sample_shape_leads_and_broadcasts(name):
    prior, params = make(name, (2,))
    obs = jnp.linspace(-1, 1, 9).reshape(3, 3)

    @jax.jit
    def both(key):
        base = distribution(prior, params, obs)
        w = base.sample(seed=key, sample_shape=(4,))
        return w, base.log_prob(w)

    w, log_prob = both(jax.random.key(1))
    assert w.shape == (4, 3, 2)
    alone = jax.jit(lambda x: distribution(prior, params, obs).log_prob(x))
    np.testing.assert_allclose(log_prob, jnp.stack([alone(row) for row in w]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@spared("latent_flow", "vamp")
def test_density_integrates_to_one(name):
    skip_if_discrete(name)
    prior, params = make(name, (1, 1))
    grid = np.linspace(-12, 12, 4801, dtype=np.float32)
    density = np.exp(np.asarray(on_grid(prior, params, grid), np.float64))
    assert abs(np.trapezoid(density, grid.astype(np.float64)) - 1) < 1e-3


@pytest.mark.parametrize("name", NAMES)
@spared("vamp", "latent_flow")
def test_samples_follow_the_density(name):
    # Kolmogorov-Smirnov, n = 20000: P(sqrt(n) D > 2.65) = 2 exp(-2 * 2.65^2) = 1.6e-6,
    # which is 5 sigma two-sided up to a factor 3; the grid adds less than 1e-3
    skip_if_discrete(name)
    prior, params = make(name, (1, 1))
    n = 20_000
    draw = jax.jit(lambda key: distribution(prior, params, jnp.zeros((n, 3))).sample(seed=key))
    samples = np.sort(np.asarray(draw(jax.random.key(3))).ravel())
    grid = np.linspace(-12, 12, 4801, dtype=np.float32)
    density = np.exp(np.asarray(on_grid(prior, params, grid), np.float64))
    cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2) * (24 / 4800)])
    model = np.interp(samples, grid, cdf)
    statistic = np.abs(model - (np.arange(n) + 0.5) / n).max()
    assert statistic < 2.65 / np.sqrt(n) + 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_of_codes_are_enumerated(name):
    prior, params = make(name, (2,))
    if not prior.discrete:
        pytest.skip("a density: it is integrated in a test of its own")
    size = prior.num_codes
    codes = jnp.asarray(list(itertools.product(range(size), repeat=2)), jnp.int32)
    log_prob = jax.jit(lambda c: distribution(prior, params, jnp.zeros((len(codes), 3))).log_prob(c))(codes)
    mass = np.exp(np.asarray(log_prob, np.float64))
    assert abs(mass.sum() - 1) < 1e-4
    n = 40_000
    draw = jax.jit(lambda key: distribution(prior, params, jnp.zeros((n, 3))).sample(seed=key))
    drawn = np.asarray(draw(jax.random.key(3)))
    assert drawn.min() >= 0
    assert drawn.max() < size
    share = np.bincount(drawn[:, 0] * size + drawn[:, 1], minlength=size**2) / n
    # 5 sigma of a binomial share; the half count covers cells whose expectation is below one
    assert (np.abs(share - mass) <= 5 * np.sqrt(mass * (1 - mass) / n) + 0.5 / n).all()


@pytest.mark.parametrize("name", NAMES)
def test_gaussian_flag_is_true_exactly_for_the_standard_normal(name):
    prior, params = make(name, (1, 1))
    if prior.discrete:
        assert not prior.gaussian
        return
    grid = np.linspace(-3, 3, 61, dtype=np.float32)
    standard = -0.5 * grid**2 - 0.5 * np.log(2 * np.pi)
    same = np.allclose(on_grid(prior, params, grid), standard, atol=1e-4)
    assert same == prior.gaussian


@pytest.mark.parametrize("name", NAMES)
@spared("latent_flow")
def test_density_is_differentiable(name):
    skip_if_discrete(name)
    prior, params = make(name, (2, 2))
    base_score = jax.jit(jax.grad(lambda x: distribution(prior, params, jnp.zeros(3)).log_prob(x)))
    assert np.isfinite(base_score(jnp.full((2, 2), 0.3))).all()


@pytest.mark.parametrize("name", NAMES)
@spared("spline")
def test_samples_train_the_parameters(name):
    # what a divergence between samples needs: d sample / d parameters exists, is finite and not all zero
    skip_if_discrete(name)
    prior, params = make(name, (2,))
    obs = jnp.linspace(-1, 1, 24).reshape(8, 3)
    gradient = jax.jit(
        jax.grad(lambda p: jnp.square(distribution(prior, p, obs).sample(seed=jax.random.key(4)) - 1.0).sum())
    )(params)
    leaves = jax.tree.leaves(gradient)
    assert bool(leaves) == prior.trainable
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert not leaves or max(np.abs(leaf).max() for leaf in leaves) > 0


@pytest.mark.parametrize("name", NAMES)
@spared("spline")
def test_loss_moves_the_prior_to_its_data_exactly_where_trainable(name):
    prior, params = make(name, (2,))
    obs = jnp.zeros((32, 3))
    data = jnp.ones((32, 2), jnp.int32) if prior.discrete else jnp.full((32, 2), 0.8)
    posterior = toy_posterior((2,)) if prior.needs_posterior else None
    optimiser = optax.adam(1e-2)

    def objective(p, key):
        loss = prior.loss(p, key, obs, data, posterior)
        assert loss.shape == (32,)
        return loss.mean()

    def step(carry, key):
        p, state = carry
        update, state = optimiser.update(jax.grad(objective)(p, key), state)
        return (optax.apply_updates(p, update), state), None

    keys = jax.random.split(jax.random.key(5), 60)
    end = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0])(params)
    score = jax.jit(lambda p: distribution(prior, p, obs).log_prob(data).mean())
    before, after = score(params), score(end)
    if prior.trainable:
        assert after > before + 0.5
    else:
        assert after == before
