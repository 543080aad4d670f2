import json
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from mmbc_jax.core.errors import ConfigError, DataError, UserError
from mmbc_jax.data.load import load
from tests.data import _lerobot_files as files

pytest.importorskip("pyarrow")


def options(**fields):
    return ConfigDict(fields)


@pytest.mark.parametrize("version", files.WRITERS)
def test_numbers_of_both_versions(tmp_path, version):
    folder = files.WRITERS[version](tmp_path / "set")
    episodes = load(folder)
    np.testing.assert_array_equal(episodes.obs, files.STATE)
    np.testing.assert_array_equal(episodes.action, files.ACTION)
    np.testing.assert_array_equal(episodes.ends, files.ENDS)
    assert episodes.mode is None
    both = load(folder, options(obs_keys=("observation.grip", "observation.state[1:3]")))
    np.testing.assert_array_equal(both.obs, np.concatenate([files.GRIP[:, None], files.STATE[:, 1:]], 1))


@pytest.mark.parametrize("version", files.WRITERS)
def test_image_columns(tmp_path, version):
    folder = files.WRITERS[version](tmp_path / "set")
    seen = load(folder, options(obs_keys=("observation.images.top", "observation.state"))).obs
    assert set(seen) == {"top", "state"}
    np.testing.assert_array_equal(seen["top"], files.IMAGE)
    np.testing.assert_array_equal(seen["state"], files.STATE)


@pytest.mark.parametrize("version", files.WRITERS)
def test_videos(tmp_path, version):
    """Version 3 has all episodes in one video, each from its own time on."""
    pytest.importorskip("av")
    folder = files.WRITERS[version](tmp_path / "set", video=True)
    seen = load(folder, options(obs_keys=("observation.images.side",))).obs
    np.testing.assert_array_equal(seen["side"], files.IMAGE)


def test_rows_come_in_the_order_of_their_frames(tmp_path):
    """A shard whose rows were shuffled says the same."""
    folder = files.version_3(tmp_path / "set")
    rows = np.random.default_rng(1).permutation(7)
    files.write_table(folder / "data/chunk-000/file-000.parquet", files.columns(rows))
    episodes = load(folder, options(obs_keys=("observation.images.top",)))
    np.testing.assert_array_equal(episodes.action, files.ACTION)
    np.testing.assert_array_equal(episodes.obs["top"], files.IMAGE)


def change_info(folder, **changes):
    path = folder / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewritten(folder, **content):
    rows = np.arange(7)
    files.write_table(folder / "data/chunk-000/file-000.parquet", files.columns(rows) | content)


def without(folder, key):
    content = files.columns(np.arange(7))
    del content[key]
    files.write_table(folder / "data/chunk-000/file-000.parquet", content)


STATE_OF_4 = files.FEATURES | {"observation.state": {"dtype": "float32", "shape": [4]}}
TOP_OF_8 = files.FEATURES | {"observation.images.top": {"dtype": "image", "shape": [8, 8, 3]}}
WRONG = {
    "version": (
        lambda f: change_info(f, codebase_version="v1.6"),
        "codebase_version is 'v1.6', must be one of v2.0",
    ),
    "fps": (lambda f: change_info(f, fps="fast"), "info.json: fps is 'fast', must be a number above 0"),
    "features": (
        lambda f: change_info(f, features={"action": {"shape": [-1]}}),
        "features must map names to a dtype",
    ),
    "out of it": (
        lambda f: change_info(f, data_path="../{chunk_index}/x.parquet"),
        "data_path leads to .* out of the",
    ),
    "template": (
        lambda f: change_info(f, data_path="{nothing}"),
        "data_path is '{nothing}', must be a template of",
    ),
    "size": (
        lambda f: change_info(f, features=STATE_OF_4),
        "observation.state has 3 entries in row 0, must be 4",
    ),
    "frames": (
        lambda f: rewritten(f, frame_index=files.FRAME[:7] + 1),
        "episode 0 has 4 rows, whose frame_index must",
    ),
    "text": (lambda f: rewritten(f, action=["a"] * 7), "action is string, must be lists of 2"),
    "column": (lambda f: without(f, "action"), "no column 'action'; found observation.state"),
    "damage": (
        lambda f: (f / "data/chunk-000/file-001.parquet").write_bytes(b"PAR1 cut"),
        "file-001.parquet: damaged, or no Parquet file",
    ),
    "gone": (lambda f: (f / "data/chunk-000/file-001.parquet").unlink(), "no file .*file-001.parquet"),
    "no episodes": (lambda f: (f / "meta/episodes/chunk-000/file-000.parquet").unlink(), "holds no episodes"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said(tmp_path, kind):
    change, message = WRONG[kind]
    folder = files.version_3(tmp_path / "set")
    change(folder)
    with pytest.raises(DataError, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def test_images_of_another_size_and_missing_features(tmp_path):
    folder = files.version_3(tmp_path / "set", features=TOP_OF_8)
    with pytest.raises(DataError, match="image 0 of observation.images.top .*16 x 24, must be 8 x 8"):
        load(folder, options(obs_keys=("observation.images.top",)))
    with pytest.raises(DataError, match="no array 'observation.stat'; did you mean 'observation.state'"):
        load(folder, options(obs_keys=("observation.stat",)))
    with pytest.raises(ConfigError, match="observation.state has columns 0:3"):
        load(folder, options(obs_keys=("observation.state[1:7]",)))


def test_a_video_without_the_frames(tmp_path):
    pytest.importorskip("av")
    folder = files.version_3(tmp_path / "set", video=True)
    files.write_video(folder / "videos/observation.images.side/chunk-000/file-000.mp4", files.IMAGE[:9])
    with pytest.raises(
        DataError, match=r"no frame of observation.images.side at 0\.900 s, at 10 frames per second"
    ):
        load(folder, options(obs_keys=("observation.images.side",)))


@pytest.mark.parametrize(("package", "extra"), [("pyarrow", "data"), ("av", "video")])
def test_packages_that_are_missing(tmp_path, monkeypatch, package, extra):
    folder = files.version_3(tmp_path / "set", video=False, features=files.FEATURES | {"side": files.VIDEO})
    if package == "av":
        monkeypatch.setattr(
            "mmbc_jax.data.loaders._lerobot_meta.Meta._version_3", lambda *_: [stored(folder)]
        )
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    keys = ("side",) if package == "av" else ("observation.state",)
    with pytest.raises(
        UserError, match=rf"package {package}, which is not installed: `pip install 'mmbc-jax\[{extra}"
    ):
        load(folder, options(obs_keys=keys))


def stored(folder):
    from mmbc_jax.data.loaders._lerobot_meta import Stored

    return Stored(0, 4, folder / "data/chunk-000/file-000.parquet", {"side": (folder / "a.mp4", 0.0)})
