from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn.cluster import KMeans

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import capabilities
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.policies.mdn import balance_kl

from ._toys import POINT, batch, build, draw, fit, moved, two_points


def make(**fields):
    return build("mdn", **{"num_components": 3, **fields})


def as_numpy(mixture):
    return tuple(np.asarray(x) for x in mixture)


def test_loss_is_scipys_likelihood_and_the_regularisers():
    policy, data = make(), batch()
    v = moved(policy, data)
    hp = {"entropy": jnp.asarray(0.3), "load_balance": jnp.asarray(0.7)}
    loss = jax.jit(lambda v, key, hp: policy.loss(v, key, data, hp))(v, jax.random.key(0), hp)
    log_pi, mean, log_std = as_numpy(policy.mixture(v, data.obs))
    each = stats.norm.logpdf(np.asarray(data.chunk)[:, None], mean, np.exp(log_std))
    joint = log_pi + (each * np.asarray(data.mask)[:, None, :, None]).sum((-2, -1))
    entropy = stats.entropy(np.exp(log_pi), axis=-1)
    responsibility = special.softmax(joint, -1).mean(0)
    np.testing.assert_allclose(
        loss.per_example, -special.logsumexp(joint, -1) - 0.3 * entropy, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(loss.batch, 0.7 * stats.entropy(responsibility, np.full(3, 1 / 3)), rtol=1e-3)
    assert loss.batch > 0.001


def test_density_is_that_of_scipy():
    policy, data = make(), batch()
    assert capabilities(policy) == {"log_prob"}
    v = moved(policy, data)
    log_pi, mean, log_std = as_numpy(policy.mixture(v, data.obs))
    expected = [
        special.logsumexp(
            [
                log_pi[b, k]
                + stats.multivariate_normal(
                    mean[b, k].ravel(), np.diag(np.exp(2 * log_std[b, k]).ravel())
                ).logpdf(chunk.ravel())
                for k in range(3)
            ]
        )
        for b, chunk in enumerate(np.asarray(data.chunk))
    ]
    np.testing.assert_allclose(policy.log_prob(v, data.obs, data.chunk), expected, rtol=1e-4, atol=1e-4)


def test_sample_follows_one_component():
    policy, data = make(), batch()
    v = moved(policy, data)
    w, chunk = draw(policy, v, jnp.broadcast_to(data.obs, (40, 5, 3)))
    index, noise = np.asarray(w["component"]), np.asarray(w["noise"])
    assert set(np.unique(index)) == {0, 1, 2}
    _, mean, log_std = as_numpy(policy.mixture(v, data.obs))
    rows = np.arange(5)[None]
    expected = mean[rows, index] + np.exp(log_std[rows, index]) * noise
    np.testing.assert_allclose(chunk, expected, rtol=1e-4, atol=1e-5)


def test_balance_golden():
    # r = (.5, .5, 0): log 3 - log 2; equal: 0; one alone: log 3
    rows = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(balance_kl(rows), np.log(1.5), rtol=1e-5)
    np.testing.assert_allclose(balance_kl(jnp.full((4, 3), 1 / 3)), 0.0, atol=1e-6)
    np.testing.assert_allclose(balance_kl(rows[:1]), np.log(3.0), rtol=1e-5)
    assert np.isfinite(jax.grad(balance_kl)(rows)).all()


def test_components_start_at_the_clusters_of_the_data():
    rng = np.random.default_rng(0)
    clusters = rng.uniform(-0.8, 0.8, (3, 4, 2))
    chunk = clusters[np.arange(90) % 3] + 0.05 * rng.standard_normal((90, 4, 2))
    data = batch(90).replace(chunk=jnp.asarray(chunk, jnp.float32))
    policy = make()
    v = jax.jit(policy.init)(jax.random.key(1), data)
    log_pi, mean, log_std = as_numpy(policy.mixture(v, data.obs[0]))
    reference = KMeans(3, n_init=5, random_state=0).fit(chunk.reshape(90, -1))
    order, theirs = np.argsort(mean[:, 0, 0]), np.argsort(reference.cluster_centers_[:, 0])
    np.testing.assert_allclose(
        mean[order].reshape(3, -1), reference.cluster_centers_[theirs], rtol=1e-3, atol=1e-3
    )
    # all sigma are the root of the mean squared distance to the own centre, per number
    np.testing.assert_allclose(np.exp(log_std), np.sqrt(reference.inertia_ / (90 * 8)), rtol=1e-3)
    np.testing.assert_allclose(np.exp(log_pi), np.full(3, 1 / 3), rtol=1e-5)


def test_recovers_two_modes_with_their_weights_and_widths():
    rng = np.random.default_rng(1)
    data = two_points(0.25, 400)
    data = data.replace(chunk=data.chunk + 0.1 * jnp.asarray(rng.standard_normal((400, 1, 1)), jnp.float32))
    policy = build("mdn", POINT, num_components=2)
    v = fit(policy, data, {"entropy": jnp.asarray(0.0), "load_balance": jnp.asarray(0.0)}, steps=400)
    log_pi, mean, log_std = as_numpy(policy.mixture(v, jnp.zeros(1)))
    order = np.argsort(mean.ravel())
    left, right = np.asarray(data.chunk[:100]), np.asarray(data.chunk[100:])
    # the maximum of the likelihood: at 16 sigma apart, the moments of either group
    np.testing.assert_allclose(np.exp(log_pi)[order], [0.25, 0.75], atol=0.005)
    np.testing.assert_allclose(mean.ravel()[order], [left.mean(), right.mean()], atol=0.005)
    np.testing.assert_allclose(np.exp(log_std).ravel()[order], [left.std(), right.std()], rtol=0.05)


def test_one_component_is_a_gaussian():
    policy, data = make(num_components=1), batch()
    v = moved(policy, data)
    log_pi, mean, log_std = as_numpy(policy.mixture(v, data.obs))
    np.testing.assert_allclose(log_pi, 0.0, atol=1e-6)
    expected = stats.norm.logpdf(data.chunk, mean[:, 0], np.exp(log_std[:, 0])).sum((-2, -1))
    np.testing.assert_allclose(policy.log_prob(v, data.obs, data.chunk), expected, rtol=1e-4)


def test_more_components_than_windows():
    policy = build("mdn", PolicySpec(3, 2, 4), num_components=8)
    v = jax.jit(policy.init)(jax.random.key(0), batch(3))
    assert np.isfinite(policy.log_prob(v, batch(3).obs, batch(3).chunk)).all()


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("policy.num_components", {"num_components": 0}),
        ("policy.entropy", {"entropy": -0.1}),
        ("policy.load_balance", {"load_balance": -0.1}),
        ("policy.kmeans_iterations", {"kmeans_iterations": -1}),
        ("policy.min_std", {"min_std": 0.0}),
    ],
)
def test_impossible_values_are_refused(field, fields):
    with pytest.raises(ConfigError, match=field):
        make(**fields)
