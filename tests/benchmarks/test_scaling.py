"""Slopes, memory and pages of sweeps, scaling and starts; nothing here asserts a speed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks import pages, scaling, start, subjects

SPREAD = dict.fromkeys(("median", "q25", "q75", "min", "max"), 0.002)


def test_slope() -> None:
    assert scaling.slope([1, 10, 100], [3.0, 300.0, 30_000.0]) == pytest.approx(2.0)
    assert scaling.slope([2, 4], [5.0, 5.0]) == pytest.approx(0.0)


@pytest.mark.slow
@pytest.mark.heavy
def test_memory_of_a_program_grows_by_its_runs() -> None:
    """Each further run brings parameters, two moments and their average: 4 floats a parameter."""
    one, three = (scaling.cloning(runs=runs, width=8, chunk=4) for runs in (1, 3))
    size = sum(leaf.size for leaf in jax.tree.leaves(one.state.params))
    assert three.bytes - one.bytes >= 2 * 4 * 4 * size
    block = one.block()
    block()
    block()  # on the state that the first call left: the one it was given is gone
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(one.state.params))


def case(**fields: Any) -> dict[str, Any]:
    names = ("1", "4")
    return {
        "seconds": dict.fromkeys(names, SPREAD),
        "cpu_seconds": dict.fromkeys(names, SPREAD),
        **fields,
    }


def test_scaling_page_and_figure(tmp_path: Path) -> None:
    found = case(
        axis="runs",
        program="cloning",
        bytes={"1": 2**20, "4": 3 * 2**20},
        compile_seconds={"1": 2.0, "4": 3.0},
        slopes={"time": 1.0, "memory": 0.79},
    )
    result = {"runs": [{"cores": 1, "cases": [found]}]}
    _, slopes, curves = pages.scaling(result)
    assert "| 1 | runs | cloning | 1.00 | 0.79 |" in slopes
    assert "| 1 | runs | cloning | 4 | 2.00 [2.00, 2.00] | 2.00 [2.00, 2.00] | 3.0 | 3.0 |" in curves
    pages.FIGURES["scaling"](result, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_start_page() -> None:
    found = case(peak_rss_bytes=dict.fromkeys(("1", "4"), {"median": 2**30}))
    job = {"seconds": 200.0, "cpu_seconds": 300.0}
    run = {"cores": 2, "cases": [found], "job": job, "memory": {"peak_rss_bytes": 2**31}}
    starts, jobs = pages.start({"runs": [run]})
    assert "| 2 | 4 | 0.0 [0.0, 0.0] | 0.0 [0.0, 0.0] | 1,024 |" in starts
    assert "| 2 | 200 | 300 | 2,048 |" in jobs


def test_a_child_is_accounted_for(tmp_path: Path) -> None:
    work = "import os; x = bytearray(64 << 20); assert os.environ['JAX_COMPILATION_CACHE_DIR']"
    seconds, processor, memory = start.run_child(["-c", work], tmp_path)
    assert 0 < processor < 60
    assert seconds > 0
    assert memory > 64 << 20
    with pytest.raises(subprocess.CalledProcessError):
        start.run_child(["-c", "raise SystemExit(2)"], tmp_path)


@pytest.mark.heavy
def test_runs_of_a_sweep_are_different_runs_in_both_modes_and_in_torch() -> None:
    sweeps = pytest.importorskip("benchmarks.sweeps", reason="needs PyTorch")
    learner, data = sweeps.learner_of(8), subjects.demonstrations(200)
    states = sweeps.states(learner, data, 3)
    kernels = [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(s.params)]) for s in states]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01
    for mode in ("vmap", "map"):
        block, compiled = sweeps.our_block(learner, data, 3, mode)
        block()
        assert compiled["compile_seconds"] > 0
    sweeps.their_block(learner, data, 3, "fused")()
