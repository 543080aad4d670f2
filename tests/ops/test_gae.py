"""GAE against arithmetic by hand, its limits, and a plain Python loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.ops.gae import gae

compiled = jax.jit(gae)


def column(*values):
    return jnp.asarray(values, jnp.float32)[:, None]


# Three decisions with rewards 1, 2, 3, values V(s_t) = .5, 1, 1.5 and V(s'_t) = 1, 1.5, 2; gamma .5, lambda .5,
# so that a running step decays by gamma lambda = .25. Without ends:
#   delta = 1 + .5*1 - .5 = 1 ;  2 + .5*1.5 - 1 = 1.75 ;  3 + .5*2 - 1.5 = 2.5
GOLDEN = {
    # A2 = 2.5 ; A1 = 1.75 + .25*2.5 = 2.375 ; A0 = 1 + .25*2.375 = 1.59375
    "running": ((0, 0, 0), (0, 0, 0), (1.59375, 2.375, 2.5)),
    # the task ends with step 1: delta_1 = 2 - 1 = 1 and nothing follows ; A0 = 1 + .25*1 = 1.25
    "final": ((0, 1, 0), (0, 1, 0), (1.25, 1.0, 2.5)),
    # the limit ends step 1: V of the observation it ended in (1.5) still counts, delta_1 = 1.75, but the sum
    # stops: A1 = 1.75 ; A0 = 1 + .25*1.75 = 1.4375
    "truncated": ((0, 0, 0), (0, 1, 0), (1.4375, 1.75, 2.5)),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden(case):
    final, done, expected = GOLDEN[case]
    advantage, target = compiled(
        column(1, 2, 3),
        column(0.5, 1, 1.5),
        column(1, 1.5, 2),
        column(*final),
        column(*done),
        jnp.full((3, 1), 0.5),
        0.5,
    )
    np.testing.assert_allclose(advantage[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(target[:, 0], np.array(expected) + [0.5, 1, 1.5], rtol=1e-6)


def test_golden_both_ends_in_one_batch_with_resets():
    """Environment 0 terminates at step 1, environment 1 is truncated there; both go on in a new episode.

    The new episodes start in states of value 10, which must not leak back: only V(s'_1), taken before the reset,
    counts. gamma = 1, lambda = 1, rewards 1, V(s_0) = V(s_1) = 2, V(s'_0) = 2, V(s'_1) = 4.
      step 2, both:   delta = 1 + 10 - 10 = 1                  A2 = 1
      env 0, step 1:  delta = 1 + 0 - 2 = -1                   A1 = -1
      env 1, step 1:  delta = 1 + 4 - 2 = 3                    A1 = 3
      step 0:         delta = 1 + 2 - 2 = 1                    A0 = 1 - 1 = 0  and  1 + 3 = 4
    """
    advantage, target = compiled(
        jnp.ones((3, 2)),
        jnp.array([[2.0, 2], [2, 2], [10, 10]]),
        jnp.array([[2.0, 2], [4, 4], [10, 10]]),
        jnp.array([[0.0, 0], [1, 0], [0, 0]]),
        jnp.array([[0.0, 0], [1, 1], [0, 0]]),
        jnp.ones((3, 2)),
        1.0,
    )
    np.testing.assert_allclose(advantage, [[0, 4], [-1, 3], [1, 1]], rtol=1e-6)
    np.testing.assert_allclose(target, [[2, 6], [1, 5], [11, 11]], rtol=1e-6)


def test_per_step_discounts():
    """Chunks of 2 and 1 control steps at gamma = .5: d = .25, .5; lambda = 1, values 4.

    A1 = 1 + .5*4 - 4 = -1 ; A0 = (1 + .25*4 - 4) + .25*(-1) = -2.25
    """
    advantage, _ = compiled(
        column(1, 1), column(4, 4), column(4, 4), column(0, 0), column(0, 0), column(0.25, 0.5), 1.0
    )
    np.testing.assert_allclose(advantage[:, 0], [-2.25, -1.0], rtol=1e-6)


def random_batch(seed, steps=12, envs=7):
    rng = np.random.default_rng(seed)
    done = (rng.random((steps, envs)) < 0.3).astype(np.float32)
    batch = {
        "reward": rng.normal(size=(steps, envs)),
        "value": rng.normal(size=(steps, envs)),
        "next_value": rng.normal(size=(steps, envs)),
        "final": done * (rng.random((steps, envs)) < 0.5),
        "done": done,
        "discount": 0.9 ** rng.integers(1, 5, (steps, envs)),
    }
    return {name: np.asarray(array, np.float32) for name, array in batch.items()}


def loop(batch, lam):
    """The definition, one environment and one step at a time, in float64."""
    steps, envs = batch["reward"].shape
    advantage = np.zeros((steps, envs))
    for b in range(envs):
        following = 0.0
        for t in reversed(range(steps)):
            discount = float(batch["discount"][t, b])
            bootstrap = 0.0 if batch["final"][t, b] else discount * float(batch["next_value"][t, b])
            delta = float(batch["reward"][t, b]) + bootstrap - float(batch["value"][t, b])
            following = delta + (0.0 if batch["done"][t, b] else discount * lam * following)
            advantage[t, b] = following
    return advantage


@pytest.mark.parametrize("lam", [0.0, 0.37, 0.95, 1.0])
def test_equals_a_python_loop_on_random_ends(lam):
    for seed in range(4):
        batch = random_batch(seed)
        advantage, target = compiled(**batch, gae_lambda=lam)
        expected = loop(batch, lam)
        np.testing.assert_allclose(advantage, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(target, expected + batch["value"], rtol=1e-4, atol=1e-5)


def test_lambda_zero_is_the_one_step_error():
    batch = random_batch(9)
    advantage, _ = compiled(**batch, gae_lambda=0.0)
    bootstrap = batch["discount"] * (1 - batch["final"]) * batch["next_value"]
    np.testing.assert_allclose(advantage, batch["reward"] + bootstrap - batch["value"], rtol=1e-5, atol=1e-6)


def test_lambda_one_is_the_return_whatever_the_values_inside():
    """With lambda = 1 and V(s'_t) = V(s_{t+1}) the values between telescope away: targets are the returns."""
    rng = np.random.default_rng(3)
    reward, value = rng.normal(size=6), rng.normal(size=7)
    _, target = compiled(
        column(*reward),
        column(*value[:-1]),
        column(*value[1:]),
        column(*np.zeros(6)),
        column(*np.zeros(6)),
        jnp.full((6, 1), 0.9),
        1.0,
    )
    expected = [
        sum(0.9 ** (i - t) * reward[i] for i in range(t, 6)) + 0.9 ** (6 - t) * value[6] for t in range(6)
    ]
    np.testing.assert_allclose(target[:, 0], expected, rtol=1e-5)


def test_gradient_does_not_invent_ends():
    """dA_0/dr_2 = (gamma lambda)^2 while nothing ended, 0 behind an end."""
    batch = {name: jnp.asarray(array) for name, array in random_batch(1, steps=3, envs=1).items()}
    running = batch | {name: jnp.zeros((3, 1)) for name in ("final", "done")}
    running["discount"] = jnp.full((3, 1), 0.5)

    def first(reward, done):
        return gae(**(running | {"reward": reward, "done": done}), gae_lambda=0.5)[0][0, 0]

    slope = jax.jit(jax.grad(first))
    np.testing.assert_allclose(slope(batch["reward"], jnp.zeros((3, 1)))[:, 0], [1, 0.25, 0.0625], rtol=1e-6)
    np.testing.assert_allclose(slope(batch["reward"], column(0, 1, 0))[:, 0], [1, 0.25, 0], rtol=1e-6)
