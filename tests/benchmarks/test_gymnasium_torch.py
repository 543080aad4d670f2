"""What stands between PyTorch's libraries and our tasks, without those libraries."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gymnasium_torch
from benchmarks.peers import _first_episodes as first
from benchmarks.peers import _lerobot_tasks, _sb3_tasks

pytest.importorskip("gymnasium")
RESULTS = Path(gymnasium_torch.__file__).with_name("results")


class Base:
    """What `VecEnv.__init__` keeps."""

    def __init__(self, num_envs: int, observation_space: Any, action_space: Any):
        self.num_envs, self.observation_space, self.action_space = num_envs, observation_space, action_space


class Scripted:
    """Two instances that observe their clock; one ends after 2 steps with success, one is cut after 3."""

    num_envs, single_observation_space, single_action_space = 2, None, None
    ends = np.array([2, 3])

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.seed, self.clock = seed, np.zeros(2, np.int64)
        return self.clock[:, None].astype(np.float32), {}

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        self.clock = self.clock + 1
        ended = self.clock == self.ends
        final = self.clock[:, None].astype(np.float32)
        success = ended & np.array([True, False])
        info = {"final_obs": final, "final_info": {"success": success, "mode": np.where(success, 1, -1)}}
        self.clock = np.where(ended, 0, self.clock)
        obs, reward = self.clock[:, None].astype(np.float32), actions[:, 0].astype(np.float64)
        return obs, reward, success, ended & ~success, info if ended.any() else {}


def test_only_the_first_episode_of_an_instance_counts() -> None:
    found = first.play(Scripted(), lambda obs: np.array([[3.0], [1.0]]) - obs, seed=5)
    # rewards: 3, 2 and then a new episode that does not count; 1, 0, -1
    np.testing.assert_array_equal(found.returns, [5.0, 0.0])
    np.testing.assert_array_equal(found.best, [3.0, 1.0])
    np.testing.assert_array_equal(found.steps, [2, 3])
    np.testing.assert_array_equal(found.success, [True, False])
    np.testing.assert_array_equal(found.mode, [1, -1])


def test_scores() -> None:
    zero = np.zeros(4)
    found = first.scores(
        first.Episodes(zero, zero, zero, np.array([1, 1, 0, 0]), np.array([0, 3, -1, -1])), 4
    )
    assert found["success"] == 0.5
    assert found["success_by_mode"] == [0.25, 0.0, 0.0, 0.25]
    assert found["entropy"] == pytest.approx(0.5)  # two of four modes, alike
    none = first.scores(first.Episodes(zero, zero, zero, zero, np.full(4, -1)), 4)
    assert none["success"] == 0.0
    assert none["entropy"] is None


def test_the_adapter_tells_how_episodes_end() -> None:
    envs = Scripted()
    tasks = _sb3_tasks.adapted(Base, envs)
    assert tasks.seed(7) == [7, 7]
    tasks.reset()
    assert envs.seed == 7
    tasks.step_async(np.ones((2, 1)))
    tasks.step_wait()
    obs, reward, done, infos = tasks.step_wait()
    np.testing.assert_array_equal(obs, [[0.0], [2.0]])  # the next episode's start
    np.testing.assert_array_equal(done, [True, False])
    assert reward.dtype == np.float32
    assert infos[0]["terminal_observation"] == 2.0
    assert not infos[0]["TimeLimit.truncated"]
    assert infos[0]["is_success"]
    assert (infos[0]["episode"]["r"], infos[0]["episode"]["l"]) == (2.0, 2)
    assert infos[1] == {}
    done, infos = tasks.step_wait()[2:]
    np.testing.assert_array_equal(done, [False, True])
    assert infos[1]["TimeLimit.truncated"]
    assert not infos[1]["is_success"]
    assert infos[1]["episode"]["l"] == 3
    tasks.reset()
    assert envs.seed is None


def test_the_adapter_steps_a_task_as_its_vector_does() -> None:
    from mmbc_jax.envs.gymnasium_tasks import TaskVectorEnv

    vector = TaskVectorEnv("landscape", 3, units="box")
    tasks = _sb3_tasks.adapted(Base, vector)
    assert tasks.action_space.low.tolist() == [-1.0, -1.0]
    actions = np.random.default_rng(0).uniform(-1, 1, (16, 3, 2)).astype(np.float32)
    tasks.seed(3)
    starts = tasks.reset()
    for action in actions:
        tasks.step_async(action)
        _, reward, done, infos = tasks.step_wait()
    assert done.all()
    where = np.stack([info["terminal_observation"] for info in infos])
    np.testing.assert_allclose(where, starts + 0.15 * actions.sum(0), atol=1e-6)
    np.testing.assert_allclose([info["episode"]["r"] for info in infos], reward, rtol=1e-6)
    assert not any(info["TimeLimit.truncated"] for info in infos)


def test_windows_repeat_the_ends_of_episodes() -> None:
    episode = np.array([0, 0, 0, 0, 0, 1, 1])
    observed, acted, padded = _lerobot_tasks.windows(episode, history=2, horizon=4, dropped=2)
    # at rows 0, 1, 2 of the first episode and 5, the start of the second, which is too short for more
    np.testing.assert_array_equal(observed, [[0, 0], [0, 1], [1, 2], [5, 5]])
    np.testing.assert_array_equal(acted, [[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [5, 5, 6, 6]])
    expected = [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    np.testing.assert_array_equal(padded, np.array(expected, bool))


def test_what_is_missing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gymnasium_torch.main(["--only", "lerobot", "--out", str(tmp_path)])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1
    assert shown[0].startswith("lerobot left out: LeRobot: git clone")
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        gymnasium_torch.main(["--seeds", "0"])
    assert "--seeds = 0 is not allowed: at least 1" in capsys.readouterr().err


def test_written_results() -> None:
    text = (RESULTS / "gymnasium_torch.json").read_text(encoding="utf-8")
    result = json.loads(text)
    assert set(result) == set(gymnasium_torch.PARTS)
    assert not re.search(r"(/home|/root|/work|/tmp|/Users)/", text)
    assert (RESULTS / "gymnasium_torch.md").read_text(encoding="utf-8") == gymnasium_torch.page(result)
    for run in result["sb3"]["tasks"][0]["runs"]:
        assert sum(run["mean"]["success_by_mode"]) == pytest.approx(run["mean"]["success"])
