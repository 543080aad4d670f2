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
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.discriminators._seen import blur


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


@pytest.mark.parametrize(
    ("kind", "values", "draws"),
    [
        ("history", [1], [0, 0, 0, 0, 0]),
        ("history", [1, 2, 3], [0, 1, 2, 2, 2]),
        ("history", [1, 2, 1], [0, 1, 2, 2, 2]),  # back where it was: seen again, blurred anew
        ("history", [1, 2, 3, 4, 5], [0, 1, 2, 3, 4]),
        ("window", [1], [0, 0, 0]),
        ("window", [1, 2], [0, 0, 1]),
        ("window", [1, 2, 3, 4], [0, 1, 2]),
    ],
)
def test_one_draw_of_noise_for_each_remembered_observation(kind, values, draws):
    q = make(input=kind, horizon=4, window=3)
    features = q.features(remember(q, values))
    noise = np.asarray(blur(q.seen, jax.random.key(3), features))
    assert len(np.unique(noise)) == len(set(draws)) + (kind == "history")  # and one for the time
    same = noise[: len(draws), None] == noise[None, : len(draws)]
    np.testing.assert_array_equal(same, np.equal.outer(draws, draws))


def test_a_shift_of_an_episode_that_ended_early_is_blurred_at_the_stated_scale():
    """Paths at 0 and at d from the second observation on, n = 1 decision of 31 taken: what is to come copies it.

    With one draw the mean over all copies is N(d, sigma^2), and the best guess is right with probability
    Phi(d / 2 sigma) = Phi(.5) = .691; with 31 draws it was Phi(.5 sqrt 31) = .997. 4,096 paths: +-.036 at 5 sigma.
    """
    q = make(input="history", horizon=31, slots=32, noise=0.3)
    side = jnp.arange(4096) % 2
    memory = q.remember(q.init_memory(jnp.zeros((4096, 1))), 0.3 * side[:, None].astype(jnp.float32))
    features = q.features(memory)
    seen = features + 0.3 * blur(q.seen, jax.random.key(5), features)
    guess = seen[:, 1:32].mean(-1) > 0.15
    assert float((guess == side).mean()) == pytest.approx(stats.norm.cdf(0.5), abs=0.036)


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
        return metrics["mode/q_accuracy"].mean(), jnp.log(commanded.astype(jnp.float32)) - loss.mean()

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


SEEN = ObsSpec.of({"image": ObsEntry((16, 16, 1), "image"), "low": ObsEntry((2,)), "up": ObsEntry((1,))})


def glimpse(seed, *batch):
    rng = np.random.default_rng(seed)
    image = jnp.asarray(rng.integers(0, 256, (*batch, 16, 16, 1)), jnp.uint8)
    low, up = (jnp.asarray(rng.uniform(-1, 1, (*batch, size)), jnp.float32) for size in (2, 1))
    return {"image": image, "low": low, "up": up}


def test_a_dict_of_entries_is_remembered_in_slots():
    """A history of 2 decisions in 3 slots: vectors one after another by slot, then the time; images as bytes."""
    cfg = plugin("discriminator", "categorical", input="history", hidden=(8,))
    q = registry.build("discriminator", cfg, SEEN, 4, 2)
    first, second = glimpse(0, 5), glimpse(1, 5)
    features = q.features(q.remember(q.init_memory(first), second))
    slots = [np.concatenate([o["low"], o["up"]], -1) for o in (first, second, second)]
    expected = np.concatenate([*slots, np.full((5, 1), 0.5)], -1)
    np.testing.assert_array_equal(features["vectors"], expected)
    assert features["images"]["image"].dtype == jnp.uint8
    for slot, obs in enumerate((first, second, second)):
        np.testing.assert_array_equal(features["images"]["image"][:, slot], obs["image"])


def test_what_q_makes_of_images_and_that_they_get_no_noise():
    """With the vectors' weights at 0 the noise has no way to the logits; the image has."""
    cfg = plugin("discriminator", "categorical", input="state", hidden=(), noise=0.5)
    q = registry.build("discriminator", cfg, SEEN, 3, 2)
    params = jax.jit(q.init)(jax.random.key(0))
    kernel = np.array(params["params"]["Dense_0"]["kernel"])
    kernel[:] = np.random.default_rng(2).normal(size=kernel.shape)
    kernel[-3:] = 0.0  # the entries come by name: the image's features first
    params = {**params, "params": {"Dense_0": {**params["params"]["Dense_0"], "kernel": jnp.asarray(kernel)}}}
    log_prob = jax.jit(q.log_prob)
    features = q.features(q.init_memory(glimpse(3, 4)))
    one, other = (log_prob(params, jax.random.key(i), features) for i in (1, 2))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    changed = {**features, "images": {"image": 255 - features["images"]["image"]}}
    assert np.abs(log_prob(params, jax.random.key(3), changed) - one).max() > 1e-3
    kernel[-3:] = 1.0
    params["params"]["Dense_0"]["kernel"] = jnp.asarray(kernel)
    kernel[:, 0] = 0.0
    params["params"]["Dense_0"]["kernel"] = jnp.asarray(kernel)
    one, other = (log_prob(params, jax.random.key(i), features) for i in (4, 5))
    assert np.abs(one - other).max() > 1e-2


def test_angles_are_seen_without_their_jump():
    """One observation, an angle a: a and a + 2 pi are the same to q, a and a + 1 are not."""
    spec = ObsSpec.vector(2, angles=(1,))
    cfg = plugin("discriminator", "categorical", input="window", window=2, hidden=(8,), noise=0.0)
    q = registry.build("discriminator", cfg, spec, 3, 2)
    rng = np.random.default_rng(4)
    params = jax.tree.map(
        lambda p: p + rng.standard_normal(p.shape, np.float32), jax.jit(q.init)(jax.random.key(0))
    )
    log_prob = jax.jit(lambda obs: q.log_prob(params, jax.random.key(1), q.features(q.init_memory(obs))))
    obs = jnp.array([[0.3, 0.7]])
    np.testing.assert_allclose(log_prob(obs), log_prob(obs + jnp.array([0.0, 2 * np.pi])), atol=1e-5)
    assert np.abs(log_prob(obs) - log_prob(obs + jnp.array([0.0, 1.0]))).max() > 1e-2
