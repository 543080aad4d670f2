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


def make(event_shape=(2, 2), **fields):
    return registry.build(
        "prior", plugin("prior", "mixture", **fields), event_shape, spec=PolicySpec(3, 2, 4)
    )


def test_log_prob_against_scipy():
    prior = make(num_components=3, radius=2.0, std=0.5)
    x = np.random.default_rng(0).standard_normal((7, 2, 2)).astype(np.float32)
    means = prior.means().reshape(3, 4)
    pdf = np.mean(
        [stats.multivariate_normal(m, 0.25 * np.eye(4)).pdf(x.reshape(7, 4)) for m in means], axis=0
    )
    result = prior.distribution({}, jnp.zeros((7, 3))).log_prob(x)
    np.testing.assert_allclose(result, np.log(pdf), rtol=1e-4, atol=1e-4)


def test_means_are_spread_evenly_while_there_are_enough_dimensions():
    means = make(num_components=4, radius=3.0).means().reshape(4, 4)
    # orthogonal directions: norm r, distance r sqrt(2)
    np.testing.assert_allclose(means @ means.T, 9 * np.eye(4), atol=1e-5)
    crowded = make(num_components=9, radius=3.0).means().reshape(9, 4)
    np.testing.assert_allclose(np.linalg.norm(crowded, axis=1), 3.0, rtol=1e-6)
    assert len(np.unique(crowded.round(3), axis=0)) == 9


def test_means_are_constants_of_the_seed():
    np.testing.assert_array_equal(make(seed=1).means(), make(seed=1).means())
    assert not np.array_equal(make(seed=1).means(), make(seed=2).means())
    assert make().init(jax.random.key(0)) == {}
    assert not make().gaussian


def test_sample_moments_and_component_shares():
    prior, n = make(num_components=4, radius=3.0, std=0.2), 8_000
    w = np.asarray(prior.distribution({}, jnp.zeros((n, 3))).sample(seed=jax.random.key(1))).reshape(n, 4)
    means = prior.means().reshape(4, 4)
    label = np.argmin(((w[:, None] - means) ** 2).sum(-1), axis=1)
    share = np.bincount(label, minlength=4) / n
    assert np.abs(share - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / n)
    # components are 21 sigma apart, so labels are exact and the residual is N(0, .2^2)
    residual = w - means[label]
    assert abs(residual.std() - 0.2) < 5 * 0.2 / np.sqrt(2 * 4 * n)


@pytest.mark.parametrize(
    ("field", "value"), [("num_components", 0), ("std", 0.0), ("radius", -1.0), ("seed", -1)]
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"prior.{field}"):
        make(**{field: value})
