"""HDF5 files (robomimic, Minari, D4RL), arrays of the relay kitchen and pickles of D3IL, each in its layout."""

import pathlib
import pickle
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from mmbc_jax.core.errors import ConfigError, DataError, UserError
from mmbc_jax.data.load import load
from mmbc_jax.data.loaders._pickles import unpickled

h5py = pytest.importorskip("h5py")
SIZES = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "object": 5}
DEMOS = {0: 4, 2: 3, 10: 5}


def options(**fields):
    return ConfigDict(fields)


def made(seed=0):
    return np.random.default_rng(seed)


def robomimic(path, **changes):
    """{demonstration: its arrays}, written as robomimic writes them."""
    rng, truth = made(), {}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"], data.attrs["env_args"] = sum(DEMOS.values()), "{}"
        for i, length in DEMOS.items():
            own = {f"obs/{name}": rng.normal(size=(length, size)) for name, size in SIZES.items()}
            own["obs/agentview_image"] = rng.integers(0, 256, size=(length, 8, 6, 3), dtype=np.uint8)
            own |= {"actions": rng.normal(size=(length, 7)), "dones": np.zeros(length)}
            own |= {name: values for name, values in changes.items() if i == 2}
            group = data.create_group(f"demo_{i}")
            group.attrs["num_samples"] = length
            for name, values in own.items():
                if values is not None:
                    group[name] = values
            truth[i] = own
        file["mask/train"] = np.asarray([b"demo_0", b"demo_10"])
    return truth


def joined(truth, name, which=DEMOS):
    return np.concatenate([truth[i][name] for i in which])


def test_robomimic(tmp_path):
    """Demonstrations by their numbers, not their names; without keys what robomimic itself observes."""
    truth = robomimic(tmp_path / "a.hdf5")
    episodes = load(tmp_path / "a.hdf5")
    wanted = np.concatenate([joined(truth, f"obs/{name}") for name in SIZES], 1)
    np.testing.assert_array_equal(episodes.obs, wanted.astype(np.float32))
    np.testing.assert_array_equal(episodes.action, joined(truth, "actions").astype(np.float32))
    np.testing.assert_array_equal(episodes.ends, [4, 7, 12])


def test_robomimic_images_and_filter_keys(tmp_path):
    truth = robomimic(tmp_path / "a.h5")
    some = options(obs_keys=("agentview_image", "object"), filter="train")
    episodes = load(tmp_path / "a.h5", some)
    np.testing.assert_array_equal(
        episodes.obs["agentview_image"], joined(truth, "obs/agentview_image", (0, 10))
    )
    np.testing.assert_array_equal(
        episodes.obs["state"], joined(truth, "obs/object", (0, 10)).astype(np.float32)
    )
    np.testing.assert_array_equal(episodes.ends, [4, 9])
    with pytest.raises(ConfigError, match=r"data.reader.filter = 'trian' .*did you mean 'train'"):
        load(tmp_path / "a.h5", options(filter="trian"))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["mask/valid"] = np.asarray([b"demo_7"])
    with pytest.raises(DataError, match="mask/valid names demo_7, which data does not hold"):
        load(tmp_path / "a.h5", options(filter="valid"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": None}, "demo_2 has no array 'actions'; found agentview_image, dones"),
        ({"actions": np.zeros((3, 6))}, r"actions of demo_2 has shape \(3, 6\), must be \[3 or more, 7\]"),
        ({"obs/object": np.zeros((2, 5))}, r"object of demo_2 has shape \(2, 5\), must be \[3 or more, 5\]"),
        ({"actions": np.zeros((0, 7))}, r"actions of demo_2 has shape \(0, 7\)"),
        ({"obs/object": np.full((3, 5), np.nan)}, "obs of episode 1, step 0, column 9 is nan"),
    ],
)
def test_robomimic_says_what_is_wrong(tmp_path, changes, message):
    robomimic(tmp_path / "a.hdf5", **changes)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / "a.hdf5")
    assert "a.hdf5" in str(caught.value)


def minari(path, nested):
    rng, truth = made(1), []
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for i in (0, 1, 11):
            group = file.create_group(f"episode_{i}")
            group.attrs["id"], group.attrs["total_steps"] = i, 4
            obs, goal, action = rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), rng.normal(size=(4, 2))
            if nested:
                group["observations/observation"], group["observations/desired_goal"] = obs, goal
            else:
                group["observations"] = obs
            group["actions"], group["rewards"] = action, np.zeros(4)
            group["infos"] = np.asarray([b"{}"] * 4)
            truth.append((obs[:4], goal[:4], action))
    return [np.concatenate(parts).astype(np.float32) for parts in zip(*truth, strict=True)]


def test_minari_leaves_the_last_observation_out(tmp_path):
    obs, _, action = minari(tmp_path / "set/data/main_data.hdf5", nested=False)
    for path in (tmp_path / "set", tmp_path / "set/data", tmp_path / "set/data/main_data.hdf5"):
        episodes = load(path)
        np.testing.assert_array_equal(episodes.obs, obs)
        np.testing.assert_array_equal(episodes.action, action)
        np.testing.assert_array_equal(episodes.ends, [4, 8, 12])


def test_minari_observations_in_groups(tmp_path):
    obs, goal, _ = minari(tmp_path / "main_data.hdf5", nested=True)
    np.testing.assert_array_equal(load(tmp_path / "main_data.hdf5").obs, obs)
    keys = ("observations/desired_goal", "observations/observation")
    both = load(tmp_path / "main_data.hdf5", options(obs_keys=keys))
    np.testing.assert_array_equal(both.obs, np.concatenate([goal, obs], 1))


def d4rl(path, **changes):
    rng = made(2)
    arrays = {
        "observations": rng.normal(size=(9, 3)),
        "actions": rng.normal(size=(9, 2)),
        "rewards": np.zeros(9),
        "terminals": np.arange(9) == 3,
        "timeouts": np.arange(9) == 8,
        "infos/qpos": rng.normal(size=(9, 4)),
    } | changes
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if values is not None:
                file[name] = values
        file["metadata/algorithm"] = "none"
    return arrays


def test_d4rl(tmp_path):
    arrays = d4rl(tmp_path / "a.hdf5")
    episodes = load(tmp_path / "a.hdf5")
    np.testing.assert_array_equal(episodes.obs, arrays["observations"].astype(np.float32))
    np.testing.assert_array_equal(episodes.ends, [4, 9])
    assert not episodes.notes
    other = load(tmp_path / "a.hdf5", options(obs_keys=("infos/qpos",)))
    np.testing.assert_array_equal(other.obs, arrays["infos/qpos"].astype(np.float32))


def test_d4rl_that_stops_in_an_episode(tmp_path):
    d4rl(tmp_path / "a.hdf5", timeouts=None)
    episodes = load(tmp_path / "a.hdf5")
    np.testing.assert_array_equal(episodes.ends, [4, 9])
    assert episodes.notes == ("a.hdf5: steps 4 to 8 end without terminals",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"timeouts": None, "terminals": None},
            r"needs terminals \[n\] or timeouts \[n\], as long as actions",
        ),
        ({"terminals": np.zeros(8)}, r"terminals has 8 entries and actions 9; must be as many"),
        (
            {"actions": None},
            r"neither data/demo_<i> \(robomimic\) nor .* found infos, metadata, observations",
        ),
        (
            {"observations": np.zeros((9, 3, 2))},
            r"observations is float64 with shape \(9, 3, 2\), must be real",
        ),
    ],
)
def test_d4rl_says_what_is_wrong(tmp_path, changes, message):
    d4rl(tmp_path / "a.hdf5", **changes)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.hdf5")


@pytest.mark.parametrize("name", ["kitchen-complete-v0", "door-human-v0"])
def test_d4rl_recordings(shared_data, tmp_path, name):
    """The recorded steps in the layout of D4RL's own files and in that of their carrier are the same episodes."""
    path = shared_data / f"d4rl/{name}_ibc.npz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    carried = load(path)
    with np.load(path) as held:
        last = held["step_type"] == 2
        d4rl(
            tmp_path / "a.hdf5",
            observations=held["observation"],
            actions=held["action"],
            terminals=last,
            timeouts=last,
        )
    episodes = load(tmp_path / "a.hdf5")
    for one, other in (
        (episodes.obs, carried.obs),
        (episodes.action, carried.action),
        (episodes.ends, carried.ends),
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_original_store_of_pusht(shared_data, tmp_path):
    """Key points as [n, 9, 2] and camera frames as floats, as Diffusion Policy's own store has them."""
    zarr = pytest.importorskip("zarr")
    path, camera = shared_data / "pusht/pusht_human_164.npz", shared_data / "pusht/pusht_human_164_images.npz"
    if not camera.exists():
        pytest.skip(f"{camera} is not there")
    with np.load(path) as held, np.load(camera) as frames:
        end = int(held["episode_ends"][0])
        arrays = {f"data/{key}": held[key][:end] for key in ("state", "action", "keypoint")}
        arrays["data/keypoint"] = arrays["data/keypoint"].reshape(end, 9, 2)
        arrays["data/img"] = frames["image"][:end].astype(np.float32)
        arrays["meta/episode_ends"] = held["episode_ends"][:1]
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    for name, values in arrays.items():
        root.create_array(name, shape=values.shape, dtype=values.dtype)[...] = values
    episodes = load(tmp_path / "a.zarr", options(obs_keys=("img", "keypoint", "state[0:2]")))
    np.testing.assert_array_equal(episodes.obs["img"], arrays["data/img"].astype(np.uint8))
    wanted = np.concatenate([arrays["data/keypoint"].reshape(end, 18), arrays["data/state"][:, :2]], 1)
    np.testing.assert_array_equal(episodes.obs["state"], wanted.astype(np.float32))
    root["data/img"][0, 0, 0, 0] = 300.0
    with pytest.raises(
        DataError, match="data/img is float32 .* values .* to 300; images must lie in 0 to 255"
    ):
        load(tmp_path / "a.zarr", options(obs_keys=("img",)))


def test_hdf5_files_that_are_none(tmp_path):
    d4rl(tmp_path / "a.hdf5")
    whole = (tmp_path / "a.hdf5").read_bytes()
    for content in (b"", b"no file", whole[: len(whole) // 2]):
        (tmp_path / "b.hdf5").write_bytes(content)
        with pytest.raises(DataError, match=r"b\.hdf5: damaged, or no HDF5 file"):
            load(tmp_path / "b.hdf5")
    with h5py.File(tmp_path / "c.hdf5", "w") as file:
        file["observations"] = h5py.ExternalLink("a.hdf5", "observations")
        file["actions"] = np.zeros((9, 2))
        file["terminals"] = np.ones(9)
    with pytest.raises(DataError, match="no observations under observations"):
        load(tmp_path / "c.hdf5")


@pytest.mark.parametrize("link", [h5py.ExternalLink("b.hdf5", "own"), h5py.SoftLink("/own")])
@pytest.mark.parametrize("name", ["episode_0", "data", "data/demo_0", "mask/few"])
def test_episodes_that_are_links_are_named(tmp_path, name, link):
    for file in ("a.hdf5", "b.hdf5"):
        with h5py.File(tmp_path / file, "w") as root:
            root["own/observations"] = root["own/actions"] = np.zeros((3, 2))
            if name.startswith("mask"):
                root["data/demo_0/actions"] = np.zeros((3, 2))
            if file == "a.hdf5":
                root[name] = link
    with pytest.raises(DataError, match=rf"a\.hdf5: /{name} is a link, which is not followed"):
        load(tmp_path / "a.hdf5", options(filter="few" if name.startswith("mask") else ""))


def test_an_array_with_two_names_has_both(tmp_path):
    d4rl(tmp_path / "a.hdf5")
    before = load(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "a") as root:
        root["first"] = root["observations"]
        root["infos/up"] = root["/"]
    np.testing.assert_array_equal(load(tmp_path / "a.hdf5").obs, before.obs)


@pytest.mark.parametrize(("package", "write"), [("h5py", d4rl)])
def test_packages_that_are_missing(tmp_path, monkeypatch, package, write):
    write(tmp_path / "a.hdf5")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UserError, match=rf"a.hdf5.* needs the package {package}.*pip install 'mmbc-jax\[data\]'"
    ):
        load(tmp_path / "a.hdf5")


def kitchen(folder, **changes):
    """T = 6 steps, E = 3 episodes of 4, 6 and 1 steps; behind an episode's end lies what must not be read."""
    rng = made(3)
    mask = (np.arange(6)[:, None] < np.array([4, 6, 1])).astype(np.float32)
    arrays = {
        "observations_seq": rng.normal(size=(6, 3, 5)) + 1e9 * (1 - mask[..., None]),
        "actions_seq": rng.normal(size=(6, 3, 2)),
        "existence_mask": mask,
    } | changes
    folder.mkdir()
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    return arrays


def test_relay_kitchen(tmp_path):
    arrays = kitchen(tmp_path / "set")
    episodes = load(tmp_path / "set")
    np.testing.assert_array_equal(episodes.ends, [4, 10, 11])
    wanted = np.concatenate([arrays["observations_seq"][:length, i] for i, length in enumerate((4, 6, 1))])
    np.testing.assert_array_equal(episodes.obs, wanted.astype(np.float32))
    np.testing.assert_array_equal(episodes.action[4:10], arrays["actions_seq"][:, 1].astype(np.float32))
    half = load(tmp_path / "set", options(obs_keys=("observations[0:2]",)))
    np.testing.assert_array_equal(half.obs, wanted[:, :2].astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"existence_mask": np.ones((5, 3))},
            r"observations_seq.npy is float64 with shape \(6, 3, 5\), must be",
        ),
        (
            {"existence_mask": np.tile([[1.0], [0.0]], (3, 3))},
            "existence_mask of episode 0 has 3 steps that are not",
        ),
        ({"existence_mask": np.zeros((6, 3))}, "existence_mask of episode 0 has 0 steps"),
        ({"actions_seq": np.asarray([[{}]])}, "actions_seq.npy: damaged, pickled, or no array"),
    ],
)
def test_relay_kitchen_says_what_is_wrong(tmp_path, changes, message):
    kitchen(tmp_path / "set", **changes)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "set")


def d3il(folder, objects=False, protocols=range(6)):
    folder.mkdir()
    rng, truth = made(4), []
    for protocol in protocols:
        one = {"robot": {"des_c_pos": rng.normal(size=(7, 3)), "c_pos": rng.normal(size=(7, 3)).astype("f4")}}
        if objects:
            one["push-box"] = {"pos": rng.normal(size=(7, 3)), "quat": rng.normal(size=(7, 4))}
        (folder / f"env_{protocol:03d}.pkl").write_bytes(
            pickle.dumps(
                one | {"seed": np.int64(3), "name": "env", "numbers": [1, 2.5, None]}, protocol=protocol
            )
        )
        truth.append(one)
    return truth


def test_d3il_positions_become_displacements(tmp_path):
    """Every protocol that Python writes; the first two columns without keys, as Avoiding has them."""
    truth = d3il(tmp_path / "set")
    episodes = load(tmp_path / "set")
    np.testing.assert_array_equal(episodes.ends, 6 * np.arange(1, 7))
    commanded, measured = ([one["robot"][name][:, :2] for one in truth] for name in ("des_c_pos", "c_pos"))
    wanted = np.concatenate(
        [np.concatenate([a, b], 1)[:-1] for a, b in zip(commanded, measured, strict=True)]
    )
    np.testing.assert_array_equal(episodes.obs, wanted.astype(np.float32))
    np.testing.assert_array_equal(
        episodes.action, np.concatenate([np.diff(a, axis=0) for a in commanded]).astype(np.float32)
    )
    assert len(load(tmp_path / "set" / "env_000.pkl")) == 1


def test_d3il_objects_must_be_asked_for(tmp_path):
    truth = d3il(tmp_path / "set", objects=True, protocols=(4,))
    with pytest.raises(
        ConfigError, match=r"data.reader.obs_keys = \(\) .*push-box/pos, push-box/quat, robot/c_pos"
    ):
        load(tmp_path / "set")
    keys = ("robot/des_c_pos", "push-box/pos", "push-box/quat")
    episodes = load(tmp_path / "set", options(obs_keys=keys, action_key="robot/des_c_pos"))
    assert episodes.obs.shape == (6, 10)
    wanted = np.diff(truth[0]["robot"]["des_c_pos"], axis=0)
    np.testing.assert_array_equal(episodes.action, wanted.astype(np.float32))
    with pytest.raises(DataError, match="no array 'robot/des_j_pos'; found push-box/pos"):
        load(tmp_path / "set", options(obs_keys=keys, action_key="robot/des_j_pos"))


class Runs:
    """Unpickling one writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (print, "print"),
        (pathlib.PurePosixPath("a"), "pathlib.*PurePosixPath"),
        (np.asarray([{}]), "an array of type 'O8'"),
        (np.asarray(["a"]), "an array of type 'U1'"),
        (1j, "complex"),
        ("runs", "getattr|Path"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_pickles_that_name_anything_else_are_refused(tmp_path, value, named, protocol):
    value = Runs(tmp_path / "ran") if value == "runs" else value
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"robot": {"des_c_pos": value}}, protocol=protocol))
    with pytest.raises(DataError, match=rf"a\.pkl: this pickle holds .*({named})"):
        load(tmp_path / "a.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", [">f8", ">i2", "<f4", "?"])
def test_pickled_numbers_in_either_byte_order(tmp_path, dtype, protocol):
    given = {"a": np.arange(6).reshape(2, 3).astype(dtype), "b": np.asfortranarray(np.eye(3), dtype)}
    given |= {"c": [given["a"][0, 1], given["a"]], "d": (given["a"], 2)}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(given, protocol=protocol))
    found = unpickled(tmp_path / "a.pkl")
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(given), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert np.asarray(ours).dtype.isnative
    assert found["a"] is found["d"][0]
    assert found["a"].flags.writeable


def test_pickles_that_are_damaged(tmp_path):
    d3il(tmp_path / "set", protocols=(5,))
    path = tmp_path / "set/env_005.pkl"
    whole, rng = path.read_bytes(), made(5)
    for content in (b"", whole[:50], b"\x80\x05" + whole[40:], pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"env_005\.pkl"):
            load(path)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(len(data), size=4):
            data[at] = rng.integers(256)
        path.write_bytes(bytes(data))
        try:
            load(path)
        except DataError:
            refused += 1
    assert refused > 20  # the rest is other numbers, which a pickle has no checksum for


def test_folders_that_nobody_reads(tmp_path):
    with pytest.raises(DataError, match="is a folder that no reader knows; allowed: .*Minari.*LeRobot"):
        load(tmp_path)
