from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.policies.mean_flow import mean_velocity_target

from ._toys import POINT, batch, build, draw, fit, hparams, moved, two_points

MEAN, STD = 0.4, 0.3


def spread(t):
    """Standard deviation of x_t = t x1 + (1 - t) x0 with x1 ~ N(MEAN, STD^2) and x0 ~ N(0, 1)."""
    return jnp.sqrt((1 - t) ** 2 + (t * STD) ** 2)


def moved_to(x, t, end):
    """The flow of the marginal velocity: it keeps (x_t - t MEAN) / spread(t)."""
    return end * MEAN + spread(end) / spread(t) * (x - t * MEAN)


def test_exact_average_velocity_is_its_own_target():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((40, 1, 1)), jnp.float32)
    t, span = jnp.asarray(rng.uniform(0, 0.6, 40), jnp.float32), jnp.asarray(rng.uniform(0.1, 0.4, 40))
    end = t + span

    def u(x, t):
        wide = t[:, None, None]
        return (moved_to(x, wide, end[:, None, None]) - x) / (end - t)[:, None, None]

    # the marginal velocity is the derivative of the flow in its end time, at end = t
    wide = t[:, None, None]
    _, v = jax.jvp(lambda end: moved_to(x, wide, end), (wide,), (jnp.ones_like(wide),))
    value, target = mean_velocity_target(u, x, t, end, v)
    np.testing.assert_allclose(target, value, rtol=1e-3, atol=1e-3)
    assert np.abs(np.asarray(value - v)).max() > 0.1


def test_target_passes_no_gradient():
    def total(scale):
        x, t = jnp.ones((1, 1, 1)), jnp.zeros(1)
        value, target = mean_velocity_target(lambda x, t: scale * x * (1 + t), x, t, t + 1, 2 * x)
        # u = scale x (1 + t): du/dt at (1, 0) along v = 2 is 3 scale, so the target is 2 + 3 scale
        np.testing.assert_allclose(jax.lax.stop_gradient(target).ravel(), 2 + 3 * 0.5)
        return (value + 10 * target).sum()

    assert jax.grad(total)(0.5) == 1.0


def test_without_intervals_the_loss_is_flow_matching():
    policy, data = build("mean_flow"), batch()
    v = moved(policy, data)
    hp = hparams("mean_flow", interval_fraction=0.0, adaptive=0.5)
    loss = jax.jit(lambda v, key: policy.loss(v, key, data, hp))(v, jax.random.key(1))
    key_noise, key_time = jax.random.split(jax.random.key(1))
    x0 = np.asarray(policy.prior.distribution({}, data.obs).sample(seed=key_noise))
    t, end = policy.draw_times(key_time, (5,), jnp.asarray(0.0))
    np.testing.assert_array_equal(t, end)
    wide = np.asarray(t)[:, None, None]
    x = wide * np.asarray(data.chunk) + (1 - wide) * x0
    gap = np.asarray(policy.velocity(v, data.obs)(jnp.asarray(x), t, end)) - (np.asarray(data.chunk) - x0)
    expected = []
    for b in range(5):
        rows = np.asarray(data.mask[b]) == 1
        error = np.mean(gap[b][rows] ** 2) if rows.any() else 0.0
        expected.append(error / np.sqrt(error + 0.01))
    np.testing.assert_allclose(loss.per_example, expected, rtol=1e-4, atol=1e-6)


def test_times_are_ordered_and_the_asked_share_is_an_interval():
    policy, n = build("mean_flow"), 4000
    t, end = (np.asarray(x) for x in policy.draw_times(jax.random.key(2), (n,), jnp.asarray(0.3)))
    assert (t >= 0).all()
    assert (t <= end).all()
    assert (end <= 1).all()
    assert abs((t < end).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / n)
    # the single times are logit-normal; Kolmogorov-Smirnov: P(sqrt(n) D > 2.65) = 1.6e-6
    single = t[t == end]
    assert stats.kstest(np.log(single / (1 - single)), stats.norm().cdf).statistic < 2.65 / np.sqrt(
        len(single)
    )
    # of an interval they are its minimum: F = 1 - (1 - Phi)^2
    early = t[t < end]
    law = stats.kstest(np.log(early / (1 - early)), lambda x: 1 - stats.norm.sf(x) ** 2)
    assert law.statistic < 2.65 / np.sqrt(len(early))


def test_two_steps_are_two_jumps():
    one, two = build("mean_flow"), build("mean_flow", steps=2)
    data = batch()
    v = moved(one, data)
    w, chunk = draw(two, v, data.obs)
    half = w + 0.5 * two.velocity(v, data.obs)(w, jnp.array(0.0), jnp.array(0.5))
    expected = half + 0.5 * two.velocity(v, data.obs)(half, jnp.array(0.5), jnp.array(1.0))
    np.testing.assert_allclose(chunk, expected, rtol=1e-4, atol=1e-5)
    jump = w + one.velocity(v, data.obs)(w, jnp.array(0.0), jnp.array(1.0))
    np.testing.assert_allclose(draw(one, v, data.obs)[1], jump, rtol=1e-4, atol=1e-5)


def test_one_step_covers_two_points_with_their_shares():
    policy = build("mean_flow", POINT, hidden=(64, 64))
    v = fit(policy, two_points(0.25), hparams("mean_flow"), steps=800, learning_rate=1e-2)
    _, chunk = draw(policy, v, jnp.zeros((2000, 1)))
    # a smooth map leaves some mass between the points; what is near one of them is most of it
    assert (np.abs(np.abs(chunk) - 0.8) < 0.2).mean() > 0.75
    # 5 sigma of 2000 draws, and .04 for what is left to learn
    assert abs((chunk < 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000) + 0.04


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("policy.steps", {"steps": 0}),
        ("policy.interval_fraction", {"interval_fraction": 1.5}),
        ("policy.adaptive", {"adaptive": -0.5}),
        ("policy.logit_normal", {"logit_normal": (0.0,)}),
        ("policy.logit_normal", {"logit_normal": (0.0, 0.0)}),
        ("prior.name", {"prior": "categorical"}),
    ],
)
def test_impossible_values_are_refused(field, fields):
    with pytest.raises(ConfigError, match=field):
        build("mean_flow", **fields)
