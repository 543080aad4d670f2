import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from ml_collections import ConfigDict

from mmbc_jax.core.errors import ConfigError, DataError
from mmbc_jax.data import load as load_lib

OBS = np.arange(21, dtype=np.float32).reshape(7, 3)
ACTION = np.arange(14, dtype=np.float32).reshape(7, 2)
ENDS = np.asarray([4, 7])


def save(path, **changes):
    arrays = {"obs": OBS, "action": ACTION, "episode_ends": ENDS} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def options(**fields):
    return ConfigDict(fields)


@pytest.mark.parametrize("key", ["obs", "state", "observation"])
def test_npz_episodes_under_each_observation_name(tmp_path, key):
    path = save(tmp_path / "a.npz", **({"obs": None} | {key: OBS}))
    episodes = load_lib.load(path)
    np.testing.assert_array_equal(episodes.obs, OBS)
    np.testing.assert_array_equal(episodes.action, ACTION)
    np.testing.assert_array_equal(episodes.ends, ENDS)
    assert episodes.mode is None
    assert episodes.num_modes == 0


def test_npz_labels_and_further_arrays(tmp_path):
    path = save(tmp_path / "a.npz", mode=np.asarray([3, 1]), final_obs=np.zeros((2, 3)))
    episodes = load_lib.load(path)
    np.testing.assert_array_equal(episodes.mode, [3, 1])
    assert episodes.num_modes == 4
    stated = save(tmp_path / "b.npz", mode=np.asarray([3, 1]), num_modes=np.asarray(24))
    assert load_lib.load(stated).num_modes == 24


def test_npz_observation_from_several_arrays(tmp_path):
    path = save(tmp_path / "a.npz", keypoint=-OBS)
    episodes = load_lib.load(path, options(obs_keys=("keypoint", "obs[1:2]", "obs[:1]", "obs[2:]")))
    wanted = np.concatenate([-OBS, OBS[:, 1:2], OBS[:, :1], OBS[:, 2:]], axis=1)
    np.testing.assert_array_equal(episodes.obs, wanted)
    turned = load_lib.load(path, options(obs_keys=("obs",), angles=(1,))).obs
    angle = OBS[:, 1]
    np.testing.assert_allclose(turned, np.stack([OBS[:, 0], np.cos(angle), np.sin(angle), OBS[:, 2]], 1))
    swapped = load_lib.load(path, options(action_key="keypoint"))
    np.testing.assert_array_equal(swapped.action, -OBS)


def test_npz_trajectories_end_where_the_last_step_is(tmp_path):
    steps = np.asarray([0, 1, 2, 0, 1, 1, 2])
    path = save(tmp_path / "a.npz", obs=None, episode_ends=None, observation=OBS, step_type=steps)
    np.testing.assert_array_equal(load_lib.load(path).ends, [3, 7])
    cut = save(tmp_path / "b.npz", episode_ends=None, step_type=steps * 0 + np.asarray([0, 1, 2, 0, 1, 1, 1]))
    with pytest.raises(DataError, match="last episode ends at row 3 but there are 7 rows"):
        load_lib.load(cut)


def test_npz_drawings(tmp_path):
    points = np.asarray([[0, 0], [1, 0], [3, 1], [6, 1], [10, 2]], np.float32)
    paths = {"line_0": points, "line_10": points[:4] + 20, "line_2": points[:3] + 10, "big_arc_0": -points}
    np.savez(tmp_path / "a.npz", **paths)
    lines = load_lib.load(tmp_path / "a.npz", options(shapes=("line",)))
    # Paths in the order of their numbers: 0, 2, 10 with 4, 2 and 3 displacements.
    np.testing.assert_array_equal(lines.ends, [4, 6, 9])
    np.testing.assert_array_equal(lines.obs[[0, 4, 6]], [[0, 0], [10, 10], [20, 20]])
    np.testing.assert_array_equal(lines.action[:4], [[1, 0], [2, 1], [3, 0], [4, 1]])
    assert len(load_lib.load(tmp_path / "a.npz")) == 4
    strided = load_lib.load(tmp_path / "a.npz", options(shapes=("line",), stride=2, drop=("line_10",)))
    np.testing.assert_array_equal(strided.obs, [[0, 0], [3, 1], [10, 10]])
    np.testing.assert_array_equal(strided.action, [[3, 1], [7, 1], [3, 1]])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"shapes": ("lime",)}, ConfigError, "config.data.reader.shapes = 'lime'.*did you mean 'line'"),
        ({"shapes": ("line", "line")}, ConfigError, r"config.data.reader.shapes = .* each once"),
        ({"stride": 0}, ConfigError, "config.data.reader.stride = 0"),
        ({"stride": 9}, DataError, "line_0 has 1 points at stride 9"),
        ({"drop": ("line_0",)}, DataError, "every path of line is dropped"),
    ],
)
def test_npz_drawing_options_are_checked(tmp_path, fields, error, message):
    np.savez(tmp_path / "a.npz", line_0=np.zeros((5, 2)))
    with pytest.raises(error, match=message):
        load_lib.load(tmp_path / "a.npz", options(**fields))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"obs": None},
            r"no observations under obs, state, observation, observations; .*known: action, episode_ends",
        ),
        ({"action": None}, r"no array 'action'; .*known: episode_ends, obs"),
        ({"episode_ends": None}, "no episode_ends .* found action, obs"),
        ({"obs": OBS[:, 0]}, r"obs is float32 with shape \(7,\), must be real numbers \[steps, size\]"),
        ({"action": ACTION.astype(str)}, "action is <U.* must be real numbers"),
        ({"episode_ends": ENDS.astype(float)}, "episode_ends is float64 .* must be integers"),
        ({"mode": np.asarray([0.5, 1])}, "mode is float64"),
        ({"mode": np.asarray([1, 0, 1])}, r"mode has shape \(3,\)"),
        ({"mode": np.asarray([1, 0]), "num_modes": np.asarray([2])}, r"num_modes is int64 with shape \(1,\)"),
        ({"episode_ends": np.asarray([4, 6])}, "last episode ends at row 6"),
        ({"action": np.where(ACTION == 9, np.nan, ACTION)}, "action of episode 1, step 0, column 1 is nan"),
    ],
)
def test_npz_says_what_is_wrong(tmp_path, changes, message):
    path = save(tmp_path / "a.npz", **changes)
    with pytest.raises(DataError, match=message) as caught:
        load_lib.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("fields", [{"obs_keys": ("obs", "obs")}, {"angles": (0, 0)}])
def test_nothing_is_read_twice(tmp_path, fields):
    with pytest.raises(ConfigError, match="each once"):
        load_lib.load(save(tmp_path / "a.npz"), options(**fields))


def test_labels_that_a_file_cannot_mean(tmp_path):
    """-2 is no label, and what does not fit 32 bits became -1, which is none, without a word."""
    for label, found in (
        (-2, "mode of episode 1 is -2; allowed: -1"),
        (2**32 - 1, "1 is 4294967295"),
    ):
        with pytest.raises(DataError, match=found):
            load_lib.load(save(tmp_path / "a.npz", mode=np.asarray([0, label])))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("obs[2:1]", "obs has columns 0:3"),
        ("obs[0:4]", "obs has columns 0:3"),
        ("obs[0]", "needs key or key"),
    ],
)
def test_npz_obs_keys_are_checked(tmp_path, key, message):
    with pytest.raises(ConfigError, match=message):
        load_lib.load(save(tmp_path / "a.npz"), options(obs_keys=(key,)))


def test_npz_arrays_of_different_length(tmp_path):
    path = save(tmp_path / "a.npz", keypoint=OBS[:5])
    with pytest.raises(DataError, match=r"differ in length: obs \(7, 3\), keypoint \(5, 3\)"):
        load_lib.load(path, options(obs_keys=("obs", "keypoint")))
    with pytest.raises(DataError, match="no array 'keypoints'; did you mean 'keypoint'"):
        load_lib.load(path, options(obs_keys=("keypoints",)))


class Bomb:
    """Unpickling one raises something that no reader catches."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_npz_pickles_are_never_opened(tmp_path):
    save(tmp_path / "a.npz", obs=np.asarray([Bomb()] * 7, dtype=object))
    with pytest.raises(DataError, match="array 'obs' cannot be read.*pickled arrays are refused"):
        load_lib.load(tmp_path / "a.npz")


def test_npz_damage_is_reported(tmp_path):
    whole = io.BytesIO()
    rng = np.random.default_rng(0)
    np.savez_compressed(whole, obs=rng.normal(size=(400, 3)), action=np.zeros((400, 1)), episode_ends=[400])
    content = whole.getvalue()
    path = tmp_path / "a.npz"
    for damaged in (b"", b"not a zip", content[:100], content[: len(content) // 2], content[:-30]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.npz"):
            load_lib.load(path)
    flipped = bytearray(content)
    flipped[200:260] = bytes(60)
    path.write_bytes(bytes(flipped))
    with pytest.raises(DataError, match="damaged or cut short at array 'obs'"):
        load_lib.load(path)


def write_store(path, zarr_format, **changes):
    zarr = pytest.importorskip("zarr")
    arrays = {
        "data/state": OBS,
        "data/action": ACTION,
        "data/keypoint": -OBS,
        "meta/episode_ends": ENDS,
    } | changes
    store = zarr.storage.ZipStore(path, mode="w") if path.suffix == ".zip" else zarr.storage.LocalStore(path)
    root = zarr.create_group(store, zarr_format=zarr_format)
    for name, values in arrays.items():
        if values is not None:
            chunks = (3, *values.shape[1:])
            root.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)[...] = values
    store.close()
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
def test_zarr_formats_and_stores(tmp_path, zarr_format, name):
    path = write_store(tmp_path / name, zarr_format)
    episodes = load_lib.load(path)
    np.testing.assert_array_equal(episodes.obs, OBS)
    np.testing.assert_array_equal(episodes.action, ACTION)
    np.testing.assert_array_equal(episodes.ends, ENDS)
    both = load_lib.load(path, options(obs_keys=("keypoint", "state[0:2]")))
    np.testing.assert_array_equal(both.obs, np.concatenate([-OBS, OBS[:, :2]], axis=1))


def test_zarr_labels(tmp_path):
    path = write_store(tmp_path / "a.zarr", 2, **{"meta/mode": np.asarray([1, 0])})
    episodes = load_lib.load(path)
    np.testing.assert_array_equal(episodes.mode, [1, 0])
    assert episodes.num_modes == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta/episode_ends": None, "meta/other": ENDS}, "no meta/episode_ends; found .*data/action"),
        ({"meta/episode_ends": None}, "no group 'meta'; found data"),
        ({"data/action": None}, "no array 'action'"),
        ({"data/state": None, "data/keypoint": None}, "no observations under obs, state, keypoint"),
        ({"data/state": OBS[:, :, None]}, r"state is float32 with shape \(7, 3, 1\)"),
        ({"data/state": np.where(OBS == 20, np.nan, OBS)}, "obs of episode 1, step 2, column 2 is nan"),
    ],
)
def test_zarr_says_what_is_wrong(tmp_path, changes, message):
    path = write_store(tmp_path / "a.zarr", 2, **changes)
    with pytest.raises(DataError, match=message):
        load_lib.load(path)


@pytest.mark.parametrize(
    ("field", "codec", "message"),
    [
        ("compressor", {"id": "pickle", "protocol": 5}, "pickle"),
        ("filters", [{"id": "pickle", "protocol": 5}], "pickle"),
        ("filters", [{"id": "base64"}], "data/state uses codec base64; allowed codecs"),
    ],
)
def test_zarr_codecs_that_run_code_are_refused(tmp_path, field, codec, message):
    path = write_store(tmp_path / "a.zarr", 2)
    metadata = path / "data" / "state" / ".zarray"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {field: codec}))
    for chunk in metadata.parent.glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=message):
        load_lib.load(path)


def test_zarr_damage_is_reported(tmp_path):
    path = write_store(tmp_path / "a.zarr", 2)
    chunk = path / "data" / "state" / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:8])
    with pytest.raises(DataError, match="data/state is damaged or cut short"):
        load_lib.load(path)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(DataError, match="not a readable Zarr group"):
        load_lib.load(tmp_path / "empty.zarr")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match="not a zip file"):
        load_lib.load(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(DataError, match="not a readable Zarr group"):
        load_lib.load(tmp_path / "other.zip")


def test_zarr_missing_package(tmp_path, monkeypatch):
    import sys

    from mmbc_jax.core.errors import UserError

    (tmp_path / "a.zarr").mkdir()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match="pip install"):
        load_lib.load(tmp_path / "a.zarr")


IMAGE = np.arange(7 * 4 * 4 * 3, dtype=np.uint8).reshape(7, 4, 4, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", [".npz", ".zarr"])
def test_images_become_entries_and_numbers_one_vector(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        save(path, camera=IMAGE, extra=-OBS)
    else:
        write_store(path, 2, **{"data/obs": OBS, "data/camera": IMAGE, "data/extra": -OBS})
    both = load_lib.load(path, options(obs_keys=("camera", "obs[0:2]", "extra")))
    assert set(both.obs) == {"camera", "state"}
    assert both.obs["camera"].dtype == np.uint8
    np.testing.assert_array_equal(both.obs["camera"], IMAGE)
    np.testing.assert_array_equal(both.obs["state"], np.concatenate([OBS[:, :2], -OBS], 1))
    turned = load_lib.load(path, options(obs_keys=("camera", "obs"), angles=(0,)))
    np.testing.assert_allclose(
        turned.obs["state"][:, :2], np.stack([np.cos(OBS[:, 0]), np.sin(OBS[:, 0])], 1)
    )
    alone = load_lib.load(path, options(obs_keys=("camera",)))
    assert list(alone.obs) == ["camera"]
    renamed = load_lib.load(path, options(obs_keys=("image=camera", "obs")))
    assert set(renamed.obs) == {"image", "state"}
    np.testing.assert_array_equal(renamed.obs["image"], IMAGE)
    assert load_lib.load(path).obs.shape == OBS.shape  # by default the numbers alone


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"obs_keys": ("camera[0:2]",)}, ConfigError, "camera is no vector and read whole"),
        ({"obs_keys": ("image=camera[0:2]",)}, ConfigError, "camera is no vector and read whole"),
        ({"obs_keys": ("image=obs",)}, ConfigError, "obs without a name: numbers make one vector"),
        ({"obs_keys": ("camera",), "angles": (0,)}, ConfigError, "angles .* no vector is observed"),
        (
            {"obs_keys": ("camera", "short")},
            DataError,
            r"differ in length: camera \(7, 4, 4, 3\), short \(5, 3\)",
        ),
        ({"obs_keys": ("floats",)}, DataError, r"floats is float64 with shape \(7, 4, 4, 3\), must be real"),
    ],
)
def test_options_that_do_not_fit_images(tmp_path, fields, error, message):
    path = save(tmp_path / "a.npz", camera=IMAGE, short=OBS[:5], floats=IMAGE.astype(float))
    with pytest.raises(error, match=message):
        load_lib.load(path, options(**fields))


def test_images_beside_the_file(tmp_path):
    path, beside = save(tmp_path / "a.npz", state=-OBS), tmp_path / "a_images.npz"
    asked = options(obs_keys=("image", "state[0:2]"))
    with pytest.raises(DataError, match=r"a\.npz: no array 'image'"):
        load_lib.load(path, asked)
    np.savez(beside, image=IMAGE, episode_ends=ENDS)
    found = load_lib.load(path, asked)
    np.testing.assert_array_equal(found.obs["image"], IMAGE)
    np.testing.assert_array_equal(found.obs["state"], -OBS[:, :2])
    np.testing.assert_array_equal(load_lib.load(path).obs, OBS)  # they are not asked for
    for wrong in ({"episode_ends": np.asarray([3, 7])}, {}):
        np.savez(beside, image=IMAGE, **wrong)
        with pytest.raises(
            DataError, match=r"a_images\.npz: episode_ends must be there, and be those of .*a\.npz"
        ):
            load_lib.load(path, asked)


def test_angles_need_to_know_whose_columns_they_are(tmp_path):
    path = save(tmp_path / "a.npz", obs=None, **{"obs.state": OBS, "obs.image": IMAGE})
    assert set(load_lib.load(path).obs) == {"state", "image"}
    with pytest.raises(ConfigError, match="angles .* obs_keys that say"):
        load_lib.load(path, options(angles=(0,)))
    chosen = load_lib.load(path, options(obs_keys=("obs.image", "obs.state"), angles=(0,)))
    assert {name: values.shape[1:] for name, values in chosen.obs.items()} == {
        "image": (4, 4, 3),
        "state": (4,),
    }
