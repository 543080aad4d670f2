from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import capabilities
from mmbc_jax.policies._gaussian import bounded_log_std, raw_of_std

from ._toys import POINT, batch, build, draw, fit, moved, two_points


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


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("policy.min_std", {"min_std": 0.0}),
        ("policy.max_std", {"min_std": 0.5, "max_std": 0.5}),
        ("policy.activation", {"activation": "swish"}),
    ],
)
def test_impossible_values_are_refused(field, fields):
    with pytest.raises(ConfigError, match=field):
        build("gaussian", **fields)
