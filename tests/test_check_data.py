"""What is said of demonstrations of the user's own: one sentence for each fault that was planted."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mmbc_jax import check_data
from mmbc_jax.core.errors import UserError
from mmbc_jax.data import load

EPISODES, STEPS = 40, 16
GOALS = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / np.sqrt(2)


def demos():
    """Episodes to the four peaks of the landscape, in its units."""
    rng = np.random.default_rng(0)
    obs, action = [], []
    for episode in range(EPISODES):
        position = np.zeros(2)
        for _ in range(STEPS):
            move = np.clip((GOALS[episode % 4] - position) / 2, -0.1, 0.1) + 0.01 * rng.normal(size=2)
            obs.append(position.copy())
            action.append(move)
            position += move
    ends = STEPS * np.arange(1, EPISODES + 1)
    return {
        "obs": np.array(obs),
        "action": np.array(action),
        "episode_ends": ends,
        "mode": np.arange(EPISODES) % 4,
    }


def check(tmp_path, capsys, arrays, *argv):
    """(exit code, lines of errors, lines of the rest) of the command."""
    np.savez(tmp_path / "a.npz", **arrays)
    with jax.debug_key_reuse(False):
        code = check_data.main([str(tmp_path / "a.npz"), *argv])
    out, err = capsys.readouterr()
    return code, err.splitlines(), out.splitlines()


def test_a_good_set_is_a_line(tmp_path, capsys):
    code, errors, lines = check(tmp_path, capsys, demos(), "--env=landscape")
    assert (code, errors) == (0, [])
    assert lines == [
        f"{tmp_path / 'a.npz'}: 40 episodes of 16 to 16 steps, 640 in all, obs [2], action [2], 4 modes in 10 to 10 "
        "episodes each; fits landscape"
    ]


def change(name, value, at=slice(None)):
    def changed(arrays):
        arrays[name] = np.array(arrays[name], np.float64)
        arrays[name][at] = value if np.ndim(value) or not callable(value) else value(arrays[name][at])

    return changed


ERRORS = {
    "a thousand times": (change("obs", lambda x: 1000 * x), "are the units the environment's?"),
    "an outlier": (
        change("obs", 1e6, (77, 1)),
        "column 1 of obs is 1e+06 in episode 4, step 13, far from all others",
    ),
    "a clock": (
        lambda a: a.update(obs=np.c_[a["obs"], 1.7e9 + 86400.0 * np.arange(640)]),
        "column 2 of obs is 1700000000, seconds since 1970",
    ),
    "milliseconds": (
        lambda a: a.update(obs=np.c_[a["obs"], 1.7e12 + 8.64e7 * np.arange(640)]),
        "milliseconds since 1970",
    ),
    "beyond the bounds": (change("action", 3.0, (5, 0)), "action of episode 0, step 5, column 0 is 3"),
    "another size": (lambda a: a.update(obs=a["obs"][:, :1]), "observations have size 1"),
    "an unknown label": (lambda a: a.update(mode=a["mode"] + 1), "has modes 0 to 3"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_is_a_sentence(name, tmp_path, capsys):
    arrays = demos()
    ERRORS[name][0](arrays)
    argv = () if name in ("a clock", "milliseconds") else ("--env=landscape",)
    code, errors, _ = check(tmp_path, capsys, arrays, *argv)
    assert code == 2
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert ERRORS[name][1] in errors[0]


REFUSED = {
    "a label per step": (lambda a: a.update(mode=np.repeat(a["mode"], STEPS)), r"mode\[episode_ends - 1\]"),
    "not finite": (change("obs", np.nan, (33, 0)), "obs of episode 2, step 1, column 0 is nan"),
    "lengths": (lambda a: a.update(obs=a["obs"][:-1]), "639 rows"),
    "a clock that float32 eats": (
        lambda a: a.update(obs=np.c_[a["obs"], 1.7e9 + 0.05 * np.arange(640)]),
        "subtract 1700000000",
    ),
    "nothing that ends": (lambda a: a.pop("episode_ends"), "no episode_ends"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_advice(name, tmp_path, capsys):
    arrays = demos()
    REFUSED[name][0](arrays)
    with pytest.raises(UserError, match=REFUSED[name][1]):
        check(tmp_path, capsys, arrays)


REMARKS = {
    "no labels": (lambda a: a.pop("mode"), "no mode labels"),
    "unlabelled": (change("mode", -1, slice(3)), "3 of 40 episodes have no mode label"),
    "uneven": (
        lambda a: a.update(mode=np.r_[np.zeros(36, int), 1, 2, 3, 3]), "unevenly shown: 0 in 36 episodes, 1 in 1",
    ),
    "absent": (lambda a: a.update(mode=a["mode"] % 2 * 2), "no episode shows mode 1 of 3"),
    "constant": (change("action", 0.05, (slice(None), 1)), "column 1 of action never changes"),
    "short": (
        lambda a: a.update(episode_ends=np.r_[3, a["episode_ends"]], mode=np.r_[0, a["mode"]]),
        "1 of 41 episodes are shorter",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REMARKS)
def test_remarks_change_no_exit_code(name, tmp_path, capsys):
    arrays = demos()
    REMARKS[name][0](arrays)
    if arrays.get("mode") is not None:
        arrays["mode"] = np.asarray(arrays["mode"], int)
    code, errors, lines = check(tmp_path, capsys, arrays)
    assert (code, errors) == (0, [])
    (remark,) = lines[:-1]
    assert remark.startswith("remark: ")
    assert REMARKS[name][1] in remark


def test_one_long_episode_and_copied_episodes_are_remarked(tmp_path, capsys):
    arrays = demos() | {"episode_ends": np.array([640]), "mode": np.array([0])}
    long = {name: np.concatenate([arrays[name]] * 2) for name in ("obs", "action")}
    _, _, lines = check(tmp_path, capsys, {**arrays, **long, "episode_ends": np.array([1280])})
    assert any("all 1280 steps are one episode" in line for line in lines)
    copied = {name: np.tile(arrays[name][:STEPS], (4, 1)) for name in ("obs", "action")}
    own = {"episode_ends": STEPS * np.arange(1, 5), "mode": np.arange(4) % 2}
    _, _, lines = check(tmp_path, capsys, {**copied, **own})
    assert any("is one of them copied" in line for line in lines)


@pytest.mark.parametrize("marks", ["terminals", "truncations", "dones", "timeouts"])
def test_a_replay_buffer_is_the_same_set(tmp_path, marks):
    arrays = demos()
    np.savez(tmp_path / "a.npz", **arrays)
    last = np.arange(640) % STEPS == STEPS - 1
    np.savez(tmp_path / "b.npz", observations=arrays["obs"], actions=arrays["action"], **{marks: last})
    one, other = load.load(tmp_path / "a.npz"), load.load(tmp_path / "b.npz")
    np.testing.assert_array_equal(one.obs, other.obs)
    np.testing.assert_array_equal(one.action, other.action)
    np.testing.assert_array_equal(one.ends, other.ends)
    assert other.mode is None


def test_a_replay_buffer_that_is_cut_short(tmp_path):
    arrays = demos()
    last = np.arange(640) % STEPS == STEPS - 1
    last[-1] = False
    given = {"observations": arrays["obs"], "actions": arrays["action"], "terminals": last}
    np.savez(tmp_path / "b.npz", **given)
    found = load.load(tmp_path / "b.npz")
    assert len(found) == EPISODES
    assert found.notes == ("b.npz: steps 624 to 639 end without terminals",)
    np.savez(tmp_path / "b.npz", **{**given, "terminals": last[:-1]})
    with pytest.raises(UserError, match="terminals has 639 entries and actions 640"):
        load.load(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.csv", "np.loadtxt and save it with np.savez"),
        ("a.pt", "torch.load"),
        ("set/meta/info.json", "it belongs to a LeRobotDataset: give its folder"),
        ("set/data/a.parquet", "it belongs to a LeRobotDataset: give its folder"),
        ("a.parquet", "pandas.read_parquet"),
        ("a.xyz", "no reader for suffix"),
    ],
)
def test_files_without_a_reader_say_the_way(tmp_path, name, said):
    for path in ("set/meta/info.json", name):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    with pytest.raises(UserError, match=said):
        check_data.main([str(tmp_path / name)])


def test_a_data_set_of_the_hub_has_to_be_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="hf download --repo-type dataset lerobot/pusht --local-dir pusht"):
        check_data.main(["lerobot/pusht"])


@pytest.mark.parametrize(
    "argv",
    [[], ["a.npz", "b.npz"], ["a.npz", "--chunk=0"], ["a.npz", "--env=nonesuch"], ["a.npz", "--seed=-1"]],
)
def test_what_cannot_be_asked(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **demos())
    with pytest.raises(UserError):
        check_data.main(argv)
