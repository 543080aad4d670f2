import dataclasses

import numpy as np
import pytest

from mmbc_jax.core.errors import DataError
from mmbc_jax.data import load as load_lib
from mmbc_jax.data.episodes import Episodes


def make(lengths=(3, 1, 4), mode=(0, 1, 1), num_modes=2):
    """Row i holds obs (i, 10 i) and action -i, so that rows can be told apart."""
    n = sum(lengths)
    rows = np.arange(n, dtype=np.float64)
    labels = None if mode is None else np.asarray(mode)
    obs = np.stack([rows, 10 * rows], axis=1)
    return Episodes(obs, -rows[:, None], np.cumsum(lengths), labels, "test", num_modes)


def test_boundaries_and_types():
    episodes = make()
    assert len(episodes) == 3
    np.testing.assert_array_equal(episodes.lengths, [3, 1, 4])
    np.testing.assert_array_equal(episodes.starts, [0, 3, 4])
    np.testing.assert_array_equal(episodes.obs[episodes.episode(1), 0], [3])
    np.testing.assert_array_equal(episodes.obs[episodes.episode(-1), 0], [4, 5, 6, 7])
    assert (episodes.obs.dtype, episodes.action.dtype) == (np.float32, np.float32)
    assert (episodes.ends.dtype, episodes.mode.dtype) == (np.int64, np.int32)
    with pytest.raises(IndexError):
        episodes.episode(3)
    assert episodes.validate() is episodes


def test_select_keeps_rows_labels_and_order():
    chosen = make().select(np.asarray([2, 0])).validate()
    np.testing.assert_array_equal(chosen.action[:, 0], [-4, -5, -6, -7, 0, -1, -2])
    np.testing.assert_array_equal(chosen.ends, [4, 7])
    np.testing.assert_array_equal(chosen.mode, [1, 0])


def test_split_is_a_partition_by_whole_episodes():
    episodes = make(lengths=(2, 3, 1, 5, 4, 2), mode=None, num_modes=0)
    train, held = episodes.split(0.3, seed=3)
    assert len(held) == 2  # round(.3 * 6)
    assert len(train) == 4
    rows = np.concatenate([train.obs[:, 0], held.obs[:, 0]])
    np.testing.assert_array_equal(np.sort(rows), np.arange(17))
    for part in (train, held):
        part.validate()
        # Consecutive row numbers inside an episode: none was cut or mixed.
        for i in range(len(part)):
            assert (np.diff(part.obs[part.episode(i), 0]) == 1).all()


def test_split_gives_every_mode_its_share():
    # 5 modes x 10 episodes, a fifth held out: exactly 2 of each. 3 modes with 4, 8, 20: 1, 2, 5 to within 1.
    even = make(lengths=[2] * 50, mode=np.repeat(np.arange(5), 10), num_modes=5)
    for seed in range(20):
        _, held = even.split(0.2, seed)
        np.testing.assert_array_equal(np.bincount(held.mode, minlength=5), [2] * 5)
    uneven = make(lengths=[1] * 32, mode=np.repeat([0, 1, 2], [4, 8, 20]), num_modes=3)
    for seed in range(20):
        _, held = uneven.split(0.25, seed)
        assert len(held) == 8
        assert (np.abs(np.bincount(held.mode, minlength=3) - [1, 2, 5]) <= 1).all()


def test_a_small_split_favours_no_mode():
    # 2 of 24 episodes, 3 in each of 8 modes, 400 times: each mode is held out 100 times in the mean, with
    # deviation sqrt(400 * .25 * .75) = 8.7.
    episodes = make(lengths=[1] * 24, mode=np.repeat(np.arange(8), 3), num_modes=8)
    held = [episodes.split(2 / 24, seed)[1].mode for seed in range(400)]
    assert all(len(set(modes)) == 2 for modes in held)
    assert np.abs(np.bincount(np.concatenate(held), minlength=8) - 100).max() < 5 * 8.7


def test_split_depends_on_the_seed_only():
    episodes = make(lengths=[1] * 40, mode=[0] * 40, num_modes=1)
    first, again, other = (episodes.split(0.5, seed)[1].obs[:, 0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("fraction", "held"), [(0.0, 0), (0.01, 1), (0.5, 2), (0.99, 2)])
def test_split_leaves_both_sides_something(fraction, held):
    # 3 episodes: round(.01 * 3) = 0 becomes 1; round(.99 * 3) = 3 becomes 2.
    train, other = make().split(fraction, 0)
    assert (len(train), len(other)) == (3 - held, held)
    assert other.obs.shape[1] == 2


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_split_refuses_other_fractions(fraction):
    with pytest.raises(ValueError, match="fraction"):
        make().split(fraction, 0)


def changed(**fields):
    return dataclasses.replace(make(), **fields)


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        (changed(obs=np.zeros(8)), r"obs has shape \(8,\)"),
        (changed(action=np.zeros((8, 0))), "action has shape"),
        (changed(action=np.zeros((7, 1))), "obs has 8 rows and action 7"),
        (changed(ends=np.asarray([3, 3, 8])), "episode 1 starts at row 3 and ends at 3; ends must increase"),
        (changed(ends=np.asarray([3, 4, 7])), "last episode ends at row 7 but there are 8 rows"),
        (changed(ends=np.zeros(0), mode=None), "no episodes"),
        (changed(mode=np.asarray([0, 1])), r"mode has shape \(2,\)"),
        (changed(mode=np.asarray([0, 2, 1])), "mode of episode 1 is 2; allowed: -1 .none. to 1"),
        (changed(mode=np.asarray([0, -2, 1])), "mode of episode 1 is -2"),
    ],
)
def test_validate_names_what_is_wrong(episodes, message):
    with pytest.raises(DataError, match=message):
        episodes.validate()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_validate_names_the_episode_and_step_of_a_bad_number(value):
    obs = np.asarray(make().obs, np.float64)
    obs[6, 1] = value  # episode 2 starts at row 4: step 2; 1e39 does not fit float32
    with pytest.raises(DataError, match="test: obs of episode 2, step 2, column 1 is (nan|inf)"):
        changed(obs=obs).validate()


def test_save_and_load_again(tmp_path):
    episodes = make(mode=(0, -1, 1), num_modes=5)
    path = episodes.save_npz(tmp_path / "demos.npz")
    again = load_lib.load(path)
    for name in ("obs", "action", "ends", "mode", "num_modes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(episodes, name))
    assert again.source == str(path)
    assert [p.name for p in tmp_path.iterdir()] == ["demos.npz"]


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = make().save_npz(tmp_path / "demos.npz")
    before = path.read_bytes()

    def fail(stream, **arrays):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(DataError, match="disk full"):
        make(mode=None).save_npz(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["demos.npz"]


def test_save_refuses_other_names_and_missing_folders(tmp_path):
    with pytest.raises(DataError, match="must end in .npz"):
        make().save_npz(tmp_path / "demos.zip")
    with pytest.raises(DataError, match="cannot be written"):
        make().save_npz(tmp_path / "nowhere" / "demos.npz")


def pictured(lengths=(3, 1, 4)):
    """Images whose every pixel is the number of its row, beside the numbers themselves."""
    n = sum(lengths)
    rows = np.arange(n)
    image = np.broadcast_to(rows[:, None, None, None], (n, 4, 5, 3)).astype(np.uint8)
    obs = {"state": np.stack([rows, 10 * rows], 1), "image": image, "goal.at": -rows[:, None]}
    return Episodes(obs, -rows[:, None], np.cumsum(lengths), np.asarray([0, 1, 1]), "test", 2)


def test_entries_are_typed_and_described():
    episodes = pictured().validate()
    assert {name: values.dtype for name, values in episodes.obs.items()} == {
        "state": np.float32, "image": np.uint8, "goal.at": np.float32
    }  # fmt: skip
    kinds = {name: (entry.kind, entry.shape) for name, entry in episodes.spec.entries}
    assert kinds == {"goal.at": ("vector", (1,)), "image": ("image", (4, 5, 3)), "state": ("vector", (2,))}
    assert not episodes.spec.plain
    assert make().spec.plain
    assert make().spec.size == 2
    chosen = episodes.select(np.asarray([2, 0]))
    for name, factor in (("state", 1), ("image", 1), ("goal.at", -1)):
        first = chosen.obs[name].reshape(7, -1)[:, 0]
        np.testing.assert_array_equal(factor * first, [4, 5, 6, 7, 0, 1, 2])


def test_entries_survive_a_file(tmp_path):
    episodes = pictured()
    again = load_lib.load(episodes.save_npz(tmp_path / "demos.npz"))
    assert again.spec == episodes.spec
    for name, values in episodes.obs.items():
        assert again.obs[name].dtype == values.dtype
        np.testing.assert_array_equal(again.obs[name], values)
    for name in ("action", "ends", "mode", "num_modes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(episodes, name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((7, 4, 5, 3), np.uint8)}, "image has 7 rows and action 8"),
        (
            {"image": np.zeros((8, 4, 5, 3))},
            r"image has shape \(8, 4, 5, 3\) of float64, must be \[steps, size\], or one of image .uint8, 4 axes",
        ),
        ({"state": np.full((8, 2), np.nan)}, "state of episode 0, step 0, column 0 is nan"),
    ],
)
def test_validate_names_the_entry(change, message):
    episodes = pictured()
    with pytest.raises(DataError, match=message):
        dataclasses.replace(episodes, obs=episodes.obs | change).validate()


def test_an_observation_needs_an_entry_and_an_image_a_name():
    with pytest.raises(DataError, match="no entries"):
        changed(obs={}).validate()
    with pytest.raises(DataError, match=r"obs has shape \(8, 4, 4, 3\), must be \[steps, size\]$"):
        changed(obs=np.zeros((8, 4, 4, 3), np.uint8)).validate()
