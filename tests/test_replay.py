from __future__ import annotations

import json
import sys

import jax
import numpy as np
import pytest

from mmbc_jax import cli, replay
from mmbc_jax.core import config, registry
from mmbc_jax.data import collect
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.load import load


@pytest.fixture(scope="module")
def env():
    return registry.build("env", config.plugin("env", "avoiding"))


@pytest.fixture(scope="module")
def recorded(env):
    """Noise-free episodes, so that the recorded actions are the executed ones."""
    return collect.record(env, jax.random.key(0), 24, 0.0)


def test_own_recordings_replay_exactly(env, recorded):
    result = replay.replay(env, recorded)
    assert result["episodes"] == result["mode_agreement"] == 24
    assert result["contacts"] == 0
    assert result["mode_source"] == "recorded"
    assert max(result["error_max_mm"]) < 0.01
    assert result["steps"] == recorded.ends[-1]


def test_mode_is_read_off_the_path_where_it_is_not_recorded(env, recorded):
    plain = Episodes(recorded.obs, recorded.action, recorded.ends, None, "plain")
    result = replay.replay(env, plain)
    assert (result["mode_source"], result["mode_agreement"]) == ("path", 24)


def test_error_is_in_millimetres_and_per_episode(env, recorded):
    obs = recorded.obs.copy()
    rows = recorded.episode(3)
    obs[rows.start + 1 : rows.stop, 2] += 0.003  # measured x of one episode is 3 mm off after its first row
    result = replay.replay(env, Episodes(obs, recorded.action, recorded.ends, recorded.mode, "shifted", 24))
    n = rows.stop - rows.start
    assert result["error_mean_mm"][3] == pytest.approx(3.0 * (n - 1) / n, abs=0.02)
    assert result["error_max_mm"][3] == pytest.approx(3.0, abs=0.02)
    assert result["error_max_mm"][4] < 0.01
    assert result["median_error_mean_mm"] < 0.01


def test_a_contact_is_counted(env, recorded):
    action = recorded.action.copy()
    action[recorded.episode(0)] = [0.0, 0.005]  # straight up from x = 0.525 into the first obstacle
    result = replay.replay(env, Episodes(recorded.obs, action, recorded.ends, recorded.mode, "bent", 24))
    assert (result["contacts"], result["mode_agreement"]) == (1, 23)


def test_the_recordings_of_the_original(env, shared_data):
    path = shared_data / "avoiding" / "d3il_avoiding_scripted_72.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    result = replay.replay(env, load(path))
    assert result["episodes"] == 72
    assert result["mode_agreement"] == 72
    assert result["contacts"] <= 1
    assert result["median_error_mean_mm"] <= 6.0


def test_command_line(tmp_path, recorded, capsys):
    data, out = recorded.select(np.arange(3)).save_npz(tmp_path / "three.npz"), tmp_path / "out.json"
    assert replay.main(["--env", "avoiding", "--data", str(data), "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    assert (printed["env"], printed["episodes"], printed["mode_agreement"]) == ("avoiding", 3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "/no/such.npz"], "/no/such.npz"),
        (["--env", "avoidance", "--data", "x.npz"], "avoiding"),
        (["--env", "landscape", "--data", "{data}"], "recorded observation"),
        (["--data", "{data}", "--config.env.rules", "none"], "rules"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path, recorded, capsys, monkeypatch, arguments, message):
    data = str(recorded.select(np.arange(1)).save_npz(tmp_path / "one.npz"))
    monkeypatch.setattr(sys, "argv", ["replay", *(a.replace("{data}", data) for a in arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.run_main(replay.main)
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A file of three episodes of Push-T, 24 steps each, with what replay buffers hold and nothing more."""
    task = registry.build("env", config.plugin("env", "push_t"))
    target = jax.random.uniform(jax.random.key(1), (3, 24, 2), minval=150.0, maxval=360.0)

    @jax.jit
    @jax.vmap
    def record(key, target):
        state = task.reset(key)
        return jax.lax.scan(lambda s, a: (task.step(s, a / 256.0 - 1.0), s.obs), state, target)[1]

    state = np.asarray(record(jax.random.split(jax.random.key(0), 3), target))
    path = tmp_path_factory.mktemp("pushed") / "three.npz"
    np.savez(
        path, state=state.reshape(-1, 5), action=np.asarray(target).reshape(-1, 2), episode_ends=[24, 48, 72]
    )
    return path


def test_windows_restart_from_the_recording(pushed, capsys):
    assert replay.main(["--env", "push_t", "--data", str(pushed), "--window", "10"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["episodes"], printed["windows"]) == (
        3,
        6,
    )  # rows 0 and 10 of 24; row 20 has no tenth after it
    assert printed["moved_windows"] > 0
    assert printed["moved_median_block_error_px"] < 0.02
    assert printed["median_block_error_rad"] < 0.001
    assert printed["median_agent_error_px"] < 0.01


@pytest.mark.slow
def test_open_loop_covers_the_goal_that_is_asked_for(pushed, capsys):
    assert replay.main(["--env", "push_t", "--data", str(pushed)]) == 0
    usual = json.loads(capsys.readouterr().out)
    assert usual["median_final_block_error_px"] < 0.02
    goal = ",".join(str(float(x)) for x in load(pushed).obs[0, 2:])
    assert replay.main(["--env", "push_t", "--data", str(pushed), "--goal", goal]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert asked["max_coverage_above_0.90"] > usual["max_coverage_above_0.90"]


@pytest.mark.parametrize(
    ("name", "goal"), [("pusht_human_164", "256,256,0.785"), ("pusht_goal356_121", "356,356,0.785")]
)
def test_the_recorded_pushes(shared_data, capsys, name, goal):
    path = shared_data / "pusht" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    assert replay.main(["--env", "push_t", "--data", str(path), "--window", "10", "--goal", goal]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["p95_block_error_px"] < 0.01
    assert printed["p95_block_error_rad"] < 0.001
    assert printed["p95_agent_error_px"] < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "avoiding", "--data", "x.npz", "--goal", "1,2,3"], "has no goal"),
        (["--env", "avoiding", "--data", "x.npz", "--window", "10"], "has no block"),
        (["--env", "push_t", "--data", "x.npz", "--goal", "356,356"], "three numbers"),
        (["--env", "push_t", "--data", "x.npz", "--goal", "356,356,nan"], "three numbers"),
        (["--env", "push_t", "--data", "x.npz", "--goal", "900,356,0"], "env.goal_x"),
        (["--env", "push_t", "--data", "x.npz", "--window", "0"], "whole number"),
        (["--env", "push_t", "--data", "{data}", "--window", "24"], "no episode has more than 24 rows"),
    ],
)
def test_bad_window_or_goal(pushed, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(sys, "argv", ["replay", *(a.replace("{data}", str(pushed)) for a in arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.run_main(replay.main)
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
