import itertools

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import Loss, PolicySpec, Variables
from mmbc_jax.data.windows import Windows
from mmbc_jax.diagnostics import offline
from mmbc_jax.diagnostics.offline import COVERED, best_of_weights, make_offline_metrics, offline_metrics

H, A = 3, 2


class Constant:
    """Answers with one chunk whatever it sees; its base has no entries."""

    spec = PolicySpec(1, A, H)

    def __init__(self, chunk):
        self.chunk = jnp.asarray(chunk, jnp.float32)
        self.traces = 0

    def init(self, key, sample_batch):
        return Variables({})

    def loss(self, variables, key, batch, hp):
        self.traces += 1
        return Loss(hp["scale"] * batch.obs[:, 0], jnp.asarray(0.25), {}, {})

    def base_distribution(self, variables, obs):
        empty = jnp.zeros((*obs.shape[:-1], 0))
        return distrax.Independent(distrax.Deterministic(empty), 1)

    def transport(self, variables, obs, w):
        return jnp.broadcast_to(self.chunk, (*obs.shape[:-1], H, A))


class Coin(Constant):
    """Answers +1 or -1 everywhere, each with probability 1/2."""

    def base_distribution(self, variables, obs):
        return distrax.Bernoulli(probs=jnp.full(obs.shape[:-1], 0.5))

    def transport(self, variables, obs, w):
        sign = 2.0 * w.astype(jnp.float32) - 1.0
        return jnp.broadcast_to(sign[..., None, None], (*obs.shape[:-1], H, A))


def windows_of(chunk, mask=None, seed=0):
    chunk = jnp.asarray(chunk, jnp.float32)
    count = len(chunk)
    zeros = jnp.zeros(count, jnp.int32)
    mask = jnp.ones((count, H)) if mask is None else jnp.asarray(mask, jnp.float32)
    return Windows(jnp.arange(count, dtype=jnp.float32)[:, None], chunk, mask, zeros, zeros, zeros)


def hp():
    return {"scale": jnp.asarray(2.0)}


def test_deterministic_policy_against_numpy():
    rng = np.random.default_rng(0)
    chunk, answer = rng.normal(size=(7, H, A)), rng.normal(size=(H, A))
    mask = np.asarray([[1, 1, 1], [1, 1, 0], [1, 0, 0]])[rng.integers(0, 3, 7)]
    errors = [
        np.sqrt(np.mean([(chunk[i, h] - answer[h]) ** 2 for h in range(H) if mask[i, h]])) for i in range(7)
    ]
    windows = windows_of(chunk, mask)
    found = offline_metrics(Constant(answer), Variables({}), windows, jax.random.key(0), 5, 3, hp())
    assert set(found) == {
        f"offline/{k}"
        for k in ("loss", "best_of_1", "best_of_4", "best_of_5", "covered", "mean_error", "spread")
    }
    assert float(found["offline/covered"]) == pytest.approx(np.mean(np.asarray(errors) <= COVERED))
    for name in ("best_of_1", "best_of_4", "best_of_5", "mean_error"):
        np.testing.assert_allclose(found[f"offline/{name}"], np.mean(errors), rtol=1e-5)
    np.testing.assert_allclose(found["offline/spread"], 0, atol=1e-6)
    # Mean of 2 * (0 .. 6) = 6, plus the batch term .25 of each batch.
    np.testing.assert_allclose(found["offline/loss"], 6.25, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 4, 7, 50])
def test_the_batch_size_does_not_matter(batch):
    chunk = np.random.default_rng(1).normal(size=(7, H, A))
    policy = Constant(np.zeros((H, A)))
    found = offline_metrics(policy, Variables({}), windows_of(chunk), jax.random.key(0), 2, batch, hp())
    wanted = np.sqrt((chunk**2).mean(axis=(1, 2))).mean()
    np.testing.assert_allclose(found["offline/best_of_1"], wanted, rtol=1e-5)
    np.testing.assert_allclose(found["offline/loss"], 6.25, rtol=1e-6)


def test_two_modes_have_the_closed_form():
    # Recorded chunk +1; each sample errs by 0 or 2 with probability 1/2. best_of_k = 2 * 2^-k in the mean:
    # 1, 1/8, and 2^-15 of 16. The samples' mean m has error |1 - m| with mean 1 and is 1 - its distance.
    count, samples = 2000, 16
    windows = windows_of(np.ones((count, H, A)))
    found = offline_metrics(Coin(0.0), Variables({}), windows, jax.random.key(1), samples, 256, hp())
    # best_of_1 averages 32000 errors of deviation 1: 5 / sqrt(32000) = .028. best_of_4 varies by less than
    # the mean of 4 disjoint subsets of deviation 2 sqrt(15)/16 = .484: 5 * .484 / sqrt(4 * 2000) = .027.
    np.testing.assert_allclose(found["offline/best_of_1"], 1.0, atol=0.028)
    np.testing.assert_allclose(found["offline/best_of_4"], 0.125, atol=0.027)
    assert found["offline/best_of_16"] < 0.005
    np.testing.assert_allclose(found["offline/mean_error"], 1.0, atol=0.028)
    # Spread of n signs about their mean: sqrt(1 - m^2), at most 1 and on average 1 - 1/(2 n) to first order.
    np.testing.assert_allclose(found["offline/spread"], 1 - 1 / 32, atol=0.01)


def test_a_policy_that_averages_the_modes_gains_nothing_from_samples():
    windows = windows_of(np.repeat([[[1.0] * A] * H, [[-1.0] * A] * H], 50, axis=0))
    found = offline_metrics(
        Constant(np.zeros((H, A))), Variables({}), windows, jax.random.key(0), 16, 32, hp()
    )
    assert found["offline/best_of_1"] == found["offline/best_of_16"] == 1
    both = offline_metrics(Coin(0.0), Variables({}), windows, jax.random.key(0), 16, 32, hp())
    assert both["offline/best_of_16"] < 0.02 < found["offline/best_of_16"]


def test_regression_has_no_spread():
    spec = PolicySpec(1, A, H)
    policy = registry.build("policy", plugin("policy", "mse"), spec)
    windows = windows_of(np.random.default_rng(3).normal(size=(9, H, A)))
    variables = policy.init(jax.random.key(0), windows.batch(jnp.arange(9)))
    found = offline_metrics(policy, variables, windows, jax.random.key(1), 6, 4)
    answer = policy.transport(variables, windows.obs, jnp.zeros((9, 0)))
    errors = np.asarray(answer - windows.chunk)
    wanted = np.sqrt((errors**2).mean(axis=(1, 2))).mean()
    for name in ("best_of_1", "best_of_6", "mean_error"):
        np.testing.assert_allclose(found[f"offline/{name}"], wanted, rtol=1e-4)
    np.testing.assert_allclose(found["offline/spread"], 0, atol=1e-6)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 1), (5, 3), (6, 6), (7, 4)])
def test_weights_are_the_mean_over_subsets(n, k):
    errors = np.sort(np.random.default_rng(n + k).normal(size=n))
    wanted = np.mean([min(subset) for subset in itertools.combinations(errors, k)])
    np.testing.assert_allclose(best_of_weights(n, k) @ errors, wanted)


def test_weights_of_many_samples_are_finite():
    for k in offline.BEST_OF:
        weights = best_of_weights(1000, k)
        np.testing.assert_allclose(weights.sum(), 1.0)
        assert (np.diff(weights) <= 0).all()


def test_one_compilation_serves_all_calls():
    policy = Coin(0.0)
    measure = make_offline_metrics(policy, 4, 3)
    windows = windows_of(np.ones((8, H, A)))
    for step in range(3):
        measure(Variables({}), windows, jax.random.key(step), {"scale": jnp.asarray(float(step))})
    # 8 windows in batches of 3: the last one is filled up, not traced anew.
    assert policy.traces == 1


def test_samples_differ_between_keys_and_not_between_calls():
    measure = make_offline_metrics(Coin(0.0), 4, 3)
    windows = windows_of(np.ones((8, H, A)))
    first, again, other = (
        measure(Variables({}), windows, jax.random.key(k), hp())["offline/best_of_1"] for k in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize(("samples", "batch"), [(0, 4), (4, 0)])
def test_refuses(samples, batch):
    with pytest.raises(ValueError, match=">= 1"):
        make_offline_metrics(Coin(0.0), samples, batch)


def test_covered_counts_windows_with_a_near_sample():
    answer = np.zeros((H, A))
    chunk = np.stack([np.full((H, A), 0.05), np.full((H, A), 0.2), np.zeros((H, A)), np.full((H, A), 0.15)])
    found = offline_metrics(Constant(answer), Variables({}), windows_of(chunk), jax.random.key(0), 2, 3, hp())
    assert float(found["offline/covered"]) == pytest.approx(0.5)
