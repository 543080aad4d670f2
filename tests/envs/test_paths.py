"""What all path tasks share, against numpy on the positions that were visited."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.data.collect import record
from mmbc_jax.envs.synthetic._path_task import PathTask
from mmbc_jax.envs.synthetic._statistics import RAYLEIGH_MEAN, RAYLEIGH_STD, rice_mean
from tests.toys.products import spared

from . import _path_tools as tools


@pytest.mark.parametrize("name", tools.CASES)
def test_mean_paths_are_the_written_geometry(name):
    env = tools.case(name)
    k, params = env.spec.num_modes, env.default_params()
    paths = np.asarray(env.mean_paths(params))
    np.testing.assert_allclose(paths[:k], tools.mean_paths(name, k), atol=2e-6)
    assert (paths[k:] == paths[0]).all()
    assert paths.shape == (64 if "num_modes" in params else k, env.spec.episode_length, 2)


@pytest.mark.parametrize("name", tools.CASES)
def test_separation_is_the_closest_of_all_pairs(name):
    env = tools.case(name)
    paths = tools.mean_paths(name, env.spec.num_modes)
    gaps = np.linalg.norm(paths[:, None] - paths, axis=-1).mean(-1)
    closest = gaps[~np.eye(len(paths), dtype=bool)].min(initial=np.inf) if len(paths) > 1 else 0.0
    assert float(env.separation(env.default_params())) == pytest.approx(closest, rel=1e-5)


@pytest.mark.parametrize("name", tools.CASES)
def test_obstacles_are_the_written_geometry(name):
    env = tools.case(name)
    points = np.random.default_rng(1).uniform(size=(20000, 2)).astype(np.float32)
    expected = tools.inside(name, env.spec.num_modes, points)
    assert expected.any() or name == "smooth_path"
    np.testing.assert_array_equal(jax.jit(env.collides)(env.default_params(), points), expected)


@pytest.mark.parametrize("name", tools.ROLLED)
@spared("radial", "corridor", "conditional_circle")
def test_experts_reach_the_mode_they_pursue(name):
    trace, n = tools.rollouts(name), tools.EXPERTS
    wanted = trace.modes[:n]
    mode = np.asarray(trace.last.info["mode"])[:n]
    agrees = np.ones(n, bool)
    if name == "conditional_circle":
        agrees = np.asarray(trace.last.data["context"])[:n] == wanted
        assert 0.4 < agrees.mean() < 0.6  # 640 fair draws: 5 sigma is .1
    np.testing.assert_array_equal(mode, np.where(agrees, wanted, -1))
    np.testing.assert_array_equal(trace.metrics["nearest_mode"][:n, -1], wanted)
    assert (np.abs(trace.action[:n]) < 1).all()  # the box clips no recorded action
    assert (trace.action[:n, -1] == 0).all()
    assert not trace.metrics["collision"][:n].any()
    assert not trace.metrics["bridge"][:n].any()


@pytest.mark.parametrize("name", tools.NOISY)
def test_demonstrations_are_the_mean_path_with_independent_noise(name):
    env, trace, n = tools.case(name), tools.rollouts(name), tools.EXPERTS
    mean = tools.mean_paths(name, env.spec.num_modes)[trace.modes[:n]]
    error = (trace.position[:n, :60] - mean) / env.options.noise
    # where a draw is cut by an obstacle or the border of the world the noise is no longer Gaussian
    cut = {"corridor": np.abs(mean[..., 0] - 0.5) < 0.05, "sequential": np.abs(mean[..., 1] - 0.5) > 0.45}
    whole = ~cut.get(name, np.zeros(mean.shape[:2], bool))
    free = error[whole]
    # 5 standard errors of a mean, 5 / sqrt(N), and of a standard deviation, 5 / sqrt(2 N)
    assert np.abs(free.mean(0)).max() < 5 / np.sqrt(len(free))
    np.testing.assert_allclose(free.std(0), 1.0, atol=5 / np.sqrt(2 * len(free)))
    pairs = whole[:, 1:] & whole[:, :-1]
    lag = (error[:, 1:] * error[:, :-1])[pairs].mean(0)
    assert np.abs(lag).max() < 5 / np.sqrt(pairs.sum())
    cross = (free[:, 0] * free[:, 1]).mean()
    assert abs(cross) < 5 / np.sqrt(len(free))


@pytest.mark.parametrize("name", tools.ROLLED)
def test_length_of_the_experts_in_closed_form(name):
    env, trace, n = tools.case(name), tools.rollouts(name), tools.EXPERTS
    lengths = np.linalg.norm(np.diff(trace.position[:n], axis=1), axis=-1).sum(-1)
    modes = env.spec.num_modes
    within = np.sqrt(np.mean([lengths[trace.modes[:n] == k].var() for k in range(modes)]) / n)
    excess = float(env.expert_length(env.default_params())) - lengths.mean()
    # The clip at y = 0 and y = 1 takes E max(0, sigma n) = .4 sigma of the first and last step at most.
    border = 2 * 0.4 * env.options.noise if name == "sequential" else 0.0
    assert -5 * within < excess < border + 5 * within


@pytest.mark.parametrize("name", tools.ROLLED)
def test_metrics_of_the_end(name):
    env, trace = tools.case(name), tools.rollouts(name)
    k, cfg = env.spec.num_modes, env.options
    paths, position = tools.mean_paths(name, k), trace.position
    points = len(paths[0])
    distance = np.linalg.norm(position[:, None, :points] - paths, axis=-1).mean(-1)
    nearest, closest = distance.argmin(-1), distance.min(-1)
    ordered = np.sort(np.column_stack([distance, np.full(len(distance), np.inf)]), -1)
    clear = ordered[:, 1] - ordered[:, 0] > 1e-5  # argmin does not hang on rounding
    metrics = {key: value[:, -1] for key, value in trace.metrics.items()}
    np.testing.assert_array_equal(metrics["nearest_mode"][clear], nearest[clear])
    np.testing.assert_allclose(metrics["path_distance"], closest, atol=1e-6)
    np.testing.assert_array_equal(metrics["collision"], tools.inside(name, k, position).any(-1))
    if name in tools.NOISY:
        tube = cfg.noise * (np.sqrt(np.pi / 2) + 5 * np.sqrt(2 - np.pi / 2) / np.sqrt(60))
        tube = max(float(env.separation(env.default_params())) / 4, tube)
        sure = np.abs(closest - tube) > 1e-5
        np.testing.assert_array_equal(metrics["bridge"][sure], (closest > tube)[sure])
    arrived = np.linalg.norm(position[:, -1, None] - paths[:, -1], axis=-1).min(-1)
    length = np.linalg.norm(np.diff(position, axis=1), axis=-1).sum(-1)
    enough = float(env.expert_length(env.default_params())) / 2
    success = (metrics["collision"] == 0) & (arrived <= 0.1) & (length >= enough)
    if name == "conditional_circle":
        success &= nearest == np.asarray(trace.last.data["context"])
    sure = clear & (np.abs(arrived - 0.1) > 1e-5) & (np.abs(length - enough) > 1e-5)
    np.testing.assert_array_equal(metrics["success"][sure], success[sure])
    np.testing.assert_array_equal(trace.last.info["mode"][sure], np.where(success, nearest, -1)[sure])
    np.testing.assert_array_equal(trace.last.reward, metrics["success"])
    mixed = slice(tools.EXPERTS, None)
    assert 0 < success[mixed].mean() < 1  # both outcomes were tested
    if k > 1 and name != "high_low":
        assert 0 < metrics["bridge"][mixed].mean() < 1


@pytest.mark.parametrize("name", tools.ROLLED)
def test_nothing_is_decided_before_the_end(name):
    trace = tools.rollouts(name)
    for key, before in {"success": 0, "bridge": 0, "path_distance": 0, "nearest_mode": -1}.items():
        assert (trace.metrics[key][:, :-1] == before).all(), key
        assert (np.asarray(trace.first.metrics[key]) == before).all(), key
    assert (np.diff(trace.metrics["collision"], axis=1) >= 0).all()
    assert (np.asarray(trace.last.done) == 1).all()


@pytest.mark.parametrize("name", ["radial", "corridor"])
@pytest.mark.parametrize("k", [2, 8, 16, 64])
def test_short_cuts_are_what_the_mean_paths_give(name, k):
    """Separation and length where they need no paths, against the definitions on all of them."""
    env = tools.build(name)
    params = env.default_params() | {"num_modes": jnp.asarray(k)}
    for short in ("separation", "expert_length"):
        expected = float(jax.jit(lambda p, s=short: getattr(PathTask, s)(env, p))(params))
        assert float(getattr(env, short)(params)) == pytest.approx(expected, rel=2e-5)


def test_rice_mean_against_draws_and_limits():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(400_000, 2))
    for distance, std in ((0.0, 0.3), (0.1, 0.3), (0.5, 0.3), (2.0, 0.1)):
        drawn = np.linalg.norm([distance, 0] + std * noise, axis=-1)
        bound = 5 * drawn.std() / np.sqrt(len(drawn))
        assert float(rice_mean(jnp.asarray(distance), jnp.asarray(std))) == pytest.approx(
            drawn.mean(), abs=bound
        )
    # no noise leaves the distance; far out the mean is d + s^2 / 2d: 1 + .0001 / 2 = 1.00005
    assert float(rice_mean(jnp.asarray(0.7), jnp.asarray(0.0))) == pytest.approx(0.7, rel=1e-5)
    assert float(rice_mean(jnp.asarray(1.0), jnp.asarray(0.01))) == pytest.approx(1.00005, abs=2e-6)
    lengths = np.linalg.norm(noise, axis=-1)
    assert lengths.mean() == pytest.approx(RAYLEIGH_MEAN, abs=5 * RAYLEIGH_STD / np.sqrt(len(noise)))
    assert lengths.std() == pytest.approx(RAYLEIGH_STD, rel=0.01)


@pytest.mark.parametrize("name", ["radial", "corridor"])
def test_the_number_of_modes_is_traced(name):
    """K in {2, 8, 16} in one program follows the paths of each, as an environment built for 16 does."""
    counts = (2, 8, 16)

    def rollout(env, params):
        def body(state, key):
            nstate = env.step(state, env.expert(state, jnp.asarray(1), key))
            return nstate, nstate.obs

        keys = jax.random.split(jax.random.key(3), 60)
        last, path = jax.lax.scan(body, env.reset(jax.random.key(5), params), keys)
        return path, last.info["mode"], last.data["tube"]

    env = tools.build(name)
    params = env.default_params()
    batched = jax.jit(jax.vmap(lambda k: rollout(env, params | {"num_modes": k})))
    path, mode, tube = batched(jnp.array(counts))
    assert (np.asarray(mode) == 1).all()
    for i, k in enumerate(counts):
        error = path[i] - np.append(tools.mean_paths(name, k)[1], [path[i][-1]], axis=0)[1:]
        assert np.linalg.norm(error, axis=-1).mean() < 2 * env.options.noise
    alone = tools.build(name, num_modes=16)
    assert alone.spec.action_high == env.spec.action_high
    expected, _, radius = jax.jit(lambda: rollout(alone, alone.default_params()))()
    np.testing.assert_allclose(path[2], expected, atol=1e-6)
    assert float(tube[2]) == pytest.approx(float(radius), rel=1e-5)
    assert batched._cache_size() == 1


@pytest.mark.parametrize("name", ["circle", "conditional_circle"])
def test_recorded_episodes_are_balanced_chunks(name):
    """Recorded without noise, a traced parameter, they are the mean paths."""
    env = tools.case(name)
    quiet = env.default_params() | {"noise": jnp.asarray(0.0)}
    recorded = record(env, jax.random.key(2), 20, 0.0, quiet)
    np.testing.assert_array_equal(np.bincount(recorded.mode), [10, 10])
    np.testing.assert_array_equal(recorded.ends, 60 * np.arange(1, 21))
    obs = np.asarray(recorded.obs).reshape(20, 60, -1)
    action = np.asarray(recorded.action).reshape(20, 60, 2)
    np.testing.assert_allclose(obs[..., :2], tools.mean_paths(name, 2)[recorded.mode], atol=2e-6)
    np.testing.assert_allclose(action[:, :-1], np.diff(obs[..., :2], axis=1), atol=1e-6)
    np.testing.assert_allclose(action[:, -1], 0.0, atol=1e-7)
    context = np.repeat(np.eye(2)[recorded.mode][:, None], 60, axis=1)
    np.testing.assert_array_equal(obs[..., 2:], context if name == "conditional_circle" else obs[..., :0])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("radial", {"num_modes": 0}),
        ("radial", {"num_modes": 65}),
        ("radial", {"radius": 0.6}),
        ("radial", {"noise": -0.1}),
        ("corridor", {"num_modes": 7}),
        ("corridor", {"num_modes": 66}),
        ("corridor", {"gap": 0.0}),
        ("corridor", {"noise": -0.1}),
        ("sequential", {"second_shift": 0.3}),
        ("sequential", {"first_shift": 0.0}),
        ("sequential", {"noise": -0.1}),
        ("circle", {"radius": 0.3}),
        ("conditional_circle", {"noise": -0.1}),
        ("smooth_path", {"amplitude": 0.5}),
        ("smooth_path", {"gain": 0.0}),
        ("high_low", {"height": 0.0}),
        ("high_low", {"start_std": -0.1}),
        ("high_low", {"noise": -0.1}),
    ],
)
def test_bad_config_is_refused(name, fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        registry.build("env", config.plugin("env", name, **fields))
