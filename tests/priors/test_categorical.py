from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PolicySpec

from ._fit import fit

ALL = jnp.asarray(list(itertools.product(range(3), repeat=2)), jnp.int32)


def make(event_shape=(2,), **fields):
    cfg = plugin("prior", "categorical", **{"num_codes": 3, "hidden": (16,), "fourier_octaves": 0, **fields})
    return registry.build("prior", cfg, event_shape, spec=PolicySpec(1, 2, 4))


def moved(prior, scale=0.5):
    rng = np.random.default_rng(0)
    fresh = jax.jit(prior.init)(jax.random.key(0))
    return jax.tree.map(lambda p: p + scale * rng.standard_normal(p.shape, np.float32), fresh)


def test_uniform_has_no_parameters_and_equal_probabilities():
    prior = make(learned=False)
    assert not prior.trainable
    assert prior.init(jax.random.key(0)) == {}
    log_prob = prior.distribution({}, jnp.zeros((9, 1))).log_prob(ALL)
    np.testing.assert_allclose(log_prob, np.full(9, -2 * np.log(3)), rtol=1e-6)


def test_untrained_is_uniform():
    prior = make()
    assert prior.trainable
    log_prob = prior.distribution(prior.init(jax.random.key(0)), jnp.ones((9, 1))).log_prob(ALL)
    np.testing.assert_allclose(log_prob, np.full(9, -2 * np.log(3)), rtol=1e-6)


def test_probabilities_are_the_product_of_conditionals():
    prior = make()
    params, obs = moved(prior), jnp.full((9, 1), 0.4)
    mass = np.exp(np.asarray(prior.distribution(params, obs).log_prob(ALL), np.float64)).reshape(3, 3)
    assert abs(mass.sum() - 1) < 1e-5
    features = prior.features(params, obs)
    logits = np.asarray(prior.logits(params, features, ALL), np.float64).reshape(3, 3, 2, 3)
    first = np.exp(logits[0, 0, 0]) / np.exp(logits[0, 0, 0]).sum()
    np.testing.assert_allclose(mass.sum(1), first, rtol=1e-4)
    second = np.exp(logits[:, 0, 1]) / np.exp(logits[:, 0, 1]).sum(-1, keepdims=True)
    np.testing.assert_allclose(mass / mass.sum(1, keepdims=True), second, rtol=1e-4)
    assert not np.allclose(second[0], second[1], rtol=1e-2)  # it does depend on the first code


def test_a_position_does_not_see_itself_or_what_follows():
    prior = make((3,))
    params = moved(prior)
    features = prior.features(params, jnp.zeros(1))
    plain = np.asarray(prior.logits(params, features, jnp.array([0, 1, 2])))
    changed = np.asarray(prior.logits(params, features, jnp.array([0, 2, 0])))
    np.testing.assert_array_equal(plain[:2], changed[:2])
    assert not np.allclose(plain[2], changed[2])
    for i in range(3):
        one = prior.logits(params, features, jnp.array([0, 1, 2]), jnp.asarray(i))
        np.testing.assert_allclose(one, plain[i], rtol=1e-5, atol=1e-6)


def test_samples_follow_the_probabilities():
    prior, n = make(), 20_000
    params = moved(prior)
    obs = jnp.full((n, 1), 0.4)
    drawn = jax.jit(lambda key: prior.distribution(params, obs).sample(seed=key))(jax.random.key(2))
    assert drawn.dtype == jnp.int32
    share = np.bincount(np.asarray(drawn @ jnp.array([3, 1])), minlength=9) / n
    mass = np.exp(np.asarray(prior.distribution(params, obs[:9]).log_prob(ALL), np.float64))
    assert (np.abs(share - mass) < 5 * np.sqrt(mass * (1 - mass) / n)).all()


def test_learns_codes_that_depend_on_each_other_and_on_the_state():
    # at obs 1 the codes are (0,0) or (1,1) evenly, at obs -1 always (2,0): independent codes cannot say that
    prior = make()
    obs = jnp.array([[1.0], [1.0], [-1.0], [-1.0]])
    codes = jnp.array([[0, 0], [1, 1], [2, 0], [2, 0]], jnp.int32)
    params = fit(prior, obs, codes, steps=150, rate=3e-2)
    mass = jnp.exp(prior.distribution(params, obs).log_prob(codes))
    np.testing.assert_allclose(mass, [0.5, 0.5, 1.0, 1.0], atol=0.03)


def test_one_code_is_an_event_without_axes():
    # what a policy asks for whose base is a single bin
    prior = make(())
    assert prior.num_codes == 3
    params, obs = moved(prior), jnp.full((4, 1), 0.4)
    base = prior.distribution(params, obs)
    codes = base.sample(seed=jax.random.key(1), sample_shape=(5,))
    assert codes.shape == (5, 4)
    logits = prior.logits(params, prior.features(params, obs), jnp.zeros((4, 1), jnp.int32))[:, 0]
    expected = jnp.take_along_axis(
        jnp.broadcast_to(jax.nn.log_softmax(logits), (5, 4, 3)), codes[..., None], -1
    )
    np.testing.assert_allclose(base.log_prob(codes), expected[..., 0], rtol=1e-5)
    found = prior.loss(params, jax.random.key(2), obs, codes[0])
    np.testing.assert_allclose(found, -expected[0, :, 0], rtol=1e-5)


@pytest.mark.parametrize(("field", "value"), [("num_codes", 1), ("hidden", (0,)), ("fourier_octaves", 99)])
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"prior.{field}"):
        make(**{field: value})
