"""The learner on probe environments: values, credit, actions and modes, each with a known answer.

If a probe fails, look at what it alone needs:
  constant value head and targets · observed input of the critic · delayed discounting over steps ·
  endless the full horizon is the end · aimed policy gradient · sloped its input · modes the MI reward.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Variables
from mmbc_jax.learners._ppo_update import RATES
from mmbc_jax.learners._start import episode_horizon
from tests.learners import _probed
from tests.learners._probed import GAMMA
from tests.toys.probes import LENGTH, NEVER, probe

ITERATIONS = 120
PROBES = {
    "constant": probe(constant=1.0),
    "observed": probe(observed=1.0),
    "delayed": probe(delayed=1.0, steps=2.0),
    "endless": probe(constant=1.0, steps=NEVER),
    "aimed": probe(aimed=1.0, target=0.5),
    "sloped": probe(aimed=1.0, slope=0.5),
    "modes": probe(),
    "frozen": probe(aimed=1.0, target=0.5),
}
NAMES = list(PROBES)
UPDATES = 8  # epochs x minibatches of an iteration


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """JAX takes a scan over keys under vmap for a reuse; test_epoch.py checks single runs instead."""
    with jax.debug_key_reuse(False):
        yield


LEARNER = _probed.build(
    plugin(
        "learner",
        "ppo",
        **{"num_envs": 64, "decisions": 4, "epochs": 4, "minibatches": 2, "gamma": GAMMA},
        **{"critic_hidden": (32,), "critic_octaves": 0},
    ),
    plugin("actor", "steer", hidden=(16,), fourier_octaves=0, init_std=0.7),
    plugin("discriminator", "categorical", input="state", hidden=(16,), noise=0.2),
)


def make_hparams(**changes):
    """[R] scalars: quick learning, no target KL, no MI but in the two probes of it."""
    quick = {"learning_rate": 5e-3, "critic_learning_rate": 1e-2, "target_kl": 1e9}
    quick |= {"discriminator_learning_rate": 1e-2, **changes}
    runs = np.arange(len(NAMES))
    stage = {
        "iterations": ITERATIONS,
        "mi_coef": runs >= NAMES.index("modes"),
        "train_reward": runs != NAMES.index("frozen"),
    }
    return _probed.hparams("ppo", len(NAMES), stage, **quick)


@pytest.fixture(scope="module")
def begin():
    """`begin(hparams, probes) -> state` of one run for each probe; all runs share their keys."""
    parent = _probed.cloned()
    compiled = jax.jit(
        jax.vmap(lambda hp, probe, key: _probed.start(LEARNER, hp, probe, key, parent), (0, 0, None))
    )

    def make(hparams=None, probes=PROBES):
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *probes.values())
        return compiled(make_hparams() if hparams is None else hparams, stacked, jax.random.key(0))

    return make


@pytest.fixture(scope="module")
def step():
    """One iteration of all runs, compiled once for the whole file; metrics [R]."""
    compiled = jax.jit(jax.vmap(lambda state: LEARNER.train_step(state, ())))

    def one(state):
        state, metrics = compiled(state)
        return state, jax.tree.map(np.asarray, metrics)

    return one


@pytest.fixture(scope="module")
def learned(begin, step):
    """(state, metrics of the last iteration) after training on every probe."""
    state = begin()
    for _ in range(ITERATIONS):
        state, metrics = step(state)
    return state, metrics


def run_of(tree, name):
    return jax.tree.map(lambda x: x[NAMES.index(name)], tree)


@pytest.fixture(scope="module")
def value(learned):
    apply = jax.jit(LEARNER.critic.apply)

    def of(name, x, steps, phase):
        """[6] V(s, z, t) for both modes and three actions taken last."""
        last = jnp.array([-0.5, 0.0, 0.5] if steps else [0.0] * 3)
        obs = jnp.stack([jnp.full(3, x), last, jnp.full(3, phase)], -1)
        params, time = run_of(learned[0].params["critic"], name), jnp.full(3, steps / LENGTH)
        return np.concatenate([apply(params, obs, jnp.full(3, z), time) for z in (0, 1)])

    return of


@pytest.mark.parametrize("x", [-1.0, 1.0])
def test_value_of_a_constant_reward(value, x):
    """One step, reward 1, then the task ends: V = 1 and not 1 / (1 - gamma)."""
    np.testing.assert_allclose(value("constant", x, 0, 0.0), 1.0, atol=0.05)


@pytest.mark.parametrize("x", [-1.0, 1.0])
def test_value_sees_the_observation(value, x):
    np.testing.assert_allclose(value("observed", x, 0, 0.0), x, atol=0.1)


@pytest.mark.parametrize("x", [-1.0, 1.0])
def test_value_of_a_delayed_reward_is_discounted(value, x):
    """Two steps, reward 1 in the second: V = gamma at the start, 1 after the first."""
    np.testing.assert_allclose(value("delayed", x, 0, 0.0), GAMMA, atol=0.1)
    np.testing.assert_allclose(value("delayed", x, 1, 0.5), 1.0, atol=0.1)


@pytest.mark.parametrize("steps", range(LENGTH))
def test_value_ends_with_the_full_horizon(value, steps):
    """Reward 1 for 4 steps and no more: V = (1 - gamma^left) / (1 - gamma), 1.875, 1.75, 1.5 and 1.

    A bootstrap from V(s, time = 1), which nothing ever trains, gave 2 at every step: loitering paid.
    """
    expected = (1 - GAMMA ** (LENGTH - steps)) / (1 - GAMMA)
    np.testing.assert_allclose(value("endless", 1.0, steps, steps / NEVER), expected, atol=0.1)


@pytest.fixture(scope="module")
def action(learned):
    act = jax.jit(LEARNER.actor.act)

    def of(name, x, z):
        """Mean of 500 actions at the start of an episode, clipped as the environment does."""
        obs = jnp.broadcast_to(jnp.array([x, 0.0, 0.0]), (500, 3))
        params = run_of(learned[0].params["actor"], name)
        chunk, _ = act(params, Variables({}), jax.random.key(9), obs, jnp.full(500, z))
        return float(jnp.clip(chunk, -1, 1).mean())

    return of


@pytest.mark.parametrize("z", [0, 1])
@pytest.mark.parametrize("x", [-1.0, 1.0])
def test_action_moves_to_where_the_reward_is(action, x, z):
    assert action("aimed", x, z) == pytest.approx(0.5, abs=0.15)
    assert action("sloped", x, z) == pytest.approx(0.5 * x, abs=0.15)


def test_mutual_information_drives_the_modes_apart(learned, action):
    """No reward but that of the information: the last action comes to say which mode was commanded."""
    _, metrics = learned
    assert run_of(metrics, "modes")["mode/mi"] > 0.8 * math.log(2)
    assert run_of(metrics, "modes")["mode/q_accuracy"] > 0.95
    for x in (-1.0, 1.0):
        assert abs(action("modes", x, 0) - action("modes", x, 1)) > 1.0


def test_learning_shows_in_the_metrics(learned):
    state, metrics = learned
    assert np.asarray(state.step).tolist() == [ITERATIONS] * len(NAMES)
    assert run_of(metrics, "observed")["ppo/explained_variance"] > 0.95
    assert run_of(metrics, "constant")["rollout/env_reward"] == pytest.approx(1.0)
    # episodes of 1 step: every decision of 64 x 4 ends one; without an end the limit does, every 4th
    assert run_of(metrics, "constant")["rollout/episodes"] == 256
    assert run_of(metrics, "endless")["rollout/episodes"] == 64
    assert (metrics["train/skipped_updates"] == 0).all()


def test_a_frozen_discriminator_stays_bit_for_bit(begin, learned):
    before, after = begin(), learned[0]
    same = jax.tree.map(
        lambda a, b: [np.array_equal(a[i], b[i]) for i in range(len(NAMES))],
        before.params["reward"],
        after.params["reward"],
    )
    same = np.array(jax.tree.leaves(same, is_leaf=lambda x: isinstance(x, list)))
    assert same[:, NAMES.index("frozen")].all()
    assert not same[:, NAMES.index("modes")].any()
    for part in ("actor", "critic"):
        pairs = zip(
            jax.tree.leaves(run_of(before.params[part], "frozen")),
            jax.tree.leaves(run_of(after.params[part], "frozen")),
            strict=True,
        )
        assert not all(np.array_equal(a, b) for a, b in pairs)


def adam_steps(state, part):
    """[R] updates that an optimiser has applied."""
    found = []

    def note(path, leaf):
        if jax.tree_util.keystr(path).endswith(".count"):
            found.append(np.asarray(leaf))

    jax.tree_util.tree_map_with_path(note, state.opt_state[part])
    assert found
    return found[0]


def test_target_kl_stops_the_actor_alone(begin, step):
    """The first update sees ratio 1 and KL 0; the second finds the KL of the first and is the last."""
    stopped, metrics = step(begin(make_hparams(**{"target_kl": 1e-6})))
    free, free_metrics = step(begin())
    aimed = NAMES.index("aimed")
    assert metrics["ppo/kl_stopped"][aimed] == 1
    assert free_metrics["ppo/kl_stopped"][aimed] == 0
    assert adam_steps(free, "actor")[aimed] == UPDATES
    assert 1 <= adam_steps(stopped, "actor")[aimed] <= 2
    assert adam_steps(stopped, "critic")[aimed] == UPDATES
    assert adam_steps(stopped, "reward")[aimed] == UPDATES
    for part, same in (("actor", False), ("critic", True), ("reward", True)):
        pairs = zip(jax.tree.leaves(free.params[part]), jax.tree.leaves(stopped.params[part]), strict=True)
        assert all(np.array_equal(a[aimed], b[aimed]) for a, b in pairs) == same
    again, metrics = step(stopped)  # the stop lasts one iteration
    assert adam_steps(again, "actor")[aimed] > adam_steps(stopped, "actor")[aimed]


def test_a_gradient_that_is_not_finite_is_skipped_and_counted(begin, step):
    """NaN weights poison actor and critic of one run for 8 updates each; q and the other runs go on."""
    bad = NAMES.index("constant")
    hparams = make_hparams()
    for name in ("stage.env_coef", "learner.entropy_coef"):
        hparams[name] = hparams[name].at[bad].set(jnp.nan)
    start = begin(hparams)
    healthy, _ = step(begin())
    state, metrics = step(start)
    expected = np.zeros(len(NAMES))
    expected[bad] = 2 * UPDATES
    np.testing.assert_array_equal(metrics["train/skipped_updates"], expected)
    np.testing.assert_array_equal(metrics["train/skipped_in_a_row"], expected / 2)
    for part in ("actor", "critic", "reward"):
        old, new = jax.tree.leaves(start.params[part]), jax.tree.leaves(state.params[part])
        kept = [np.array_equal(a[bad], b[bad]) for a, b in zip(old, new, strict=True)]
        assert all(kept) == (part != "reward")
        for a, b in zip(new, jax.tree.leaves(healthy.params[part]), strict=True):
            np.testing.assert_array_equal(np.delete(a, bad, 0), np.delete(b, bad, 0))
    state, metrics = step(state)
    assert metrics["train/skipped_updates"][bad] == 4 * UPDATES
    assert metrics["train/skipped_in_a_row"][bad] == 2 * UPDATES


def test_a_reward_that_is_not_finite_is_no_lesson(begin, step):
    """Every episode of one run diverges with its first step: counted, in no figure, and nothing is skipped."""
    bad = NAMES.index("constant")
    state, metrics = step(begin(probes={**PROBES, "constant": probe(constant=float("nan"))}))
    assert not metrics["train/skipped_updates"].any()
    expected = np.zeros(len(NAMES))
    expected[bad] = 64 * 4
    np.testing.assert_array_equal(metrics["rollout/diverged"], expected)
    assert metrics["rollout/episodes"][bad] == 0
    for name in ("env_reward", "mi_reward", "success_rate"):
        assert np.isnan(metrics[f"rollout/{name}"][bad])
    finite = jax.tree.map(lambda x: bool(jnp.isfinite(x).all()), (state.params, state.opt_state))
    assert all(jax.tree.leaves(finite))


def test_horizon_grows_linearly_to_the_full_length():
    """From 4 to 16 control steps over 5 iterations: 4, 7, 10, 13, 16, and 16 from there on."""
    hparams = {"stage.start_horizon": jnp.asarray(4.0), "stage.iterations": jnp.asarray(5.0)}
    found = [int(episode_horizon(jnp.asarray(i), hparams, 16)) for i in range(7)]
    assert found == [4, 7, 10, 13, 16, 16, 16]
    single = {**hparams, "stage.iterations": jnp.asarray(1.0)}
    assert int(episode_horizon(jnp.asarray(0), single, 16)) == 4
    full = {**hparams, "stage.start_horizon": jnp.asarray(16.0)}
    assert int(episode_horizon(jnp.asarray(0), full, 16)) == 16


def test_counters_and_control_steps_are_declared(learned):
    rollout = {f"rollout/{name}": "known" for name in ("env_reward", "mi_reward", "success_rate")}
    skipped = {"train/skipped_updates": "last", "train/skipped_in_a_row": "last"}
    assert LEARNER.logs == {**skipped, **rollout, "rollout/diverged": "sum"}
    assert set(LEARNER.logs) <= set(learned[1])
    assert LEARNER.env_steps == 64 * 4  # chunks of one step
    assert LEARNER.num_envs == 64
    assert set(RATES) == {"actor", "critic", "reward"} == set(learned[0].params)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_envs", 0),
        ("clip", 0.0),
        ("gamma", 1.1),
        ("gae_lambda", -0.1),
        ("target_kl", 0.0),
        ("minibatches", 7),
        ("entropy_coef", -1.0),
    ],
)
def test_config_is_checked(field, value):
    options = registry.find("learner", "ppo").options
    cfg = plugin("learner", "ppo")
    options.from_config(cfg, "learner")
    cfg[field] = value
    with pytest.raises(ConfigError) as info:
        options.from_config(cfg, "learner")
    assert info.value.field == f"learner.{field}"
