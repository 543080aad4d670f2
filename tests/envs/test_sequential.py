from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry

from . import _path_tools as tools


def test_ends_and_forks():
    env = tools.build("sequential")
    paths = np.asarray(env.mean_paths(env.default_params()))
    assert env.spec.mode_names == ("LL", "LR", "RL", "RR")
    # .5 -/+ .25 -/+ .15
    np.testing.assert_allclose(paths[:, -1], [[0.1, 1], [0.4, 1], [0.6, 1], [0.9, 1]], atol=1e-6)
    np.testing.assert_allclose(paths[:, :24, 0], 0.5, atol=1e-6)  # 23 / 59 = .39
    np.testing.assert_array_equal(paths[0, :42], paths[1, :42])  # 41 / 59 = .695: one decision so far
    assert (paths[0, 42:, 0] < paths[1, 42:, 0]).all()


def test_between_the_branches_is_an_obstacle():
    env = tools.build("sequential")
    ahead = np.stack([np.full(60, 0.5), np.linspace(0, 1, 60)], -1)
    collision = np.asarray(tools.drive(env, ahead).metrics["collision"])
    # y reaches .5 at position 30 = .508 (29 / 59 = .492 is free); remembered to the end
    np.testing.assert_array_equal(collision, np.arange(60) >= 30)


@pytest.mark.parametrize(("first", "second"), [(0.25, 0.15), (0.05, 0.4), (0.1, 0.39), (0.4, 0.05)])
def test_closest_pair_for_any_shifts(first, second):
    env = registry.build(
        "env", config.plugin("env", "sequential", first_shift=first, second_shift=second, noise=0.0)
    )
    paths = tools.mean_paths("sequential", 4, first_shift=first, second_shift=second)
    gaps = np.linalg.norm(paths[:, None] - paths, axis=-1).mean(-1)[~np.eye(4, dtype=bool)]
    assert float(env.separation(env.default_params())) == pytest.approx(gaps.min(), rel=1e-5)


def test_default_params_are_the_geometry():
    params = tools.build("sequential").default_params()
    assert {k: float(v) for k, v in params.items()} == pytest.approx(
        {"noise": 0.012, "first_shift": 0.25, "second_shift": 0.15}
    )
    assert all(jnp.ndim(v) == 0 for v in params.values())
