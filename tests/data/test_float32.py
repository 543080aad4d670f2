"""What float32 loses is found before anything is trained on it."""

import dataclasses

import numpy as np
import pytest

from mmbc_jax.core.errors import DataError
from mmbc_jax.data import load as load_lib
from mmbc_jax.data.episodes import Episodes

ROWS = np.arange(100.0)
SECONDS = 1.7e9 + ROWS  # since 1970: float32 has steps of 128 s there
PLAIN = np.stack([np.sin(ROWS), np.cos(ROWS)], 1)


def store(folder, kind, **arrays):
    folder.mkdir(exist_ok=True)
    path = folder / f"a.{kind}"
    arrays = {"obs": PLAIN, "action": PLAIN, "episode_ends": np.asarray([100])} | arrays
    if kind == "npz":
        np.savez(path, **arrays)
        return path
    zarr = pytest.importorskip("zarr")
    root = zarr.create_group(zarr.storage.LocalStore(path), zarr_format=2)
    for name, values in arrays.items():
        group = "meta" if name == "episode_ends" else "data"
        root.create_array(f"{group}/{name}", shape=values.shape, dtype=values.dtype)[...] = values
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["npz", "zarr"])
@pytest.mark.parametrize("name", ["obs", "action"])
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_a_column_that_an_offset_has_eaten_is_refused(tmp_path, kind, name, dtype):
    columns = (np.concatenate([100 * PLAIN, SECONDS[:, None]], 1)).astype(dtype)
    left = len(np.unique(SECONDS.astype(np.float32)))
    with pytest.raises(
        DataError, match=f"column 2 of {name} has 100 distinct .* keeps {left} .*subtract 17000"
    ):
        load_lib.load(store(tmp_path, kind, **{name: columns}))
    columns[:, 2] -= 1_700_000_000
    assert load_lib.load(store(tmp_path / "again", kind, **{name: columns})).notes == ()


def test_drawings_and_named_entries_are_looked_at_too(tmp_path):
    np.savez(tmp_path / "a.npz", line_0=np.stack([SECONDS, SECONDS], 1))
    with pytest.raises(DataError, match="column 0 of obs has 99 distinct"):
        load_lib.load(tmp_path / "a.npz")
    # far from the origin displacements are still exact: they are taken before anything is rounded
    far = np.stack([3e4 + 1e-4 * np.cumsum(ROWS), 50 * ROWS], 1)
    np.savez(tmp_path / "b.npz", line_0=far + np.asarray([1e4, 0]) * (ROWS[:, None] == 0))
    np.testing.assert_allclose(load_lib.load(tmp_path / "b.npz").action[1:, 0], 1e-4 * ROWS[2:], rtol=1e-3)
    path = store(tmp_path, "npz", **{"obs.clock": SECONDS[:, None], "obs.other": PLAIN})
    with pytest.raises(DataError, match="column 0 of clock"):
        load_lib.load(path)


def test_what_may_be_a_computed_constant_is_reported_and_kept():
    settled = 0.8 + 1e-8 * np.sin(ROWS)  # a resting height
    rounded = 0.8 + 1e-16 * np.round(np.sin(ROWS))
    episodes = Episodes(np.stack([settled, rounded], 1), PLAIN, [100], None, "a.npz")
    (note,) = episodes.notes
    assert "column 0 of obs has 100 distinct values, of which float32 keeps 1" in note
    assert episodes.select(np.asarray([0])).notes == episodes.notes
    assert dataclasses.replace(episodes, source="b").notes == episodes.notes


@pytest.mark.parametrize("value", [1e18, -1e30])
@pytest.mark.parametrize("name", ["obs", "action"])
def test_what_cannot_have_been_meant_is_refused(name, value):
    rows = {"obs": PLAIN.copy(), "action": PLAIN.copy()}
    rows[name][7, 1] = value
    with pytest.raises(DataError, match=f"{name} of episode 0, step 7, column 1 is .*must lie below 1e\\+18"):
        Episodes(**rows, ends=[100], mode=None, source="a.npz").validate()
