"""The student: taught by the reference of the same noise, played without it; its density against scipy."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PolicySpec
from tests.actors._chains import build, fresh, moved, observations

ROWS, MODES = 400, 2


def make(**fields):
    """(actor, reference, params that answer something, observations, commands)."""
    actor, reference = build("one_step", modes=MODES, chunk=(2, 2), **{"ramp": 0, **fields})
    return actor, reference, moved(fresh(actor, reference)), observations(ROWS), jnp.arange(ROWS) % MODES


def student(actor, params, obs, z, x0):
    """m(s, z, x_0) [ROWS, 4]."""
    other = jnp.concatenate([jax.nn.one_hot(z, MODES), x0.reshape(len(x0), -1)], -1)
    return actor.network.apply(params["network"], obs, other)


def test_student_and_teacher_see_one_noise():
    actor, reference, params, obs, z = make()
    key = jax.random.key(1)
    chunk, taught = jax.jit(actor.paired)(params, reference, key, obs, z)
    w = actor.policy.base_distribution(reference, obs).sample(seed=jax.random.clone(key))
    wanted = jax.jit(actor.policy.transport)(reference, obs, w).reshape(ROWS, -1)
    np.testing.assert_allclose(taught, wanted, atol=1e-5)
    np.testing.assert_allclose(chunk, student(actor, params, obs, z, w), atol=1e-5)
    assert np.abs(chunk - taught).max() > 0.1


def test_played_it_is_the_student_alone():
    """Without the teacher: a reference whose transport fails is not missed."""
    actor, reference, params, obs, z = make()

    class Silent:
        spec = actor.policy.spec
        base_distribution = actor.policy.base_distribution

    alone, key = dataclasses.replace(actor, policy=Silent()), jax.random.key(2)
    played = alone.play(params, reference, key, obs, z)
    w = actor.policy.base_distribution(reference, obs).sample(seed=jax.random.clone(key))
    np.testing.assert_allclose(played.reshape(ROWS, -1), student(actor, params, obs, z, w), atol=1e-5)
    likeliest = alone.likeliest(params, reference, jax.random.key(3), obs, z)
    middle = student(actor, params, obs, z, jnp.zeros((ROWS, 4)))  # of N(0, 1)
    np.testing.assert_allclose(likeliest.reshape(ROWS, -1), middle, atol=1e-5)


def test_distillation_alone_brings_the_student_to_its_teacher():
    """The mean squared distance is the anchor's; 300 steps of gradient descent take nine tenths of it."""
    actor, reference, params, obs, z = make(hidden=(64,))

    def apart(params, key):
        chunk, taught = actor.paired(params, reference, key, obs, z)
        return jnp.square(chunk - taught).mean()

    @jax.jit
    def descend(params, key):
        def step(params, key):
            loss, slope = jax.value_and_grad(apart)(params, key)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, slope), loss

        return jax.lax.scan(step, params, jax.random.split(key, 300))

    losses = np.asarray(descend(params, jax.random.key(4))[1])
    assert losses[-20:].mean() < 0.1 * losses[:2].mean()


@pytest.mark.parametrize(("decisions", "share"), [(0, 0.0), (100, 0.25), (4000, 1.0)])
def test_the_teacher_plays_until_the_ramp_is_over(decisions, share):
    """min(n / 400, 1) of decisions are the student's, within 5 standard errors; the others are not trained on."""
    actor, reference, params, obs, z = make(ramp=400)
    exploring, key = actor.exploring(params, jnp.asarray(decisions)), jax.random.key(5)
    chunk, taught = jax.jit(actor.paired)(exploring, reference, key, obs, z)
    own = ~np.isclose(chunk, taught, atol=1e-6).all(-1)
    assert abs(own.mean() - share) <= 5 * math.sqrt(share * (1 - share) / ROWS)
    _, info = jax.jit(actor.act)(exploring, reference, jax.random.clone(key), obs, z)
    on = np.asarray(info["on"])
    assert abs(on.mean() - share) <= 5 * math.sqrt(share * (1 - share) / ROWS)
    ratio = np.asarray(jax.jit(actor.log_ratio)(moved(params, 1), reference, obs, z, info))[:, 0]
    np.testing.assert_array_equal(ratio == 0, on == 0)


def test_density_is_the_normal_one_given_the_noise():
    actor, reference, params, obs, z = make()
    _, info = jax.jit(actor.act)(params, reference, jax.random.key(6), obs, z)
    mean = student(actor, params, obs, z, info["x0"])
    std = np.exp(np.asarray(params["log_std"]))[np.asarray(z)]
    expected = stats.norm.logpdf(info["x"], mean, std).sum(-1)
    np.testing.assert_allclose(info["log_prob"], expected, rtol=1e-3, atol=1e-3)


def test_it_needs_a_teacher():
    with pytest.raises(ConfigError, match=r"actor\.name.*no teacher"):
        registry.build(
            "actor", plugin("actor", "one_step"), spec=PolicySpec(2, 2, 2), policy=None, num_modes=1
        )


def test_while_the_teacher_plays_what_is_drawn_is_the_teachers():
    """At a share of 0 what SAC draws is the reference's chunk, at 1 the student's, at .3 one or the other."""
    actor, reference, params, obs, z = make(ramp=10)
    draw = jax.jit(lambda params, key: actor.sample(params, reference, key, obs, z)[0])

    def at(decisions):
        return np.asarray(draw(actor.exploring(params, jnp.asarray(decisions)), jax.random.key(4)))

    key = jax.random.split(jax.random.split(jax.random.key(4))[0])[0]
    w = actor.policy.base_distribution(reference, obs).sample(seed=key)
    taught = jax.jit(actor.policy.transport)(reference, obs, w).reshape(ROWS, -1)
    none, some, all_of_it = at(0), at(3), at(10)
    np.testing.assert_allclose(none, taught, atol=1e-5)
    assert (np.abs(all_of_it - taught).max(-1) > 1e-3).all()
    students = (some == all_of_it).all(-1)
    assert ((some == none).all(-1) | students).all()
    assert abs(students.mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / ROWS)
