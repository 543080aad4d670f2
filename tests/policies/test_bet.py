from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn.cluster import KMeans

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.policies.bet import focal_loss

from ._toys import POINT, batch, build, draw, fit, hparams, moved, two_points


def make(**fields):
    return build("bet", **{"num_bins": 3, **fields})


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5])
def test_focal_loss_against_scipys_softmax(gamma):
    rng = np.random.default_rng(0)
    logits, target = 3 * rng.standard_normal((20, 5)), rng.integers(0, 5, 20)
    chosen = special.softmax(logits, -1)[np.arange(20), target]
    expected = -((1 - chosen) ** gamma) * np.log(chosen)
    result = focal_loss(jnp.asarray(logits), jnp.asarray(target), gamma)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


def test_focal_loss_golden_and_its_slope_at_certainty():
    # p = 1/2: (1/2)^2 log 2
    np.testing.assert_allclose(focal_loss(jnp.zeros(2), jnp.array(0), 2.0), 0.25 * np.log(2), rtol=1e-6)
    for gamma in (0.0, 0.5, 2.0):
        for logits in ([80.0, -80.0], [-80.0, 80.0]):
            slope = jax.grad(lambda x, gamma=gamma: focal_loss(x, jnp.array(0), gamma))(jnp.array(logits))
            assert np.isfinite(slope).all()


def test_bins_have_sklearns_inertia():
    rng = np.random.default_rng(1)
    clusters = rng.uniform(-0.8, 0.8, (3, 4, 2))
    chunk = (clusters[np.arange(120) % 3] + 0.05 * rng.standard_normal((120, 4, 2))).astype(np.float32)
    v = jax.jit(make().init)(jax.random.key(0), batch(120).replace(chunk=jnp.asarray(chunk)))
    centres, flat = np.asarray(v.stats["centres"]).reshape(3, -1), chunk.reshape(120, -1)
    inertia = np.square(flat[:, None] - centres).sum(-1).min(1).sum()
    assert inertia == pytest.approx(KMeans(3, n_init=5, random_state=0).fit(flat).inertia_, rel=1e-3)


def test_bins_are_assigned_by_recorded_actions_alone():
    policy, data = make(), batch()
    centres = jnp.stack([jnp.full((4, 2), c) for c in (-0.5, 0.0, 0.5)])
    v = jax.jit(policy.init)(jax.random.key(0), data).replace(stats={"centres": centres})
    # two actions at .4 are recorded, the two at -9 are not
    chunk = jnp.full((1, 4, 2), 0.4).at[0, 2:].set(-9.0)
    assert policy.assign(v, chunk, jnp.array([[1.0, 1.0, 0.0, 0.0]])) == 2
    assert policy.assign(v, chunk, jnp.ones((1, 4))) == 0


def test_loss_against_numpy():
    policy, data = make(), batch()
    v = moved(policy, data)
    hp = {"gamma": jnp.asarray(1.5), "offset_weight": jnp.asarray(3.0)}
    loss = jax.jit(lambda v, key: policy.loss(v, key, data, hp))(v, jax.random.key(0))
    centres, mask, chunk = (np.asarray(x) for x in (v.stats["centres"], data.mask, data.chunk))
    logits = np.asarray(policy.logits(v, data.obs))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = []
    for b in range(5):
        rows = mask[b] == 1
        if not rows.any():
            expected.append(0.0)
            continue
        k = np.argmin([np.square(chunk[b] - c)[rows].sum() for c in centres])
        decoded = np.asarray(policy.transport(v, data.obs[b], {"bin": jnp.asarray(k)}))
        error = np.square(decoded - chunk[b])[rows].mean()
        expected.append((1 - p[b, k]) ** 1.5 * -np.log(p[b, k]) + 3.0 * error)
    np.testing.assert_allclose(loss.per_example, expected, rtol=1e-4, atol=1e-5)
    assert expected[1] == 0.0


def test_only_the_offset_of_the_true_bin_is_trained():
    policy, data = make(), batch()
    v = moved(policy, data)
    hp = {"gamma": jnp.asarray(0.0), "offset_weight": jnp.asarray(1.0)}
    one = jax.tree.map(lambda x: x[2:3], data)
    gradient = jax.grad(lambda p: policy.loss(v.replace(params=p), jax.random.key(0), one, hp).total())
    last = gradient(v.params)["network"]["trunk"]["Dense_1"]["bias"].reshape(4, 3, 2)
    k = int(policy.assign(v, one.chunk, one.mask)[0])
    moving = np.abs(last).max((0, 2)) > 0
    np.testing.assert_array_equal(moving, np.arange(3) == k)


def test_two_modes_keep_their_shares():
    policy, data = build("bet", POINT, num_bins=4), two_points(0.25, 64)
    v = fit(policy, data, hparams("bet", gamma=0.0), steps=150, learning_rate=1e-2)
    _, chunk = draw(policy, v, jnp.zeros((2000, 1)))
    assert np.abs(np.abs(chunk) - 0.8).max() < 0.02
    # 5 sigma of 2000 draws, and .01 for what is left to learn
    assert abs((chunk < 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000) + 0.01


@pytest.mark.slow
def test_a_configured_prior_over_codes_takes_the_classifiers_place():
    policy, data = build("bet", prior="categorical", num_bins=16), batch()
    v = moved(policy, data)
    logits = np.asarray(policy.logits(v, data.obs))
    assert logits.shape == (5, 16)
    np.testing.assert_allclose(special.logsumexp(logits, -1), np.zeros(5), atol=1e-5)
    codes = policy.classifier.distribution(v.params["classifier"], data.obs)
    for k in (0, 7):
        np.testing.assert_allclose(logits[:, k], codes.log_prob(jnp.full(5, k)), rtol=1e-5)
    assert np.ptp(logits, 0).max() > 1e-3  # it sees the observation
    w, chunk = draw(policy, v, data.obs)
    np.testing.assert_allclose(chunk, policy.decode(v, data.obs, w["bin"]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_configured_prior_learns_the_shares():
    """By the focal loss, as the classifier does: a quarter and three quarters come out."""
    policy = build("bet", POINT, prior="categorical", num_bins=16)
    v = fit(policy, two_points(), hparams("bet", gamma=0.0), steps=400, learning_rate=1e-2)
    share = np.exp(np.asarray(policy.logits(v, jnp.zeros(1))))
    left = np.asarray(v.stats["centres"]).ravel() < 0
    assert share[left].sum() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("prior", "found"),
    [
        ("mixture", "config.prior.name = 'mixture' .*categorical, or normal"),
        ("categorical", "config.prior.num_codes = 16 .*policy.num_bins = 3"),
    ],
)
def test_a_prior_that_is_none_over_the_bins_is_refused(prior, found):
    with pytest.raises(ConfigError, match=found):
        build("bet", prior=prior, num_bins=3)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("policy.num_bins", {"num_bins": 0}),
        ("policy.gamma", {"gamma": -1.0}),
        ("policy.offset_weight", {"offset_weight": -1.0}),
        ("policy.kmeans_iterations", {"kmeans_iterations": -1}),
    ],
)
def test_impossible_values_are_refused(field, fields):
    with pytest.raises(ConfigError, match=field):
        make(**fields)
