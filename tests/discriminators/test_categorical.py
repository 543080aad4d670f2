"""The categorical discriminator: what it remembers, what it learns, what its noise hides."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import ObsSpec


def make(horizon=6, obs_dim=1, modes=4, **fields):
    cfg = plugin("discriminator", "categorical", **{"hidden": (32,), **fields})
    return registry.build("discriminator", cfg, ObsSpec.vector(obs_dim), modes, horizon)


def remember(q, values):
    """Slots and count after observations `values`, the first one at reset."""
    memory = q.init_memory(jnp.array([values[0]], jnp.float32))
    for value in values[1:]:
        memory = q.remember(memory, jnp.array([value], jnp.float32))
    return memory


def test_state_sees_the_present_only():
    q = make(input="state")
    np.testing.assert_array_equal(q.features(remember(q, [1, 2, 3])), [3])


def test_window_sees_the_last_few():
    q = make(input="window", window=3)
    np.testing.assert_array_equal(q.features(remember(q, [1])), [1, 1, 1])
    np.testing.assert_array_equal(q.features(remember(q, [1, 2])), [1, 1, 2])
    np.testing.assert_array_equal(q.features(remember(q, [1, 2, 3, 4, 5])), [3, 4, 5])


def test_history_fills_slots_to_come_with_the_present():
    q = make(input="history", horizon=4, slots=99)
    assert q.slots == 5  # the first observation and one per decision
    np.testing.assert_allclose(q.features(remember(q, [1])), [1, 1, 1, 1, 1, 0])
    np.testing.assert_allclose(q.features(remember(q, [1, 2, 3])), [1, 2, 3, 3, 3, 0.5])
    np.testing.assert_allclose(q.features(remember(q, [1, 2, 3, 4, 5])), [1, 2, 3, 4, 5, 1])


def test_history_in_fewer_slots_than_decisions():
    """3 slots for the observations 0..5 of 5 decisions: observation c goes to slot 3c // 6 = 0 0 1 1 2 2.

    The later one of a slot stays: after all of them 1, 3, 5.
    """
    q = make(input="history", horizon=5, slots=3)
    np.testing.assert_allclose(q.features(remember(q, [0, 1, 2, 3, 4, 5])), [1, 3, 5, 1])
    np.testing.assert_allclose(q.features(remember(q, [0, 1])), [1, 1, 1, 0.2])
    np.testing.assert_allclose(q.features(remember(q, [0, 1, 2])), [1, 2, 2, 0.4])


def test_history_is_kept_past_the_horizon():
    """One decision more than planned overwrites the last slot at most, and never leaves the memory."""
    q = make(input="history", horizon=2, slots=3)
    np.testing.assert_allclose(q.features(remember(q, [1, 2, 3, 4]))[:2], [1, 2])


@pytest.mark.parametrize("kind", ["state", "window", "history"])
def test_batched_memory_equals_single(kind):
    q = make(input=kind, obs_dim=2)
    path = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3, 2)), jnp.float32)
    memory = q.init_memory(path[0])
    for obs in path[1:]:
        memory = q.remember(memory, obs)
    for b in range(3):
        single = q.init_memory(path[0, b])
        for obs in path[1:, b]:
            single = q.remember(single, obs)
        np.testing.assert_array_equal(q.features(memory)[b], q.features(single))


def test_untrained_is_uniform():
    q = make(modes=5)
    features = jnp.asarray(np.random.default_rng(1).normal(size=(7, 8)), jnp.float32)
    params = jax.jit(q.init)(jax.random.key(0))
    found = jax.jit(q.log_prob)(params, jax.random.key(2), features)
    np.testing.assert_allclose(found, -math.log(5), rtol=1e-6)


# What four z may look like, how many of them are commanded, and the noise under which they are told apart.
SQUARE = ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0))
PAIRS = ((-1.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (1.0, 0.0))
TOYS = {
    "square": (SQUARE, 4, 0.1),
    "pairs": (PAIRS, 4, 0.1),
    "near": (((-0.02, 0.0), (0.02, 0.0), (0.0, 0.0), (0.0, 0.0)), 2, 0.3),
    "far": (((-0.3, 0.0), (0.3, 0.0), (0.0, 0.0), (0.0, 0.0)), 2, 0.3),
    "near without noise": (((-0.02, 0.0), (0.02, 0.0), (0.0, 0.0), (0.0, 0.0)), 2, 0.0),
}
TESTED = 8192


@pytest.fixture(scope="module")
def learned():
    """(accuracy, MI in nats) of a discriminator fitted to each toy, on TESTED fresh paths; one program."""
    q = make(input="state", obs_dim=2)
    tx = optax.adam(1e-2)

    def run(centres, commanded, noise, key):
        noisy = dataclasses.replace(q, options=q.options.replace(noise=noise))
        key_init, key_train, key_test, key_q = jax.random.split(key, 4)

        def draw(key, rows):
            z = jax.random.randint(key, (rows,), 0, commanded)
            return q.features(q.init_memory(centres[z])), z

        def step(carry, _):
            params, opt, key = carry
            key, key_z, key_noise = jax.random.split(key, 3)
            features, z = draw(key_z, 256)
            gradient = jax.grad(lambda p: noisy.loss(p, key_noise, features, z)[0].mean())(params)
            updates, opt = tx.update(gradient, opt)
            return (optax.apply_updates(params, updates), opt, key), None

        params = q.init(key_init)
        (params, _, _), _ = jax.lax.scan(step, (params, tx.init(params), key_train), None, 300)
        features, z = draw(key_test, TESTED)
        loss, metrics = noisy.loss(params, key_q, features, z)
        return metrics["mode/q_accuracy"], jnp.log(commanded.astype(jnp.float32)) - loss.mean()

    toys = [jnp.asarray(column) for column in zip(*TOYS.values(), strict=True)]
    found = jax.jit(jax.vmap(run))(*toys, jax.random.split(jax.random.key(0), len(TOYS)))
    return {name: (float(found[0][i]), float(found[1][i])) for i, name in enumerate(TOYS)}


def test_learns_modes_that_differ(learned):
    accuracy, information = learned["square"]
    assert accuracy > 0.995
    assert information == pytest.approx(math.log(4), abs=0.03)


def test_information_of_modes_that_coincide_in_pairs(learned):
    """Four z, two places: half of log 4 can be told, and half the guesses are right (5 sigma)."""
    accuracy, information = learned["pairs"]
    assert information == pytest.approx(math.log(2), abs=0.03)
    assert accuracy == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(TESTED))


@pytest.mark.parametrize(("toy", "distance"), [("near", 0.02), ("far", 0.3)])
def test_noise_sets_the_scale_of_what_counts_as_the_same(learned, toy, distance):
    """Two points at +-d under noise .3: no q does better than Phi(d / .3), a good one does as well (5 sigma)."""
    accuracy, information = learned[toy]
    assert abs(accuracy - stats.norm.cdf(distance / 0.3)) < 5 * 0.5 / math.sqrt(TESTED)
    if toy == "near":
        assert information < 0.02


def test_without_noise_millimetres_are_enough(learned):
    accuracy, information = learned["near without noise"]
    assert accuracy == 1.0
    assert information > 0.5 * math.log(2)


@pytest.mark.parametrize(
    ("field", "value"),
    [("input", "path"), ("window", 0), ("slots", 0), ("noise", -0.1), ("activation", "tan")],
)
def test_refuses_what_cannot_work(field, value):
    with pytest.raises(ConfigError) as info:
        make(**{field: value})
    assert info.value.field == f"discriminator.{field}"
    assert info.value.value == value
