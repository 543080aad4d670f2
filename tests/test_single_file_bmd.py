"""`scripts/single_file_bmd.py` computes what the package computes, piece by piece, and does what it says.

Both sides are float32 on the same numbers. They differ in the order of sums: a layer here is a product with joined
inputs and there a sum of products, of at most 128 terms, so that outputs of order 1 may differ by some 128 x 6e-8 a
layer. `CLOSE` allows four layers of it.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import Batch, PolicySpec, Variables
from mmbc_jax.envs import wrappers
from mmbc_jax.nn.critic import Critic
from mmbc_jax.ops.gae import gae
from mmbc_jax.ops.mi_reward import absorbing, information
from mmbc_jax.ops.policy_gradient import clipped_surrogate, normalise_advantage
from tests.test_architecture import imports

CLOSE = {"rtol": 3e-5, "atol": 3e-5}
SPEC, MODES, ROWS = PolicySpec(obs_dim=2, action_dim=2, chunk_len=4), 5, 64


def _script():
    path = Path(__file__).parents[1] / "scripts" / "single_file_bmd.py"
    found = importlib.util.spec_from_file_location("single_file_bmd", path)
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # a flax module looks up the one it is defined in
    found.loader.exec_module(module)
    return module


ONE = _script()


def shaken(params, seed=0):
    """Parameters none of which is 0."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: p + jnp.asarray(0.1 * rng.standard_normal(p.shape), jnp.float32), params)


def numbers(*shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, shape), jnp.float32)


def commands(*shape, seed=2):
    return jnp.asarray(np.random.default_rng(seed).integers(0, MODES, shape), jnp.int32)


@pytest.fixture(scope="module")
def params():
    return shaken(jax.jit(ONE.init, static_argnums=1)(jax.random.key(0), MODES))


def flow():
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=ONE.EULER_STEPS))

    def prior(shape):
        return registry.build("prior", plugin("prior", "normal"), shape, spec=SPEC)

    layers = {"hidden": (128, 128, 128), "activation": "silu", "fourier_octaves": 2}
    return registry.build("policy", plugin("policy", "flow", **layers), SPEC, prior=prior, sampler=sampler)


@pytest.fixture(scope="module")
def clones():
    """(the script's parameters, the package's policy, its variables): the first layer cut into its three parts."""
    policy = flow()
    parts = jnp.zeros((1, 8)), jnp.zeros((1, 32)), jnp.zeros((1, 10))
    own = shaken(jax.jit(ONE.VELOCITY.init)(jax.random.key(1), *parts))
    batch = Batch(numbers(2, 2), numbers(2, 4, 2), jnp.ones((2, 4)))
    variables = jax.jit(policy.init)(jax.random.key(2), batch)
    layers = own["params"]
    kernel = layers["Dense_0"]["kernel"]
    network = {
        "from_x": {"kernel": kernel[:8]},
        "from_time": {"kernel": kernel[8:40]},
        "from_obs": {"kernel": kernel[40:], "bias": layers["Dense_0"]["bias"]},
        "trunk": {f"Dense_{i}": layers[f"Dense_{i + 1}"] for i in range(3)},
    }
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (variables.params, network)]
    assert shapes[0] == shapes[1]
    return own, policy, Variables(network, variables.stats)


def steering():
    cfg = plugin("actor", "steer", hidden=(128, 128))
    return registry.build("actor", cfg, spec=SPEC, policy=flow(), num_modes=MODES)


def test_imports_no_more_than_three_libraries():
    used = {name.split(".")[0] for name in imports(Path(ONE.__file__))}
    assert used - sys.stdlib_module_names == {"jax", "flax", "optax"}


def test_flow_matching_loss(clones):
    own, policy, variables = clones
    key, obs, chunk = jax.random.key(3), numbers(ROWS, 2), numbers(ROWS, 4, 2, seed=4)
    batch = Batch(obs, chunk, jnp.ones((ROWS, 4)))
    theirs = jax.jit(policy.loss)(variables, key, batch, {}).per_example.mean()
    ours = jax.jit(ONE.flow_loss)(own, jax.random.clone(key), obs, chunk)
    np.testing.assert_allclose(ours, theirs, **CLOSE)
    assert theirs > 0.3


def test_euler_transport(clones):
    own, policy, variables = clones
    obs, noise = numbers(ROWS, 2), numbers(ROWS, 4, 2, seed=5)
    theirs = jax.jit(policy.transport)(variables, obs, noise)
    np.testing.assert_allclose(jax.jit(ONE.transport)(own, obs, noise.reshape(ROWS, 8)), theirs, **CLOSE)
    assert np.abs(theirs - noise).max() > 0.1


def test_head_starts_as_that_of_the_package(clones):
    """With the same keys, the same numbers."""
    head = steering().head
    key = jax.random.key(6)
    ours = jax.jit(ONE.init, static_argnums=1)(key, MODES)["head"]
    key_mix, key_network, key_frequency = jax.random.split(jax.random.clone(key), 5)[:3]
    theirs = jax.jit(head.init)(jax.random.key(7), key_mix, key_network, key_frequency, clones[2])
    assert ours.keys() == theirs.keys() - {"base_mean", "base_std"}
    for name, value in ours.items():
        jax.tree.map(np.testing.assert_array_equal, value, theirs[name])
    np.testing.assert_allclose(np.exp(ours["log_std"]), 0.3, rtol=1e-6)
    one = jax.jit(ONE.init, static_argnums=1)(jax.random.key(8), 1)["head"]
    assert not np.any(one["mix"])
    assert not np.any(one["log_std"])


def test_moments_log_ratio_and_drawn_noise(params):
    """The package measures the base, which is N(0, I) here."""
    actor, obs, z = steering(), numbers(ROWS, 2), commands(ROWS)
    own = params["head"]
    theirs = {**own, "base_mean": jnp.zeros(8), "base_std": jnp.ones(8)}
    expected = jax.jit(actor.head.moments)(theirs, obs, z)
    for a, b in zip(jax.jit(ONE.moments)(own, obs, z), expected, strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)
    noise = numbers(ROWS, 8, seed=9)
    info = {"x0": noise, "log_prob": numbers(ROWS)}
    ratio = jax.jit(actor.log_ratio)(theirs, Variables({}), obs, z, info)
    found = jax.jit(lambda head: ONE.log_density(noise, *ONE.moments(head, obs, z)))(own) - info["log_prob"]
    # a density of 8 terms that reach 30: as many roundings of 30 x 6e-8, and the moments' times a slope up to 8
    np.testing.assert_allclose(found, ratio[:, 0], rtol=1e-4, atol=1e-3)
    assert np.std(ratio) > 1.0


def test_values(params):
    critic = Critic(SPEC.obs, (128, 128), MODES)
    own = {"params": {"MLP_0": params["critic"]["params"]}}
    obs, z, decision = numbers(ROWS, 2), commands(ROWS), jnp.arange(ROWS) % 5
    theirs = jax.jit(critic.apply)(own, obs, z, decision / 4)
    np.testing.assert_allclose(jax.jit(ONE.value_of)(params, obs, z, decision), theirs, **CLOSE)
    assert np.std(theirs) > 0.01


@pytest.fixture(scope="module")
def paths():
    """[5, B, ...] paths of four decisions and how many were taken, by the script and by the package's memory."""
    q = registry.build(
        "discriminator",
        plugin("discriminator", "categorical", activation="silu"),
        SPEC.obs,
        MODES,
        ONE.DECISIONS,
    )
    positions = numbers(5, ROWS, 2, seed=10)
    memory, path = q.init_memory(positions[0]), jnp.repeat(positions[0][:, None], 5, 1)
    found = []
    for i in range(1, 5):
        memory = q.remember(memory, positions[i])
        path = ONE.remember(path, jnp.full(ROWS, i), positions[i])
        found.append((path, memory))
    return q, found


def test_paths_are_remembered_alike(paths):
    for path, memory in paths[1]:
        np.testing.assert_array_equal(path, memory["slots"])


def test_log_q_with_its_blur(params, paths):
    q, found = paths
    for i, (path, memory) in enumerate(found):
        z, key = commands(ROWS, seed=i), jax.random.key(20 + i)
        theirs = q.log_prob(params["q"], key, q.features(memory))[jnp.arange(ROWS), z]
        ours = ONE.log_q(params, jax.random.clone(key), path, jnp.full(ROWS, i + 1), z)
        np.testing.assert_allclose(ours, theirs, **CLOSE)
        assert np.std(theirs) > 0.05


def test_payment():
    told, goal = -jnp.abs(numbers(4, ROWS)), jnp.arange(ROWS) % 3 - 1
    final = jnp.zeros((4, ROWS)).at[3].set(1.0)
    failed = final * (goal < 0)
    remaining = jnp.broadcast_to(jnp.arange(3, -1, -1)[:, None], (4, ROWS)).astype(jnp.int32)
    after = information(told, MODES)
    theirs = absorbing(jnp.zeros_like(after), after, final, failed, remaining, 4, ONE.GAMMA**4)
    np.testing.assert_allclose(ONE.payment(told, failed, MODES), theirs, rtol=1e-6, atol=1e-7)
    assert not np.any(theirs[3][goal < 0])
    # one episode whose commands are told for certain is paid log Z in all
    assert float(ONE.payment(jnp.zeros(4), jnp.zeros(4), MODES).sum()) == pytest.approx(math.log(MODES))


def test_advantages_and_targets():
    rng = np.random.default_rng(3)
    reward, value, after = (numbers(8, ROWS, seed=i) for i in range(3))
    final = jnp.asarray(rng.random((8, ROWS)) < 0.2, jnp.float32)
    done = jnp.maximum(final, jnp.asarray(rng.random((8, ROWS)) < 0.2, jnp.float32))
    discount = jnp.full((8, ROWS), ONE.GAMMA**ONE.CHUNK)
    theirs = gae(reward, value, after, final, done, discount, ONE.GAE_LAMBDA)
    for a, b in zip(ONE.gae(reward, value, after, final, done), theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)  # 8 additions of numbers up to 8


def test_clipped_surrogate():
    log_ratio, advantage = numbers(ROWS), 3 * numbers(ROWS, seed=2)
    theirs, clipped, _ = clipped_surrogate(log_ratio[:, None], advantage, ONE.CLIP)
    np.testing.assert_allclose(ONE.surrogate(log_ratio, advantage), theirs, rtol=1e-6)
    assert 0.2 < clipped < 0.9


def test_judged_is_the_sum_of_its_parts(params):
    """Rewards weighted, the critic's values before and after, advantages normalised over all decisions."""
    obs, after = numbers(4, ROWS, 2), numbers(4, ROWS, 2, seed=2)
    decision = jnp.broadcast_to(jnp.arange(4)[:, None], (4, ROWS))
    seen = {"obs": obs, "next_obs": after, "z": commands(4, ROWS), "decision": decision}
    seen |= {"path": numbers(4, ROWS, 5, 2, seed=3), "reward": numbers(4, ROWS, seed=4)}
    seen |= {"goal": commands(4, ROWS, seed=5) - 1, "done": (decision == 3) * 1.0}
    key = jax.random.key(30)
    batch = jax.jit(ONE.judged)(params, key, seen, jnp.asarray(0.7), jnp.asarray(0.4))
    final = (decision == 3) * 1.0
    told = ONE.log_q(params, jax.random.clone(key), seen["path"], decision + 1, seen["z"])
    after_pay = information(told, MODES) * (1 - final * (seen["goal"] < 0)) / 4
    value = ONE.value_of(params, obs, seen["z"], decision)
    next_value = ONE.value_of(params, after, seen["z"], decision + 1)
    discount = jnp.full((4, ROWS), ONE.GAMMA**4)
    advantage, target = gae(
        0.7 * seen["reward"] + 0.4 * after_pay, value, next_value, final, final, discount, ONE.GAE_LAMBDA
    )
    np.testing.assert_allclose(batch["target"], target.reshape(-1), **CLOSE)
    np.testing.assert_allclose(batch["advantage"], normalise_advantage(advantage).reshape(-1), **CLOSE)


def test_environment_step():
    """Four decisions of wild chunks from the same starts; sums of 16 displacements of up to .15."""
    env = registry.build("env", plugin("env", "landscape", reward="unbalanced"))
    batched = wrappers.make(env, ONE.CHUNK, ONE.GAMMA, None)
    state = batched.reset(jax.random.split(jax.random.key(40), ROWS))
    goals = ONE.GOALS[jnp.arange(ROWS) % 4]
    theirs, ours, position = jax.jit(batched.step), jax.jit(ONE.execute), state.obs
    for i in range(ONE.DECISIONS):
        towards = (goals - position)[:, None] / (4 - i) / ONE.MAX_STEP / 4
        chunk = towards + 0.7 * numbers(ROWS, 4, 2, seed=50 + i)
        state = theirs(state, chunk)
        position, reward, goal = ours(position, jnp.full(ROWS, i), chunk)
        np.testing.assert_allclose(position, state.obs, atol=2e-6)
        np.testing.assert_allclose(
            reward, state.reward, atol=2e-5
        )  # its slope is at most 3 a unit of distance
        np.testing.assert_array_equal(goal, state.info["mode"])
        assert (np.asarray(state.done) == (i == 3)).all()
    assert set(np.asarray(goal).tolist()) == {-1, 0, 1, 2, 3}
    assert np.asarray(reward).max() > 0.7


def test_demonstrations_reach_their_goals():
    obs, chunk = jax.jit(ONE.demonstrate, static_argnums=1)(jax.random.key(60), 200)
    assert obs.shape == (200 * 13, 2)
    assert chunk.shape == (200 * 13, 4, 2)
    # the action at a position is the expert's: a quarter of the way to a goal, with noise of .1, clipped
    to_goals = jnp.clip(0.25 * (ONE.GOALS - obs[:, None]) / ONE.MAX_STEP, -1, 1)
    wanted = jnp.tile(jnp.arange(200) % 4, 13)
    own = to_goals[jnp.arange(len(obs)), wanted]
    off = np.asarray(chunk[:, 0] - own)
    inside = np.abs(own) < 0.6
    assert abs(off[inside].std() - 0.1) < 5 * 0.1 / math.sqrt(2 * inside.sum())
    end = np.asarray(obs.reshape(13, 200, 2)[-1])
    assert (np.linalg.norm(end - ONE.GOALS[jnp.arange(200) % 4], axis=-1) < 0.35).mean() > 0.95


def test_figures_of_a_table():
    """Z = 3: 60 of 70 to goal 0, 60 of 60 to goal 2, and one that succeeds too rarely to command."""
    table = jnp.array([[60, 0, 10, 0, 30], [0, 0, 60, 0, 40], [0, 4, 0, 0, 96]], jnp.float32)
    found = ONE.figures(table, jnp.asarray(0.5))
    assert found == {"success": pytest.approx(134 / 300), "kept": 3, "commanded": 2, "bound": 0.5}
    nothing = ONE.figures(jnp.zeros((2, 5)).at[:, 4].set(9.0), jnp.asarray(0.0))
    assert (nothing["success"], nothing["kept"], nothing["commanded"]) == (0.0, 0, 0)


def test_stages_are_numbers():
    """Discovery of 3 iterations over 2, 3 and 4 decisions, then 2 of fine-tuning; without it 5 of the task alone."""
    settings = ONE.Settings(discover=3, finetune=2)
    found = {name: np.asarray(row).tolist() for name, row in ONE.schedule(settings, True, 0.25).items()}
    assert found == {
        "env_coef": [0, 0, 0, 1, 1],
        "mi_coef": [1, 1, 1, 0.25, 0.25],
        "horizon": [2, 3, 4, 4, 4],
    }
    found = {name: np.asarray(row).tolist() for name, row in ONE.schedule(settings, False, 0.0).items()}
    assert found == {"env_coef": [1] * 5, "mi_coef": [0] * 5, "horizon": [4] * 5}


@pytest.mark.slow
def test_four_goals_are_kept_and_commanded_and_one_without_the_reward():
    small = ONE.Settings(episodes=200, clone_steps=1500, envs=128, discover=20, finetune=60)
    found = ONE.run(0, small)
    assert found["clone"]["kept"] == 4
    assert (found["with"]["kept"], found["with"]["commanded"]) == (4, 4)
    assert found["without"]["kept"] == 1
    assert min(found["with"]["success"], found["without"]["success"]) > 0.95
    assert 1.0 < found["with"]["bound"] <= math.log(8)
