from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PolicySpec

from ._fit import fit


def make(event_shape=(2,), **fields):
    cfg = plugin(
        "prior",
        "conditional_mixture",
        **{"hidden": (16,), "fourier_octaves": 1, "num_components": 4, **fields},
    )
    return registry.build("prior", cfg, event_shape, spec=PolicySpec(1, 2, 4))


def test_starts_as_scattered_components():
    prior = make((3, 2), num_components=500)
    params = prior.init(jax.random.key(0))
    base = prior.distribution(params, jnp.ones((5, 1)))
    normals = base.components_distribution.distribution
    np.testing.assert_allclose(base.mixture_distribution.probs, 1 / 500, rtol=1e-5)
    np.testing.assert_allclose(normals.scale, 0.5, rtol=0.02)  # 8 tanh(2 log .5 / 8) = -1.359, so .507
    np.testing.assert_allclose(normals.loc[0], normals.loc[4])
    # 500 x 6 draws of N(0, 1): the standard deviation is known to about 1 / sqrt(6000) = .013
    assert abs(float(params["centres"].std()) - 1.0) < 0.05


def test_log_prob_against_scipy():
    prior = make(num_components=2)
    params = prior.init(jax.random.key(0))
    logits, moved = np.array([0.3, -0.4]), np.array([[0.5, -1.0], [1.5, 0.2]])
    raw = np.array([[1.0, -1.0], [0.0, 2.0]])
    bias = jnp.asarray(np.concatenate([logits, moved.ravel(), raw.ravel()]), jnp.float32)
    network = {**params["network"], "Dense_1": {**params["network"]["Dense_1"], "bias": bias}}
    params = {"network": network, "centres": jnp.array([[0.1, 0.2], [-0.3, 0.4]])}
    x = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
    means = np.array([[0.1, 0.2], [-0.3, 0.4]]) + moved
    variances = np.exp(8 * np.tanh((2 * np.log(0.5) + raw) / 8))
    parts = np.stack(
        [stats.multivariate_normal(m, np.diag(v)).logpdf(x) for m, v in zip(means, variances, strict=True)],
        -1,
    )
    expected = special.logsumexp(parts + special.log_softmax(logits), axis=-1)
    result = prior.distribution(params, jnp.zeros((6, 1))).log_prob(x)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    loss = prior.loss(params, jax.random.key(1), jnp.zeros((6, 1)), x)
    np.testing.assert_allclose(loss, -expected, rtol=1e-5)


def test_learns_the_pieces_of_each_state():
    """Two states, with pieces at +-1 and at +-2 of standard deviation .1."""
    prior, n = make((1,), num_components=8), 512
    key_obs, key_side, key_noise = jax.random.split(jax.random.key(2), 3)
    obs = jnp.where(jax.random.bernoulli(key_obs, 0.5, (n, 1)), 0.5, -0.5)
    side = jnp.where(jax.random.bernoulli(key_side, 0.5, (n, 1)), 1.0, -1.0)
    z = (1.5 + obs) * side + 0.1 * jax.random.normal(key_noise, (n, 1))
    params = fit(prior, obs, z, steps=600, rate=1e-2, key=3)
    states = jnp.array([[0.5], [-0.5]])
    drawn = np.abs(prior.distribution(params, states).sample(seed=jax.random.key(4), sample_shape=(2000,)))[
        ..., 0
    ]
    # nearest piece within four standard deviations of its noise; one Gaussian would put .2 and more outside
    inside = np.abs(drawn - np.array([2.0, 1.0])) < 0.4
    assert (inside.mean(0) > 0.97).all()
    # entropy of the truth: log 2 + log(.1 sqrt(2 pi e)) = -.19 nats
    truth = np.log(2) + np.log(0.1 * np.sqrt(2 * np.pi * np.e))
    assert abs(float(prior.loss(params, jax.random.key(5), obs, z).mean()) - truth) < 0.1


@pytest.mark.parametrize(
    ("field", "value"), [("hidden", (0,)), ("num_components", 0), ("fourier_octaves", -1)]
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"prior.{field}"):
        make(**{field: value})
