from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import capabilities
from mmbc_jax.policies._common import LEAST_SPREAD, data_spread
from mmbc_jax.policies._gaussian import bounded_log_std, raw_of_std
from tests.toys.products import spared

from ._toys import POINT, batch, build, draw, fit, hparams, moved, two_points


def test_loss_is_scipys_likelihood_of_the_recorded_actions():
    policy, data = build("gaussian"), batch()
    v = moved(policy, data)
    mean, log_std = (np.asarray(x) for x in policy.mean_and_log_std(v, data.obs))
    loss = jax.jit(lambda v, key: policy.loss(v, key, data, {}))(v, jax.random.key(0))
    each = stats.norm.logpdf(data.chunk, mean, np.exp(log_std))
    expected = [-each[b][np.asarray(data.mask[b]) == 1].sum() for b in range(5)]
    np.testing.assert_allclose(loss.per_example, expected, rtol=1e-4, atol=1e-5)
    assert expected[1] == 0
    np.testing.assert_allclose(loss.metrics["bc/nll"], np.mean(expected), rtol=1e-4)


def test_density_is_that_of_the_samples():
    # change of variables: log p(transport(w)) = log base(w) - sum log sigma
    policy, data = build("gaussian"), batch()
    assert capabilities(policy) == {"log_prob"}
    v = moved(policy, data)
    w, chunk = draw(policy, v, data.obs)
    _, log_std = policy.mean_and_log_std(v, data.obs)
    expected = policy.base_distribution(v, data.obs).log_prob(w) - log_std.sum((-2, -1))
    np.testing.assert_allclose(policy.log_prob(v, data.obs, chunk), expected, rtol=1e-4, atol=1e-4)


def test_standard_deviation_stays_in_its_bounds():
    raw = jnp.array([-1e4, -3.0, 0.0, 3.0, 1e4])
    std = np.exp(bounded_log_std(raw, 0.01, 1.0))
    assert (np.diff(std) > 0).all()
    # the middle of the logarithms: sqrt(.01 * 1) = .1
    np.testing.assert_allclose(std[[0, 2, 4]], [0.01, 0.1, 1.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("std", "expected"), [(0.03, 0.03), (0.5, 0.5), (1e-9, 0.01 * 100**0.01), (9.0, 100**-0.01)]
)
def test_start_of_the_standard_deviation(std, expected):
    # within the bounds .01 and 1 the value itself; outside a hundredth of log(100) away from the bound
    raw = raw_of_std(std, 0.01, 1.0)
    np.testing.assert_allclose(np.exp(bounded_log_std(raw, 0.01, 1.0)), expected, rtol=1e-4)


def test_untrained_policy_is_centred_and_wide():
    policy, data = build("gaussian"), batch()
    mean, log_std = policy.mean_and_log_std(jax.jit(policy.init)(jax.random.key(0), data), data.obs)
    np.testing.assert_allclose(mean, np.zeros((5, 4, 2)), atol=1e-6)
    np.testing.assert_allclose(np.exp(log_std), np.full((5, 4, 2), 0.5), rtol=1e-4)


def test_two_modes_become_their_mean_and_spread():
    # a quarter at -.8, three at .8: mean .4, variance .64 - .16 = .48
    policy, data = build("gaussian", POINT), two_points(size=8)
    v = fit(policy, data, {}, steps=400, learning_rate=1e-2)
    mean, log_std = policy.mean_and_log_std(v, data.obs[0])
    np.testing.assert_allclose(mean, [[0.4]], atol=0.02)
    np.testing.assert_allclose(np.exp(log_std), [[np.sqrt(0.48)]], rtol=0.02)


@pytest.mark.parametrize("clusters", [1, 3, 16])
def test_data_spread_is_that_around_one_way_of_doing_it(clusters):
    # entries of spread .002 and .02; 30 numbers, so that a neighbour is about as far as any member
    rng = np.random.default_rng(0)
    width = np.where(np.arange(15)[:, None] % 3 == 0, 0.02, 0.002) * np.ones((15, 2))
    centres = rng.uniform(-0.9, 0.9, (clusters, 15, 2))
    chunk = centres[np.arange(960) % clusters] + width * rng.standard_normal((960, 15, 2))
    ratio = np.asarray(jax.jit(data_spread)(jnp.asarray(chunk, jnp.float32))) / width
    assert 0.35 < ratio.min() < ratio.max() < 1.15
    assert ratio.mean() < 1.0


def test_data_without_spread_and_single_windows():
    np.testing.assert_allclose(data_spread(jnp.ones((5, 4, 2))), np.full((4, 2), LEAST_SPREAD))
    np.testing.assert_allclose(data_spread(jnp.ones((1, 4, 2))), np.full((4, 2), LEAST_SPREAD))


@pytest.mark.parametrize("name", ["gaussian", "mdn"])
@spared("mdn")
def test_the_floor_is_below_the_spread_of_precise_data(name):
    # .003 of a range of 2: a floor of .01 in normalised units would triple it
    rng = np.random.default_rng(0)
    mean = rng.uniform(-0.5, 0.5, (4, 2))
    noisy = jnp.asarray(mean + 0.003 * rng.standard_normal((256, 4, 2)), jnp.float32)
    data = batch(256).replace(chunk=noisy, mask=jnp.ones((256, 4)), obs=jnp.zeros((256, 3)))
    policy = build(name, **({"num_components": 1} if name == "mdn" else {}))
    v = jax.jit(policy.init)(jax.random.key(0), data)
    low, _ = policy.options.bounds(v.stats)
    assert (low < 0.1 * 0.003).all()
    v = fit(policy, data, hparams(name), steps=600, learning_rate=1e-2)
    _, chunk = draw(policy, v, jnp.zeros((512, 3)))
    np.testing.assert_allclose(np.asarray(chunk).std(0), np.full((4, 2), 0.003), rtol=0.25)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("policy.min_std", {"min_std": 0.0}),
        ("policy.min_std", {"min_std": 1.5}),
        ("policy.max_std", {"max_std": 0.0}),
        ("policy.activation", {"activation": "swish"}),
    ],
)
def test_impossible_values_are_refused(field, fields):
    with pytest.raises(ConfigError, match=field):
        build("gaussian", **fields)
