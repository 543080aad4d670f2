"""What paths tell: policies of 1, 2 and 4 modes, commands that are obeyed and ignored, units, ends, divergence."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy

from mmbc_jax.core import registry
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.types import EnvSpec
from mmbc_jax.diagnostics.case import of_episodes
from mmbc_jax.diagnostics.instruments.paths import path_points
from mmbc_jax.ops.normalisation import Normalizer

from . import _toy


def measure(rollouts, env, seed=0, normalizer=_toy.NORMALIZER, **fields):
    plugin = registry.find("diagnostic", "paths")
    cfg = plugin.default_config()
    cfg.update({"resamples": 200, "resolution": 0.03, **fields})
    return plugin(cfg).measure(of_episodes(rollouts, normalizer, env, 1), jax.random.key(seed))


def fan(count, episodes=256, z=None, seed=0):
    """(episodes along the `count` paths of a fan, its environment); z of each episode is its mode or as given."""
    rng = np.random.default_rng(seed)
    modes = _toy.fan(rng, count=max(count, 2), noise=0.005)
    rollouts = _toy.episodes(rng, modes, count=episodes)
    if count == 1:
        rollouts = _toy.played(
            np.asarray(rollouts.path)[:1].repeat(episodes, 0), np.ones(episodes), np.zeros(episodes)
        )
        rollouts = rollouts.replace(path=rollouts.path + 0.005 * rng.normal(size=rollouts.path.shape))
    z = np.asarray(rollouts.mode) if z is None else z(rng)
    return rollouts.replace(z=jnp.asarray(z, jnp.int32)), _toy.environment(modes)[0]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_policies_of_one_two_and_four_modes(count):
    """The entropy of the modes that were drawn, at most log K, and what noise of .005 adds to it.

    Paths lie .2 apart at least, 6.7 resolutions; noise of .005 in 32 numbers over sqrt(16) has a deviation of .00125
    in each, (.00125 / .03)^2 / 2 x 32 = .028 nats.
    """
    rollouts, env = fan(count)
    found = measure(rollouts, env)
    modes = entropy(np.bincount(np.asarray(rollouts.mode)))
    assert found["paths/information"] == pytest.approx(modes, abs=0.04)
    assert found["paths/information_low"] <= found["paths/information"] <= found["paths/information_high"]
    assert ("paths/z_neighbours" in found) == (count > 1)


def test_commands_that_are_obeyed_tell_the_path_and_others_nothing():
    """log 4 of four commands with a path each, less the critic's doubt of 2 %; 0 of commands drawn besides."""
    obeyed = measure(*fan(4))
    assert obeyed["paths/z_contrastive"] == pytest.approx(math.log(4), abs=0.05)
    assert obeyed["paths/z_neighbours"] == pytest.approx(math.log(4), abs=0.05)
    ignored = measure(*fan(4, z=lambda rng: rng.integers(0, 4, 256)))
    assert abs(ignored["paths/z_neighbours"]) < 5 * 1.0 / 256**0.5
    assert ignored["paths/z_contrastive"] < 5 * 1.0 / 128**0.5
    assert ignored["paths/information"] == pytest.approx(obeyed["paths/information"], abs=0.01)


def test_pairs_of_commands_that_share_a_path_tell_half():
    """Four commands, two paths: log 2, within 5 standard errors of terms with a deviation below 1."""
    rollouts, env = fan(2)
    coin = np.random.default_rng(9).integers(0, 2, 256)
    found = measure(rollouts.replace(z=rollouts.z + 2 * jnp.asarray(coin, jnp.int32)), env)
    assert found["paths/z_neighbours"] == pytest.approx(math.log(2), abs=5 * 1.0 / 256**0.5)
    assert math.log(2) - 0.15 < found["paths/z_contrastive"] < math.log(2) + 5 * 1.0 / 128**0.5


def test_a_trait_of_a_millimetre_tells_the_command_and_is_no_mode():
    """Two commands .002 apart on one path: log 2 by neighbours and a critic, 0 at a resolution of .3."""
    rng = np.random.default_rng(1)
    modes = _toy.fan(rng, count=2)
    env, z = _toy.environment(modes)[0], np.arange(128) % 2
    path = np.linspace(0, 0.5, _toy.POINTS)[None, :, None] * np.ones((128, 1, 2))
    path = path + 0.002 * z[:, None, None] + 1e-5 * rng.normal(size=path.shape)
    rollouts = _toy.played(path, np.ones(128), np.zeros(128)).replace(z=jnp.asarray(z, jnp.int32))
    found = measure(rollouts, env, resolution=0.3)
    assert found["paths/z_neighbours"] == pytest.approx(math.log(2), abs=0.05)
    assert found["paths/z_contrastive"] == pytest.approx(math.log(2), abs=0.05)
    assert found["paths/information"] == pytest.approx(0.0, abs=0.01)


def test_points_are_paths_in_normalised_units_held_at_their_end():
    """Two episodes of 5 positions in units of 2 and 4 about 1: the second ends at its third position."""
    spec = EnvSpec("plane", 3, 1, 4, 0, (-1.0,), (1.0,), position=(0, 2))
    bounds = Normalizer(jnp.array([-1.0, -9, -3]), jnp.array([3.0, 9, 5]), -jnp.ones(1), jnp.ones(1))
    path = np.arange(20.0).reshape(2, 5, 2)
    rollouts = _toy.played(path, np.ones(2), np.zeros(2)).replace(
        path_mask=jnp.array([[1] * 5, [1, 1, 1, 0, 0]])
    )
    points, kept = path_points(rollouts, bounds, spec, 5)
    scaled = (path - 1.0) / np.array([2.0, 4.0])
    np.testing.assert_allclose(points[0].reshape(5, 2) * 5**0.5, scaled[0])
    np.testing.assert_allclose(points[1].reshape(5, 2) * 5**0.5, scaled[1][[0, 1, 2, 2, 2]])
    rms = math.sqrt(np.square(scaled[0] - scaled[1][[0, 1, 2, 2, 2]]).sum(1).mean())
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(rms)
    assert kept.all()
    again = path_points(rollouts, bounds.with_history(2), spec, 5)[0]
    np.testing.assert_array_equal(again, points)
    gone = rollouts.replace(outcome={"diverged": jnp.array([0.0, 1.0])})
    assert path_points(gone, bounds, spec, 5)[1].tolist() == [True, False]


def test_positions_in_a_dict_of_entries():
    obs = ObsSpec.of({"b": ObsEntry((1,)), "image": ObsEntry((4, 4, 1), "image"), "a": ObsEntry((2,))})
    spec = EnvSpec("plane", 3, 1, 4, 0, (-1.0,), (1.0,), position=(1, 2), obs=obs)
    low = {"a": -jnp.ones(2), "b": jnp.zeros(1)}
    bounds = Normalizer(low, {"a": jnp.ones(2), "b": 10 * jnp.ones(1)}, -jnp.ones(1), jnp.ones(1))
    rollouts = _toy.played(np.full((1, 5, 2), 5.0), np.ones(1), np.zeros(1)).replace(
        path_mask=jnp.ones((1, 5))
    )
    points = path_points(rollouts, bounds, spec, 2)[0]
    np.testing.assert_allclose(points.reshape(2, 2) * 2**0.5, [[5.0, 0.0]] * 2)


def test_without_positions_there_is_nothing_to_say():
    rollouts, env = fan(2)
    assert measure(rollouts, None) == {}
    few = rollouts.replace(path=rollouts.path[:4], path_mask=rollouts.path_mask[:4])
    assert measure(few, env) == {}
