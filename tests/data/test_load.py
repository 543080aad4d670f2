import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from mmbc_jax.core.errors import ConfigError, DataError
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.types import EnvSpec
from mmbc_jax.data import load as load_lib
from mmbc_jax.data.episodes import Episodes

SPEC = EnvSpec("task", 2, 1, 100, 3, (-1.0,), (1.0,))


def demos(lengths=(3, 5), mode=(0, 2)):
    n = sum(lengths)
    obs, action = np.zeros((n, 2)), np.linspace(-1, 1, n)[:, None]
    return Episodes(obs, action, np.cumsum(lengths), np.asarray(mode), "demos.npz", 3)


def test_every_reader_in_the_table_exists():

    for loader in load_lib.loaders().values():
        assert callable(loader.read)


def test_resolve_expands_the_variable(tmp_path, monkeypatch):
    (tmp_path / "a.npz").touch()
    monkeypatch.setenv("MMBC_DATA", str(tmp_path))
    assert load_lib.resolve("$MMBC_DATA/a.npz") == tmp_path / "a.npz"
    assert load_lib.resolve("${MMBC_DATA}/a.npz") == tmp_path / "a.npz"
    with pytest.raises(DataError, match="no data at .*b.npz.*MMBC_DATA is"):
        load_lib.resolve("$MMBC_DATA/b.npz")


def test_resolve_says_how_to_set_the_variable(monkeypatch):
    monkeypatch.delenv("MMBC_DATA", raising=False)
    with pytest.raises(DataError, match="not set; export MMBC_DATA="):
        load_lib.resolve("$MMBC_DATA/a.npz")
    with pytest.raises(DataError, match=r"no data at 'a.npz'.*MMBC_DATA is not set.*write \$MMBC_DATA/"):
        load_lib.resolve("a.npz")
    with pytest.raises(DataError, match="no data at ''"):
        load_lib.resolve("")


def test_suffix_without_reader(tmp_path):
    path = tmp_path / "demos.mat"
    path.touch()
    with pytest.raises(DataError, match=r"'.mat'; allowed: .h5, .hdf5, .npz, .pickle, .pkl, .zarr, .zip"):
        load_lib.load(path)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        load_lib.load(tmp_path / "folder.npz")


def test_options_reach_the_reader_and_others_are_ignored(tmp_path):
    path = demos().save_npz(tmp_path / "demos.npz")
    whole = ConfigDict({"path": "elsewhere", "obs_keys": ("action", "obs[0:1]")})
    assert load_lib.load(path, whole).obs.shape == (8, 2)
    for wrong, allowed in ((2, "0 to 1"), (-1, "0 to 1"), ("obs", "a whole number")):
        with pytest.raises(ConfigError, match=f"config.data.reader.angles = {wrong!r} .*{allowed}"):
            load_lib.load(path, ConfigDict({"angles": (wrong,)}))


def test_what_fits_passes():
    load_lib.check_fits(demos(), SPEC, 5)
    unlabelled = dataclasses.replace(demos(), mode=None)
    load_lib.check_fits(unlabelled, dataclasses.replace(SPEC, num_modes=0), 1)
    unbounded = dataclasses.replace(SPEC, action_low=(-np.inf,), action_high=(np.inf,))
    load_lib.check_fits(dataclasses.replace(demos(), action=1e6 * demos().action), unbounded, 5)


@pytest.mark.parametrize(
    ("changes", "chunk_len", "message"),
    [
        ({"obs_dim": 4, "obs": None}, 1, "observations have size 2, environment 'task' has 4"),
        ({"action_dim": 2}, 1, "actions have size 1, environment 'task' has 2"),
        ({"num_modes": 2}, 1, "mode of episode 1 is 2, environment 'task' has modes 0 to 1"),
        ({}, 6, "chunk of 6 actions is longer than every episode; the longest, episode 1, has 5 steps"),
        # Actions are linspace(-1, 1, 8); the first above .5 + 1 % of the range 1.5 is 5/7, row 6.
        ({"action_high": (0.5,)}, 1, "episode 1, step 3, column 0 is 0.714286, .* allows -1 to 0.5"),
    ],
)
def test_what_does_not_fit_is_named(changes, chunk_len, message):
    with pytest.raises(DataError, match=message):
        load_lib.check_fits(demos(), dataclasses.replace(SPEC, **changes), chunk_len)


def test_bounds_have_one_percent_slack():
    # Range 2, slack .02: 1.01 passes and 1.03 does not.
    for factor, fits in ((1.01, True), (1.03, False)):
        episodes = dataclasses.replace(demos(), action=factor * demos().action)
        if fits:
            load_lib.check_fits(episodes, SPEC, 1)
        else:
            with pytest.raises(DataError, match="are the units"):
                load_lib.check_fits(episodes, SPEC, 1)


def test_avoiding_recordings(shared_data):
    episodes = load_lib.load(shared_data / "avoiding" / "d3il_avoiding_scripted_72.npz")
    assert (len(episodes), episodes.obs.shape, episodes.action.shape) == (72, (8367, 4), (8367, 2))
    assert (episodes.num_modes, episodes.lengths.min(), episodes.lengths.max()) == (24, 84, 177)
    np.testing.assert_array_equal(np.bincount(episodes.mode), [3] * 24)
    assert np.abs(episodes.action).max() <= 0.01 * (1 + 1e-6)
    # Actions are the changes of the desired position, columns 0 and 1.
    for i in range(72):
        rows = episodes.episode(i)
        change = np.diff(episodes.obs[rows, :2].astype(np.float64), axis=0)
        np.testing.assert_allclose(change, episodes.action[rows][:-1], atol=2e-7)
    spec = EnvSpec("avoiding", 4, 2, 250, 24, (-0.01, -0.01), (0.01, 0.01))
    load_lib.check_fits(episodes, spec, 16)
    train, held = episodes.split(1 / 3, 0)
    np.testing.assert_array_equal(np.bincount(train.mode), [2] * 24)
    np.testing.assert_array_equal(np.bincount(held.mode), [1] * 24)


def test_pusht_recordings(shared_data):
    path = shared_data / "pusht" / "pusht_human_164.npz"
    episodes = load_lib.load(path)
    assert (len(episodes), episodes.obs.shape, episodes.action.shape) == (164, (20314, 5), (20314, 2))
    assert (episodes.lengths.min(), episodes.lengths.max(), episodes.mode) == (56, 246, None)
    assert episodes.action.min() >= 0
    assert episodes.action.max() <= 512
    assert episodes.obs[:, 4].min() >= 0
    assert episodes.obs[:, 4].max() <= 2 * np.pi + 1e-5
    keypoints = load_lib.load(path, ConfigDict({"obs_keys": ("keypoint", "state[0:2]")}))
    assert keypoints.obs.shape == (20314, 20)
    np.testing.assert_array_equal(keypoints.obs[:, 18:], episodes.obs[:, :2])
    turned = load_lib.load(path, ConfigDict({"angles": (4,)})).obs
    assert turned.shape == (20314, 6)
    np.testing.assert_allclose(
        turned[:, 4:], np.stack([np.cos(episodes.obs[:, 4]), np.sin(episodes.obs[:, 4])], 1)
    )


@pytest.mark.parametrize(
    ("name", "count", "obs_dim", "action_dim", "steps"),
    [("kitchen-complete-v0_ibc.npz", 4, 60, 9, 755), ("door-human-v0_ibc.npz", 11, 39, 28, 1700)],
)
def test_d4rl_recordings(shared_data, name, count, obs_dim, action_dim, steps):
    episodes = load_lib.load(shared_data / "d4rl" / name)
    assert len(episodes) == count
    assert episodes.obs.shape == (steps, obs_dim)
    assert episodes.action.shape == (steps, action_dim)
    assert np.abs(episodes.action).max() <= 1


def test_drawn_recordings(shared_data):
    path = shared_data / "lair" / "lair_human_2d.npz"
    # 97 paths, one of them a fragment that is dropped by default.
    assert len(load_lib.load(path)) == 96
    assert len(load_lib.load(path, ConfigDict({"drop": ()}))) == 97
    roads = load_lib.load(path, ConfigDict({"shapes": ("two_roads",), "stride": 5}))
    assert len(roads) == 13
    # The first path, the shortest, has 405 points; every fifth of them makes 81 points and 80 steps.
    assert roads.lengths[0] == roads.lengths.min() == 80


def test_observations_are_compared_entry_by_entry():
    entries = {
        "image": ObsEntry((4, 4, 3), "image"),
        "state": ObsEntry((2,), low=(0.0, 0.0), high=(1.0, 1.0)),
    }
    spec = dataclasses.replace(SPEC, obs=ObsSpec.of(entries))
    seen = {"image": np.zeros((8, 4, 4, 3), np.uint8), "state": np.zeros((8, 2))}
    load_lib.check_fits(
        dataclasses.replace(demos(), obs=seen), spec, 1
    )  # bounds are no part of the comparison
    wants = r"environment 'task' has image \[4, 4, 3\], state \[2\]"
    for obs, has in (
        (demos().obs, "size 2"),
        ({"state": seen["state"]}, r"state \[2\]"),
        (seen | {"image": np.zeros((8, 8, 8, 3), np.uint8)}, r"image \[8, 8, 3\], state \[2\]"),
        (seen | {"camera": seen["image"]}, r"camera \[4, 4, 3\], image \[4, 4, 3\], state \[2\]"),
    ):
        with pytest.raises(DataError, match=f"observations have {has}, {wants}"):
            load_lib.check_fits(dataclasses.replace(demos(), obs=obs), spec, 1)
    with pytest.raises(DataError, match=r"observations have image .*, environment 'task' has 2"):
        load_lib.check_fits(dataclasses.replace(demos(), obs=seen), SPEC, 1)
