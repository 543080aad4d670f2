"""The weight of the intrinsic reward that a constraint sets."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.learners._dual import DualOptions, followed, shortfall, weighable, weighed
from tests.learners import _probed

OPTIONS = DualOptions(section="learner", keeps="mode/mi")
HPARAMS = {
    "stage.mi_coef": jnp.asarray(0.5),
    "stage.env_coef": jnp.asarray(1.0),
    "learner.keep_at": jnp.asarray(2.0),
    "learner.dual_rate": jnp.asarray(0.1),
    "learner.dual_gain": jnp.asarray(3.0),
}


Q = plugin("discriminator", "categorical", input="state", hidden=(4,), noise=0.2)
STEER = plugin("actor", "steer", hidden=(4,), fourier_octaves=0)
SMALL = {"num_envs": 4, "decisions": 4, "critic_hidden": (4,), "critic_octaves": 0}


def after(measured, hparams=HPARAMS):
    stats = weighable({}, OPTIONS, HPARAMS)
    stats, metrics = followed(stats, OPTIONS, hparams, {"mode/mi": jnp.asarray(measured)})
    assert float(metrics["mode/lambda"]) == 0.5
    return float(stats["multiplier"]), float(stats["lambda"])


def test_lambda_by_hand():
    """m = 1.5 of 2: e = .25; mu = .5 exp(.1 .25), lambda = mu exp(3 .25)."""
    mu, weight = after(1.5)
    assert mu == pytest.approx(0.5 * math.exp(0.025), rel=1e-6)
    assert weight == pytest.approx(0.5 * math.exp(0.025 + 0.75), rel=1e-6)


def test_what_is_met_needs_less():
    mu, weight = after(3.0)
    assert mu == pytest.approx(0.5 * math.exp(-0.05), rel=1e-6)
    assert weight == pytest.approx(0.5 * math.exp(-0.05 - 1.5), rel=1e-6)


@pytest.mark.parametrize(("measured", "env"), [(float("nan"), 1.0), (0.0, 0.0)])
def test_nothing_moves_without_a_figure_or_without_anything_to_weigh(measured, env):
    assert after(measured, {**HPARAMS, "stage.env_coef": jnp.asarray(env)}) == (0.5, 0.5)


def test_a_shortfall_is_relative_and_bounded():
    found = [float(shortfall(jnp.asarray(m), jnp.asarray(t))) for m, t in ((1, 2), (-9, 2), (9, 2), (-3, -2))]
    assert found == [0.5, 1.0, -1.0, 0.5]


def test_an_unknown_metric_is_named_with_those_there_are():
    stats = weighable({}, OPTIONS, HPARAMS)
    with pytest.raises(ConfigError, match="learner.keeps.*mode/mi.*ppo/entropy"):
        followed(stats, OPTIONS, HPARAMS, {"ppo/entropy": jnp.zeros(())})


def test_the_constraint_is_met_by_a_policy_that_answers_late():
    """m' = m + .05 (lambda / (lambda + .2) - m), the reward's pull against a decay: at t = .7 lambda ends at .47."""
    hparams = {**HPARAMS, "learner.keep_at": jnp.asarray(0.7)}
    stats, m = weighable({}, OPTIONS, hparams), 0.0
    for _ in range(800):
        stats, _ = followed(stats, OPTIONS, hparams, {"mode/mi": jnp.asarray(m)})
        weight = float(stats["lambda"])
        m += 0.05 * (weight / (weight + 0.2) - m)
    assert m == pytest.approx(0.7, rel=0.01)
    assert weight == pytest.approx(0.2 * 0.7 / 0.3, rel=0.03)


@pytest.mark.parametrize("name", ["ppo", pytest.param("sac", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_training_step_uses_the_weight_that_it_logs(name):
    """The same step with lambda fixed at the multiplier's value gives the same parameters, bit for bit."""
    sizes = {"ppo": {"epochs": 1, "minibatches": 1}, "sac": {"updates": 2, "capacity": 64, "warmup": 0}}[name]
    sizes |= SMALL
    learners = [
        _probed.build(plugin("learner", name, **sizes, keeps=keeps), STEER, Q) for keeps in ("", "mode/mi")
    ]

    ends = []
    for learner in learners:
        hp = jax.tree.map(lambda x: x[0], _probed.hparams(name, 1, {"mi_coef": 0.7}))
        state = learner.init(jax.random.key(0), hp, _probed.cloned(), ())
        state, metrics = jax.jit(learner.train_step)(state, ())
        ends.append(state)
    assert float(metrics["mode/lambda"]) == pytest.approx(0.7)
    for a, b in zip(*(jax.tree.leaves(end.params) for end in ends), strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(weighed(ends[1])["stage.mi_coef"]) == float(ends[1].stats["lambda"])
    assert float(ends[1].hparams["stage.mi_coef"]) == pytest.approx(0.7)


def test_a_weight_that_was_found_is_not_the_next_stages():
    """Discovery with a section of its own kept a constraint; fine-tuning without one has the weight it was given."""
    scalars = {key: x[0] for key, x in _probed.hparams("ppo", 1, {"mi_coef": 0.25}).items()}
    first = _probed.build(plugin("learner", "ppo", **SMALL, minibatches=1, keeps="mode/mi"), STEER, Q)
    state = first.init(jax.random.key(0), scalars, _probed.cloned(), ())
    state = state.replace(stats={**state.stats, "lambda": jnp.asarray(7.0)})
    assert float(weighed(state)["stage.mi_coef"]) == 7.0
    plain = _probed.build(plugin("learner", "ppo", **SMALL, minibatches=1), STEER, Q)
    then = plain.init(jax.random.key(1), scalars, state, ())
    assert float(weighed(then)["stage.mi_coef"]) == 0.25
    assert set(then.stats) == {"reference", "normalizer"}
