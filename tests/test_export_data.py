"""Demonstrations written for other frameworks and read back are the same numbers."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from mmbc_jax import export_data
from mmbc_jax.core.errors import UserError
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.load import load

pytest.importorskip("pyarrow")
pytest.importorskip("zarr")
RNG = np.random.default_rng(0)
LENGTHS = np.array([4, 1, 5])


def episodes(images=False, labels=True):
    state = RNG.normal(size=(10, 3)).astype(np.float32)
    obs = state
    if images:
        obs = {"camera": RNG.integers(0, 256, size=(10, 8, 6, images), dtype=np.uint8), "state": state}
    mode = np.array([2, -1, 0]) if labels else None
    action = RNG.normal(size=(10, 1)).astype(np.float32)
    return Episodes(obs, action, np.cumsum(LENGTHS), mode, "made", 4 if labels else 0).validate()


def exported(tmp_path, given, form):
    given.save_npz(tmp_path / "given.npz")
    out = tmp_path / ("out.zarr" if form == "zarr" else "out")
    argv = [f"--data={tmp_path / 'given.npz'}", f"--out={out}", f"--format={form}"]
    assert export_data.main(argv) == 0
    return out


KEYS = {
    "lerobot": ("observation.images.camera", "observation.state"),
    "zarr": ("camera", "state"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("images", [0, 1, 3])
@pytest.mark.parametrize("form", export_data.FORMATS)
def test_round_trip(tmp_path, form, images, labels, capsys):
    given = episodes(images, labels)
    out = exported(tmp_path, given, form)
    found = load(out, ConfigDict({"obs_keys": KEYS[form] if images else ()}))
    assert found.entries.keys() == given.entries.keys()
    for name, values in given.entries.items():
        np.testing.assert_array_equal(found.entries[name], values)
        assert found.entries[name].dtype == values.dtype
    np.testing.assert_array_equal(found.action, given.action)
    np.testing.assert_array_equal(found.ends, given.ends)
    assert (found.mode is None) == (not labels)
    if labels:
        np.testing.assert_array_equal(found.mode, given.mode)
    assert found.num_modes == given.num_modes
    said = json.loads(capsys.readouterr().out)
    assert (said["episodes"], said["steps"]) == (3, 10)


def test_what_describes_a_lerobot_set(tmp_path):
    """Statistics against NumPy's, times, episodes and the frame of tasks, each as the published layout has it."""
    import pyarrow.parquet as pq

    given = episodes(images=3)
    out = exported(tmp_path, given, "lerobot")
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == ("v3.0", 3, 10)
    assert info["features"]["observation.images.camera"]["shape"] == [8, 6, 3]
    stats = json.loads((out / "meta/stats.json").read_text())
    state, camera = given.obs["state"], given.obs["camera"] / 255.0
    np.testing.assert_allclose(stats["observation.state"]["mean"], state.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stats["observation.state"]["q90"], np.quantile(state, 0.9, axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        stats["observation.images.camera"]["std"], camera.std((0, 1, 2)).reshape(3, 1, 1), rtol=1e-6
    )
    assert stats["action"]["count"] == [10]
    rows = pq.read_table(out / "data/chunk-000/file-000.parquet").to_pydict()
    np.testing.assert_allclose(
        rows["timestamp"], np.concatenate([np.arange(n) / 10 for n in LENGTHS]), atol=1e-7
    )
    assert rows["index"] == list(range(10))
    assert set(rows) == set(info["features"])
    meta = pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert meta["dataset_from_index"] == [0, 4, 5]
    assert meta["dataset_to_index"] == [4, 5, 10]


def test_files_of_a_lerobot_set_are_divided(tmp_path, monkeypatch):
    """More than a file may hold: a file per episode here, and folders of two."""
    from mmbc_jax.data import export_lerobot

    monkeypatch.setattr(export_lerobot, "_MEGABYTES", 0)
    monkeypatch.setattr(export_lerobot, "_CHUNK", 2)
    given = episodes()
    out = exported(tmp_path, given, "lerobot")
    assert sorted(str(path.relative_to(out / "data")) for path in out.glob("data/*/*")) == [
        "chunk-000/file-000.parquet",
        "chunk-000/file-001.parquet",
        "chunk-001/file-000.parquet",
    ]
    np.testing.assert_array_equal(load(out).obs, given.obs)


def test_an_expert(tmp_path, capsys):
    out = tmp_path / "set"
    argv = ["--env=landscape", f"--out={out}", "--format=lerobot", "--episodes=4", "--seed=3"]
    assert export_data.main(argv) == 0
    found = load(out)
    assert len(found) == 4
    np.testing.assert_array_equal(found.mode, np.arange(4) % found.num_modes)
    assert json.loads(capsys.readouterr().out)["episodes"] == 4


GOOD = ("--data=given.npz", "--out=out", "--format=lerobot")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (GOOD[1:], "needs --env, whose expert is recorded, or --data, not both"),
        ((*GOOD, "--env=avoiding"), "needs --env, whose expert is recorded, or --data, not both"),
        ((*GOOD, "--episodes=3"), "--episodes 3 is of --env"),
        ((*GOOD, "--noise=0"), "--noise 0.0 is of --env"),
        ((*GOOD, "--seed=1"), "--seed 1 is of --env"),
        ((*GOOD[:1], "--out=a.zarr", "--format=zarr", "--fps=9"), "--fps 9 is of --format lerobot"),
        (("--env=landscape", *GOOD[1:], "--config.data.reader.action_key=a"), "config.data"),
        (("--env=landscape", *GOOD[1:], "--episodes=0"), "--episodes 0 must be at least 1"),
        (("--env=landscape", *GOOD[1:], "--noise=3"), "--noise 3.0 must be at least 0 and at most 2"),
        ((*GOOD, "--fps=0"), "--fps 0 must be at least 1"),
        (("--env=landscape", *GOOD[1:], "--seed=-1"), "--seed -1 must be at least 0"),
        ((*GOOD, "--more"), "unknown argument '--more'"),
        ((*GOOD[:2], "--format=zarr"), "--out .*out must end in .zarr"),
        (("--data=given.npz", "--out=given.npz", "--format=lerobot"), "--out .*given.npz exists"),
    ],
)
def test_arguments_that_cannot_work(tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    episodes().save_npz(tmp_path / "given.npz")
    with pytest.raises(UserError, match=message):
        export_data.main(argv)
    assert [path.name for path in tmp_path.iterdir()] == ["given.npz"]
