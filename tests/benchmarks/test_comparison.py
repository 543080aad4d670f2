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
from benchmarks.peers import brax_ppo, dppo
from mmbc_jax.core.types import Variables


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


def test_denoising_on_avoids_sizes_is_the_work_of_dppo() -> None:
    """12,500 (decision, step) rows in 2 gradient steps of 6,250, ten times over, on a network of its size."""
    stage = dppo.our_stage(dppo.denoising())
    learner, actor = stage.learner, stage.parts.actor
    options, steps = learner.options, actor.steps
    decisions = options.num_envs * options.decisions
    assert (steps.number, steps.trained) == (20, 10)
    assert decisions * steps.trained == 12_500
    assert decisions * steps.trained // options.minibatches == 6_250
    assert options.epochs * options.minibatches == 20
    assert learner.env_steps == 50 * 25 * 4
    assert actor.surrogate.weight == pytest.approx([0.95**i for i in range(9, -1, -1)])
    assert actor.factors(jnp.full((1, 10, 4, 2), -9.0)).tolist() == [[-5.0] * 10]  # DPPO's cut
    params = jax.eval_shape(actor.init, jax.random.key(0), Variables(dppo.our_params(dppo.our_policy()), {}))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == pytest.approx(0.545e6, rel=0.01)
    assert actor.num_modes == 1


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
