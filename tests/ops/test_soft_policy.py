"""SAC against arithmetic by hand, a whole update in float64 NumPy, and closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.ops import soft_policy as sac

LOG_2PI = np.log(2 * np.pi)


# r = 1, d = .9, heads 3 and 5, log pi = -2, alpha = .5: the soft value is 3 + 1 = 4 (min) or 4 + 1 = 5 (mean)
@pytest.mark.parametrize(("reduce", "running"), [("min", 1 + 0.9 * 4), ("mean", 1 + 0.9 * 5)])
def test_target_bootstraps_from_a_truncation_and_not_from_an_end(reduce, running):
    """A truncated decision has final = 0 and is no different here from one in the middle."""
    found = sac.soft_target(
        jnp.ones(2),
        jnp.full(2, 0.9),
        jnp.array([0.0, 1.0]),
        jnp.array([[3.0, 3.0], [5.0, 5.0]]),
        jnp.full(2, -2.0),
        0.5,
        reduce,
    )
    np.testing.assert_allclose(found, [running, 1.0], rtol=1e-6)


def test_target_takes_the_smaller_head_row_by_row():
    next_q = jnp.array([[1.0, 8.0, 3.0], [2.0, 4.0, 3.0], [5.0, 6.0, -1.0]])
    zero = jnp.zeros(3)
    np.testing.assert_array_equal(sac.soft_target(zero, 1.0, zero, next_q, zero, 1.0), [1, 4, -1])


def test_soft_value_of_an_endless_episode():
    """One state, reward r, policy of constant entropy: Q = r + g (Q + alpha H) gives Q = (r + g alpha H) / (1 - g).

    r = 1, g = .5, alpha = .2, H = 3: (1 + .3) / .5 = 2.6.
    """
    q = jnp.zeros((2, 1))
    for _ in range(40):
        target = sac.soft_target(jnp.ones(1), 0.5, jnp.zeros(1), q, jnp.full(1, -3.0), 0.2)
        q = sac.polyak(q, jnp.stack([target, target]), 1.0)
    np.testing.assert_allclose(q, 2.6, rtol=1e-6)


def test_target_carries_no_gradient():
    def total(q, log_prob, alpha):
        return sac.soft_target(jnp.ones(2), 0.9, jnp.zeros(2), q, log_prob, alpha).sum()

    slopes = jax.grad(total, (0, 1, 2))(jnp.ones((2, 2)), jnp.ones(2), 0.5)
    assert not any(np.asarray(slope).any() for slope in slopes)


def test_losses_by_hand():
    """Heads (1, 4) on y = 2: (1 + 4) / 2 = 2.5, slopes Q - y = -1, 2, and none in y.

    One target per head, (1, 6): (0 + 4) / 2 = 2.
    """
    q = jnp.array([[1.0], [4.0]])
    np.testing.assert_allclose(sac.critic_loss(q, jnp.array([2.0])), [2.5])
    np.testing.assert_allclose(sac.critic_loss(q, jnp.array([[1.0], [6.0]])), [2.0])
    slope_q, slope_y = jax.grad(lambda q, y: sac.critic_loss(q, y).sum(), (0, 1))(q, jnp.array([2.0]))
    np.testing.assert_allclose(slope_q, [[-1.0], [2.0]])
    np.testing.assert_array_equal(slope_y, [0.0])
    # alpha .5, log pi -3: -1.5 - min(1, 4) = -2.5, -1.5 - mean = -4; alpha gets no gradient from the actor
    log_prob = jnp.array([-3.0])
    np.testing.assert_allclose(sac.actor_loss(log_prob, q, 0.5), [-2.5])
    np.testing.assert_allclose(sac.actor_loss(log_prob, q, 0.5, "mean"), [-4.0])
    assert jax.grad(lambda a: sac.actor_loss(log_prob, q, a).sum())(0.5) == 0.0


def test_temperature_rises_while_the_policy_is_too_certain():
    """Entropies 1 and 4 around a target of 2: dJ/d log alpha = H - target = -1 (alpha rises) and 2 (it falls)."""
    slope = jax.grad(lambda a, log_prob: sac.temperature_loss(a, log_prob, 2.0))
    np.testing.assert_allclose(slope(0.3, jnp.asarray(-1.0)), -1.0)
    np.testing.assert_allclose(slope(0.3, jnp.asarray(-4.0)), 2.0)
    assert jax.grad(lambda log_prob: sac.temperature_loss(jnp.asarray(0.3), log_prob, 2.0))(-1.0) == 0.0


def test_polyak_is_a_mean_of_leaves():
    target, online = {"a": jnp.array([0.0, 8.0])}, {"a": jnp.array([4.0, 0.0])}
    np.testing.assert_allclose(sac.polyak(target, online, 0.25)["a"], [1.0, 6.0])
    np.testing.assert_array_equal(sac.polyak(target, online, 1.0)["a"], online["a"])
    np.testing.assert_array_equal(sac.polyak(target, online, 0.0)["a"], target["a"])


# --- one complete update: two linear heads Q_j(s, w) = c_j . (s, w, 1), mean A s + a, log sigma constant -----------

RATE, TAU, TARGET_ENTROPY = 0.1, 0.2, -1.0


def case(box):
    """A batch of 5 transitions with 2 observed and 2 acted numbers; every other one ends the task."""
    rng = np.random.default_rng(0)
    batch = {
        "s": rng.normal(size=(5, 2)),
        "w": rng.uniform(-1, 1, (5, 2)),
        "r": rng.normal(size=5),
        "d": 0.9 ** rng.integers(1, 4, 5),
        "final": np.array([0.0, 1, 0, 1, 0]),
        "next_s": rng.normal(size=(5, 2)),
    }
    state = {
        "critic": rng.normal(size=(2, 5)),
        "target": rng.normal(size=(2, 5)),
        "actor": {
            "A": 0.5 * rng.normal(size=(2, 2)),
            "a": rng.normal(size=2),
            "log_std": np.array([-0.5, 0.2]),
        },
        "log_alpha": np.array(-0.7),
    }
    return jax.tree.map(jnp.asarray, (state, batch)), (state, batch)


def linear_q(critic, s, w):
    return jnp.einsum("ni,bi->nb", critic, jnp.concatenate([s, w, jnp.ones((len(s), 1))], -1))


def draw(actor, s, key, box):
    return sac.sample(key, s @ actor["A"].T + actor["a"], actor["log_std"], box)


def gradients(state, batch, keys, box):
    """The four parts of an update, each from the values before it, in the order in which SAC takes them."""
    alpha = jnp.exp(state["log_alpha"])
    next_w, next_log_prob = draw(state["actor"], batch["next_s"], keys[0], box)
    next_q = linear_q(state["target"], batch["next_s"], next_w)
    target = sac.soft_target(batch["r"], batch["d"], batch["final"], next_q, next_log_prob, alpha)
    loss = lambda critic: sac.critic_loss(linear_q(critic, batch["s"], batch["w"]), target).mean()  # noqa: E731
    slope_critic = jax.grad(loss)(state["critic"])
    critic = state["critic"] - RATE * slope_critic

    def actor_loss(actor):
        w, log_prob = draw(actor, batch["s"], keys[1], box)
        return sac.actor_loss(log_prob, linear_q(critic, batch["s"], w), alpha).mean(), log_prob

    slope_actor, log_prob = jax.grad(actor_loss, has_aux=True)(state["actor"])
    slope_alpha = jax.grad(lambda x: sac.temperature_loss(x, log_prob, TARGET_ENTROPY).mean())(
        state["log_alpha"]
    )
    return {
        "td_target": target,
        "critic": slope_critic,
        "actor": slope_actor,
        "log_alpha": slope_alpha,
        "target": sac.polyak(state["target"], critic, TAU),
    }


def np_draw(actor, s, noise, box):
    """w and its log density by the textbook change of variables, float64."""
    x = s @ actor["A"].T + actor["a"] + np.exp(actor["log_std"]) * noise
    log_prob = -0.5 * noise**2 - actor["log_std"] - 0.5 * LOG_2PI
    if not box:
        return x, log_prob.sum(-1)
    return box * np.tanh(x), (log_prob - np.log(box * (1 - np.tanh(x) ** 2))).sum(-1)


def np_features(s, w):
    return np.concatenate([s, w, np.ones((len(s), 1))], -1)


def np_actor_loss(actor, critic, s, noise, alpha, box):
    w, log_prob = np_draw(actor, s, noise, box)
    return (alpha * log_prob - (critic @ np_features(s, w).T).min(0)).mean()


def central_differences(f, x, h=1e-6):
    slope = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        slope[i] = (f(up) - f(down)) / (2 * h)
    return slope


def reference(state, batch, noise, box):
    """The same update in float64: gradients by hand where they are linear, the actor's by central differences."""
    alpha, s, rows = np.exp(state["log_alpha"]), batch["s"], len(batch["s"])
    next_w, next_log_prob = np_draw(state["actor"], batch["next_s"], noise[0], box)
    next_q = state["target"] @ np_features(batch["next_s"], next_w).T
    value = next_q.min(0) - alpha * next_log_prob
    target = np.where(batch["final"] > 0, batch["r"], batch["r"] + batch["d"] * value)
    x = np_features(s, batch["w"])
    slope_critic = np.stack([(x.T @ (x @ c - target)) / rows for c in state["critic"]])
    critic = state["critic"] - RATE * slope_critic
    actor = state["actor"]
    slope_actor = {
        name: central_differences(
            lambda value, name=name: np_actor_loss({**actor, name: value}, critic, s, noise[1], alpha, box),
            actor[name],
        )
        for name in actor
    }
    _, log_prob = np_draw(actor, s, noise[1], box)
    return {
        "td_target": target,
        "critic": slope_critic,
        "actor": slope_actor,
        "log_alpha": -(log_prob + TARGET_ENTROPY).mean(),
        "target": (1 - TAU) * state["target"] + TAU * critic,
    }


@pytest.mark.parametrize("box", [0.0, 1.5])
def test_a_whole_update_equals_numpy(box):
    (state, batch), (np_state, np_batch) = case(box)
    found = jax.jit(gradients, static_argnums=3)(state, batch, jax.random.split(jax.random.key(1)), box)
    # with mean 0 and sigma 1 and no box, a draw is its noise; equal keys draw equal noise
    keys = jax.random.split(jax.random.key(1))
    zeros = jnp.zeros((5, 2))
    noise = [np.asarray(sac.sample(key, zeros, zeros)[0], np.float64) for key in keys]
    expected = reference(np_state, np_batch, noise, box)
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, rtol=2e-4, atol=2e-5), found, expected)
    assert all(np.abs(leaf).max() > 0.05 for leaf in jax.tree.leaves(expected))  # nothing is trivially 0


def test_the_actor_gradient_by_hand():
    """One number, no box, Q = 3 w, alpha = .5, w = m + e^l eps: loss = .5 (-eps^2/2 - l - ..) - 3 (m + e^l eps).

    dm = -3;  dl = -.5 - 3 e^l eps = -.5 - 3 (w - m).
    """

    def loss(mean, log_std):
        w, log_prob = sac.sample(jax.random.key(4), mean, log_std)
        return sac.actor_loss(log_prob, 3.0 * w[None, ..., 0], 0.5)

    mean, log_std = jnp.array([0.3]), jnp.array([-0.2])
    w, _ = sac.sample(jax.random.key(4), mean, log_std)
    slopes = jax.grad(loss, (0, 1))(mean, log_std)
    np.testing.assert_allclose(slopes[0], [-3.0], rtol=1e-5)
    np.testing.assert_allclose(slopes[1], -0.5 - 3 * (w - mean), rtol=1e-4)


def test_the_soft_optimum_has_the_same_loss_at_every_action():
    """For Q = -(w - c)^2 / 2k, pi* = exp(Q / alpha) / Z = N(c, alpha k), so alpha log pi* - Q = -alpha log Z.

    alpha = .2, k = 3, c = -1: log Z = log(2 pi .6) / 2.
    """
    alpha, k, c = 0.2, 3.0, -1.0
    w, log_prob = sac.sample(jax.random.key(5), jnp.full((100, 1), c), jnp.full(1, 0.5 * np.log(alpha * k)))
    loss = sac.actor_loss(log_prob, -jnp.square(w[None, :, 0] - c) / (2 * k), alpha)
    np.testing.assert_allclose(loss, -alpha * 0.5 * np.log(2 * np.pi * alpha * k), atol=2e-6)
