"""Every actor under every learner that can train it, on probes whose answer can be written down.

The five probes of an actor are five runs of one program:
  aimed, sloped   an action at once: gradient, its sign, what the actor sees
  recalled        an action that is judged one step later: advantages run backwards through time
  commanded       an action that the command alone decides: z in actor, reward and buffer
  priced          a value that the command alone decides: z in the critic
`test_ppo.py` and `test_sac.py` ask the rest, of one actor each: values, discounts, ends and the MI reward.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from tests.learners import _probed
from tests.learners._probed import GAMMA, MODES
from tests.toys.gaussian_flow import GaussianFlow
from tests.toys.probes import probe
from tests.toys.products import spared, sparing

PROBES = {
    "aimed": probe(aimed=1.0, target=0.4),
    "sloped": probe(aimed=1.0, slope=0.4),
    "recalled": probe(recalled=1.0, target=-0.3, slope=0.3, steps=2.0),
    "commanded": probe(),
    "priced": probe(),
}
TOLD = {"commanded": {"aimed": 1.0, "target": 0.4}, "priced": {"price": 1.0}}
NAMES = list(PROBES)
REFERENCE = GaussianFlow(_probed.SPEC).variables()
LEARNERS = {
    "ppo": {
        **{"num_envs": 64, "decisions": 4, "epochs": 4, "minibatches": 2},
        **{"critic_hidden": (16,), "critic_octaves": 0},
    },
    "sac": {
        **{"num_envs": 32, "decisions": 4, "updates": 8, "batch_size": 64, "capacity": 2048, "warmup": 128},
        **{"critic_hidden": (32,), "critic_octaves": 0},
    },
}
QUICK = {
    "ppo": {"learning_rate": 1e-2, "critic_learning_rate": 2e-2, "target_kl": 1e9},
    "sac": {
        **{"learning_rate": 1e-2, "critic_learning_rate": 1e-2, "tau": 0.1},
        **{"temperature": 1e-3, "temperature_learning_rate": 0.0},
    },
}
ITERATIONS = {"ppo": 60, "sac": 80}
NET = {"hidden": (16,), "fourier_octaves": 0}
ACTORS = {
    "gaussian": {"hidden": (16,)},
    "steer": NET | {"init_std": 0.7},
    "denoise": NET | {"steps": 3, "trained": 2, "field_rate": 1.0},
    "flow_sde": NET | {"steps": 2, "trained": 2, "field_rate": 1.0, "std_hidden": (8,)},
    "residual": NET | {"scale": 1.0, "ramp": 80},
    "cfm_ratio": NET | {"steps": 2, "field_rate": 1.0, "feather": 0.1},
    "full": NET | {"policy_rate": 1.0},
}
OFF_POLICY = {"gaussian": {"squash": True}, "steer": {"box": 2.0}, "residual": {}}
CASES = [f"ppo {actor}" for actor in ACTORS] + [f"sac {actor}" for actor in OFF_POLICY]
SLOW = set(CASES) - {"ppo denoise", "sac gaussian"}


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """JAX takes a scan over keys under vmap for a reuse; test_start.py checks single runs instead."""
    with jax.debug_key_reuse(False):
        yield


def built(case):
    name, actor = case.split()
    cfg = plugin("actor", actor, **ACTORS[actor], **(OFF_POLICY[actor] if name == "sac" else {}))
    learner = plugin("learner", name, **LEARNERS[name], gamma=GAMMA)
    return _probed.build(learner, cfg, None, policy=GaussianFlow)


@functools.cache
def learned(case):
    """(learner, [R] states after training)."""
    name, learner = case.split()[0], built(case)
    parent = _probed.cloned(REFERENCE.params)
    stage = {"iterations": ITERATIONS[name], "mi_coef": 1.0}
    hp = _probed.hparams(name, len(NAMES), stage, **QUICK[name])
    probes = jax.tree.map(lambda *x: jnp.stack(x), *PROBES.values())
    keys = ("aimed", "target", "price")
    told = {key: jnp.array([TOLD.get(n, {}).get(key, 0.0) for n in NAMES]) for key in keys}

    def run(hp, probe, told):
        state = _probed.start(learner, hp, probe, jax.random.key(0), parent)
        state = state.replace(params={**state.params, "reward": told})
        return jax.lax.scan(lambda s, _: (learner.train_step(s, ())[0], None), state, None, ITERATIONS[name])[
            0
        ]

    return learner, jax.jit(jax.vmap(run))(hp, probes, told)


def run_of(tree, name):
    return jax.tree.map(lambda x: x[NAMES.index(name)], tree)


@functools.cache
def actions(case):
    """{probe: {(x, z): mean of 400 actions at the start of an episode, as they are used and clipped in play}}."""
    learner, state = learned(case)
    x, z = (jnp.repeat(jnp.array(values), 400) for values in ([-1.0, -1.0, 1.0, 1.0], [0, 1, 0, 1]))
    obs = jnp.stack([x, jnp.zeros_like(x), jnp.zeros_like(x)], -1)
    play = getattr(learner.actor, "play", lambda *args: learner.actor.act(*args)[0])

    def of(params):
        chunk = play(params, REFERENCE, jax.random.key(9), obs, z)
        return jnp.clip(chunk, -1, 1).reshape(4, 400).mean(-1)

    found = np.asarray(jax.jit(jax.vmap(of))(state.params["actor"]))
    pairs = [(-1.0, 0), (-1.0, 1), (1.0, 0), (1.0, 1)]
    return {name: dict(zip(pairs, row, strict=True)) for name, row in zip(NAMES, found, strict=True)}


def check(case, name, expected):
    for (x, z), found in actions(case)[name].items():
        assert found == pytest.approx(expected(x, z), abs=0.12), (name, x, z)


@pytest.mark.parametrize("case", sparing(CASES, SLOW, str))
@spared("ppo denoise")
def test_actions_go_where_they_are_paid(case):
    check(case, "aimed", lambda x, z: 0.4)
    check(case, "sloped", lambda x, z: 0.4 * x)


@pytest.mark.parametrize("case", sparing(CASES, SLOW, str))
def test_an_action_answers_for_a_reward_that_comes_later(case):
    check(case, "recalled", lambda x, z: -0.3 + 0.3 * x)


@pytest.mark.parametrize("case", sparing(CASES, SLOW, str))
def test_commands_are_obeyed(case):
    check(case, "commanded", lambda x, z: 0.4 * (2 * z - 1))


@pytest.mark.parametrize("case", sparing(CASES, SLOW, str))
def test_values_know_the_command(case):
    """One step, paid z: V(s, z) = z, and of any action Q(s, a, z) = z."""
    learner, state = learned(case)
    params = run_of(state.params["critic"], "priced")
    z = jnp.arange(MODES)
    obs, time = jnp.stack([jnp.array([1.0, 0.0, 0.0])] * MODES), jnp.zeros(MODES)
    action = (jnp.zeros((MODES, 1)),) if case.startswith("sac") else ()
    critic = learner.update.critic if case.startswith("sac") else learner.critic
    value = critic.apply(params, obs, *action, z, time)
    np.testing.assert_allclose(value, np.broadcast_to([0.0, 1.0], value.shape), atol=0.1)
