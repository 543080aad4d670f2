"""Peers are found, left out with one line where they are missing, and timed beside ours; no speed is asserted."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import comparison, peers, render, run, worker
from benchmarks.peers import _denoising_ppo as port
from benchmarks.peers import brax_ppo, dppo


@pytest.mark.parametrize("name", peers.NAMES)
def test_every_peer_says_in_one_line_what_it_needs(name: str) -> None:
    module = importlib.import_module(f"benchmarks.peers.{name}")
    assert "\n" not in module.NEEDS
    assert "pip install" in module.NEEDS
    assert callable(module.comparisons)


def test_a_missing_checkout_or_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(comparison.Missing, match="^point there$"):
        comparison.bring_in("point there", None, "src", ["json"])
    with pytest.raises(comparison.Missing, match="no such folder in the checkout: src; point there"):
        comparison.bring_in("point there", tmp_path, "src", ["json"])
    with pytest.raises(comparison.Missing, match="ModuleNotFoundError.*; point there"):
        comparison.bring_in("point there", tmp_path, ".", ["surely_no_module_of_this_name"])


def test_stand_ins_take_the_place_of_what_nothing_calls(tmp_path: Path) -> None:
    """In a process of its own, since a stand-in stays."""
    text = "from absent_images.models import Encoder\nclass Policy:\n    encoder = Encoder\n"
    (tmp_path / "peer_of_the_test.py").write_text(text)
    code = (
        "from pathlib import Path\nfrom benchmarks.comparison import bring_in\n"
        f"found, = bring_in('x', Path({str(tmp_path)!r}), '.', ['peer_of_the_test'], 'absent_images')\n"
        "print(found.Policy.encoder.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == "Encoder"


def test_a_comparison_is_measured_and_rendered() -> None:
    calls: list[str] = []

    def make(name: str):
        return lambda: lambda: calls.append(name)

    given = comparison.Comparison(
        "nothing",
        "call",
        {comparison.OURS: make("ours"), "peer": make("theirs")},
        "They do nothing.",
        counted=("steps", 10),
        parameters={"peer": 2_000_000},
    )
    found = comparison.measure_comparison(given, cores=1, quick=True)
    assert {"ours", "theirs"} == set(calls)
    assert set(found["ratio"]) == {"peer"}
    record = {
        "cores": 1,
        "load_average": {"before": 0.0, "after": 1.0},
        "memory": {"peak_rss_bytes": 2**20},
        "cases": [found],
    }
    versions = dict.fromkeys((*render.PACKAGES,), "1")
    page = render.render(
        {
            "benchmark": "dppo",
            "command": "c",
            "date": "d",
            "quick": False,
            "versions": versions,
            "peer": "abc",
            "runs": [record],
        }
    )
    assert "the peer's commit abc" in page
    assert "| 1 | nothing | peer | 2.000 |" in page
    assert "| nothing | They do nothing. |" in page


def test_a_missing_peer_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = {"sampling": 0, "cloning": 1, "dppo": worker.MISSING}

    def start(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        name = command[3]
        record = {"cores": 1, "name": name}
        Path(command[command.index("--out") + 1]).write_text(json.dumps(record))
        return subprocess.CompletedProcess(command, done[name], stdout="point there\n")

    monkeypatch.setattr(run.subprocess, "run", start)
    monkeypatch.setattr(run.render, "render", lambda result: f"page of {result['benchmark']}\n")
    with pytest.raises(SystemExit) as stop:
        run.main(["--only", "dppo", "cloning", "sampling", "--cores", "1", "--out", str(tmp_path)])
    shown = capsys.readouterr()
    assert stop.value.code == 1
    assert "dppo left out: point there" in shown.out
    assert "cloning failed: exit status 1 on 1 core(s)" in shown.err
    assert (tmp_path / "sampling.md").read_text() == "page of sampling\n"
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == ["sampling"]


def test_a_checkout_is_given_by_peer(tmp_path: Path) -> None:
    assert run.checkout(f"dppo={tmp_path}") == ("dppo", tmp_path.resolve())
    for wrong in (f"nobody={tmp_path}", "dppo", f"dppo={tmp_path}/none"):
        with pytest.raises(argparse.ArgumentTypeError, match="NAME=FOLDER"):
            run.checkout(wrong)


def small_port() -> port.DenoisingPPO:
    policy = dppo.our_policy()
    return port.DenoisingPPO(policy, dppo.our_params(policy), port.Sizes(3, 2, 10, 1, 2))


def test_ported_log_probability_is_that_of_the_chain() -> None:
    """Written out for one row: the step's mean and standard deviation, then the cut mean of normal densities."""
    work = small_port()
    key = jax.random.key(0)
    obs = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (3, 4)), jnp.float32)
    chain = jax.jit(work.chain)(work.frozen, obs, key)
    assert chain.shape == (11, 3, 4, 2)
    for index in (0, 9):
        row = jnp.full((3,), index)
        found = work.log_prob(work.frozen, obs, chain[index], chain[index + 1], row)
        now, after = work.times[10 + index], work.times[11 + index]
        mean, std = work.moments(work.frozen, obs, chain[index], now, after)
        z = (np.asarray(chain[index + 1]) - np.asarray(mean)) / float(std)
        expected = np.clip(-0.5 * z**2 - np.log(float(std)) - 0.5 * np.log(2 * np.pi), -5, 2).mean((1, 2))
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
        assert float(std) >= port.LEAST_STD - 1e-6


@pytest.mark.slow
def test_ported_ratio_starts_at_one_and_an_iteration_moves_both_networks() -> None:
    work = small_port()
    params, states = work.init(jax.random.key(1))
    rows = jax.jit(lambda p, k: work.rows(p, *work.rollout(p, k)))(params, jax.random.key(2))
    assert len(rows["index"]) == 3 * 2 * 10
    step = (rows[name] for name in ("obs", "x", "after", "index"))
    np.testing.assert_allclose(work.log_prob(params["actor"], *step), rows["old"], atol=1e-3)
    (after, _), losses = jax.jit(work.iteration)((params, states), jax.random.key(3))
    assert losses.shape == (1, 2)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params, after)
    assert min(jax.tree.leaves(moved["actor"])) > 0
    assert max(jax.tree.leaves(moved["critic"])) <= 2.1 * port.CRITIC_RATE


def test_a_trainer_with_a_callback_is_run_step_by_step() -> None:
    seen: list[int] = []

    def train(progress) -> None:
        for epoch in range(2):
            seen.append(epoch)
            progress(epoch, {})
        raise ValueError("at the end")

    stepwise = brax_ppo.Stepwise(train)
    assert seen == []
    stepwise.step()
    assert seen == [0]
    stepwise.step()
    assert seen == [0, 1]
    with pytest.raises(ValueError, match="at the end"):
        stepwise.step()


def test_the_dropped_function_of_jax_puts_a_device_axis_in_front() -> None:
    found = brax_ppo.replicated({"a": jnp.arange(3.0)}, [None])
    np.testing.assert_array_equal(found["a"], [[0.0, 1.0, 2.0]])
