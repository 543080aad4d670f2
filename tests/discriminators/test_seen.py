"""What a discriminator sees of actions and ends, and paths as points."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.seeing import Played, remembered

CHUNK = (2, 1)


def make(spec=None, modes=2, horizon=4, chunk=CHUNK, **fields):
    cfg = plugin("discriminator", "categorical", **{"hidden": (16,), "noise": 0.0, **fields})
    return registry.build("discriminator", cfg, spec or ObsSpec.vector(1), modes, horizon, chunk=chunk)


def walk(q, values, ended=0.0):
    """Features after each of the observations `values`; before value i the chunk (10 i, 10 i + 1) was played."""
    memory = q.init_memory(jnp.array([values[0]], jnp.float32))
    found = [q.features(memory)]
    for i, value in enumerate(values[1:], 1):
        last = float(i == len(values) - 1) * ended
        played = Played(jnp.array([[10.0 * i], [10.0 * i + 1]]), jnp.asarray(last))
        memory = remembered(q, memory, jnp.array([value], jnp.float32), played)
        found.append(q.features(memory))
    return np.stack(found)


def test_an_action_is_seen_with_the_observation_it_was_taken_at():
    """The observation, the chunk of two actions, and whether there was a decision."""
    found = walk(make(input="action"), [1, 2, 3])
    np.testing.assert_array_equal(found, [[1, 0, 0, 0], [1, 10, 11, 1], [2, 20, 21, 1]])


def test_the_final_observation_is_marked():
    np.testing.assert_array_equal(walk(make(input="final"), [1, 2, 3], ended=1.0), [[1, 0], [2, 0], [3, 1]])


@pytest.mark.parametrize("kind", ["state", "window", "history"])
def test_the_others_do_not_mind_what_was_played(kind):
    q = make(input=kind)
    memory = q.init_memory(jnp.ones(1))
    told = remembered(q, memory, jnp.zeros(1), Played(jnp.ones(CHUNK), jnp.ones(())))
    jax.tree.map(np.testing.assert_array_equal, told, q.remember(memory, jnp.zeros(1)))


@pytest.mark.parametrize("kind", ["action", "final"])
def test_what_has_to_be_known_of_a_decision_is_asked_for(kind):
    q = make(input=kind)
    with pytest.raises(ValueError, match=kind):
        q.remember(q.init_memory(jnp.ones(1)), jnp.zeros(1))


def noisy(params):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: p + rng.standard_normal(p.shape, np.float32), params)


def test_of_paths_that_go_on_nothing_is_said_and_nothing_learned():
    """Two of five have ended: the mean of the scaled losses is the mean cross-entropy of these two."""
    q = make(input="final", modes=3)
    params = noisy(jax.jit(q.init)(jax.random.key(0)))
    features = jnp.array([[0.5, 0], [-0.5, 1], [0.2, 0], [0.9, 1], [0.1, 0]])
    z = jnp.array([0, 1, 2, 2, 0])
    log_q = jax.jit(q.log_prob)(params, jax.random.key(1), features)
    running = np.array([0, 2, 4])
    np.testing.assert_allclose(log_q[running], -math.log(3), rtol=1e-6)
    loss, metrics = q.loss(params, jax.random.key(1), features, z)
    np.testing.assert_array_equal(loss[running], 0.0)
    ends = np.array([log_q[1, 1], log_q[3, 2]])
    assert float(loss.mean()) == pytest.approx(-ends.mean(), rel=1e-5)
    right = np.mean([log_q[1].argmax() == 1, log_q[3].argmax() == 2])
    assert float(metrics["mode/q_accuracy"].mean()) == pytest.approx(right)
    none = q.loss(params, jax.random.key(2), features[running], z[running])[0]
    np.testing.assert_array_equal(none, 0.0)


def test_one_action_tells_what_the_state_before_it_cannot():
    """x is drawn whatever z is, the action is -1 or 1 by z: log 2 nats of an action, none of the state."""
    both = {kind: make(input=kind, chunk=(1, 1)) for kind in ("action", "state")}
    tx = optax.adam(3e-2)

    def draw(key, rows=512):
        key_z, key_x = jax.random.split(key)
        z, x = jax.random.randint(key_z, (rows,), 0, 2), jax.random.uniform(key_x, (rows, 1), minval=-1)
        return z, x, Played(jnp.where(z > 0, 1.0, -1.0)[:, None, None], jnp.zeros(rows))

    def learn(q, key):
        def seen(key):
            z, x, played = draw(key)
            return q.features(remembered(q, q.init_memory(x), x, played)), z

        def step(carry, key):
            params, state = carry
            key_draw, key_q = jax.random.split(key)
            gradient = jax.grad(lambda p: q.loss(p, key_q, *seen(key_draw))[0].mean())(params)
            updates, state = tx.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        key_init, key_steps, key_q, key_test = jax.random.split(key, 4)
        params = q.init(key_init)
        with jax.debug_key_reuse(False):
            params = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(key_steps, 100))[0][0]
        return math.log(2) - q.loss(params, key_q, *seen(key_test))[0].mean()

    found = {
        kind: float(jax.jit(lambda key, q=q: learn(q, key))(jax.random.key(0))) for kind, q in both.items()
    }
    assert found["action"] == pytest.approx(math.log(2), abs=0.02)
    assert abs(found["state"]) < 0.02  # 512 fresh examples of a q that knows nothing


def test_an_action_that_nobody_knows_is_refused():
    with pytest.raises(ConfigError) as info:
        make(input="action", chunk=(0, 0))
    assert info.value.field == "discriminator.input"


def test_points_lie_as_far_apart_as_paths():
    """RMS over the 5 slots of a history of the distance of observations, whose angle is its cosine and sine."""
    q = make(ObsSpec.vector(2, angles=(1,)), input="history")
    rng = np.random.default_rng(1)
    paths = rng.uniform(-3, 3, (2, 5, 2))

    def point(path):
        memory = q.init_memory(jnp.asarray(path[0], jnp.float32))
        for obs in path[1:]:
            memory = q.remember(memory, jnp.asarray(obs, jnp.float32))
        return np.asarray(q.points(q.features(memory)))

    a, b = (point(path) for path in paths)
    assert a.shape == (q.point_size,) == (15,)
    x, angle = paths[..., 0], paths[..., 1]
    square = (x[0] - x[1]) ** 2 + (np.cos(angle[0]) - np.cos(angle[1])) ** 2
    square += (np.sin(angle[0]) - np.sin(angle[1])) ** 2
    assert np.linalg.norm(a - b) == pytest.approx(math.sqrt(square.mean()), rel=1e-5)


def test_images_take_no_part_in_points():
    spec = ObsSpec.of({"image": ObsEntry((4, 4, 1), "image"), "low": ObsEntry((2,))})
    q = make(spec, input="window", window=2)
    dark = {"image": jnp.zeros((4, 4, 1), jnp.uint8), "low": jnp.array([0.3, 0.4])}
    bright = {**dark, "image": dark["image"] + 255}
    points = [q.points(q.features(q.init_memory(obs))) for obs in (dark, bright)]
    np.testing.assert_array_equal(*points)
    assert np.linalg.norm(points[0]) == pytest.approx(0.5)
    assert make(ObsSpec.of({"image": ObsEntry((4, 4, 1), "image")}), input="state").point_size == 0
    assert make(input="final").point_size == make(input="action").point_size == 0
