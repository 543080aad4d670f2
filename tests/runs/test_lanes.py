"""Stages in processes of their own, one a core, give the files that one process gives."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from mmbc_jax.core.errors import UserError, WorkdirError
from mmbc_jax.runs import lanes as lanes_lib
from mmbc_jax.runs import milestones
from mmbc_jax.runs import pipeline as pipeline_lib
from mmbc_jax.runs.lanes import FOLDER, Lane, chains, choose
from mmbc_jax.runs.loop import Interrupted
from tests.runs.test_resume import assert_same
from tests.toys.landscape import events, rows, toy_config, toy_pipeline, toy_run, unchecked

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="processes cannot be held to a core"
)
STAGES = ("bc", "discover", "finetune", "plain")


def config(cores, **more):
    return toy_config(stages="bc,discover,finetune,plain", seeds=1, mesh__cores=cores, **more)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run in one process."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    toy_run(workdir, config("shared"))
    assert not (workdir / FOLDER).exists()
    return workdir


@pytest.mark.slow
def test_lanes_leave_what_one_process_leaves(tmp_path, alone):
    workdir = tmp_path / "run"
    results = toy_run(workdir, config("own"))
    assert tuple(results) == STAGES
    assert_same(workdir, alone, STAGES)
    assert {path.name for path in (workdir / FOLDER).iterdir()} == {"discover+finetune", "plain"}
    before, curves = (workdir / "metrics.jsonl").read_bytes(), events(workdir)
    with unchecked():
        pipeline = toy_pipeline(workdir, config("shared"))  # on whatever cores it continues
        pipeline.run()
    assert pipeline.programs.compiled == []
    assert (workdir / "metrics.jsonl").read_bytes() == before
    assert events(workdir) == curves
    assert choose("shared", pipeline.trained, 1, workdir, False) == chains(pipeline.trained)


@pytest.mark.slow
def test_a_lane_counts_steps_to_success_in_its_own_log(tmp_path, monkeypatch):
    """With a share of 0 for 95 %, a run is there with the fifth row: 5 iterations of 8 x 4 decisions of 4 steps."""
    chosen, workdir = (
        toy_config(stages="bc,plain", seeds=1, mesh__cores="own", finetune__iterations=6),
        tmp_path / "run",
    )
    monkeypatch.setattr(milestones, "SUCCEEDS", 0.0)

    class Here(lanes_lib.Lanes):
        """In this process, as soon as what it starts from is saved."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def go(self, stage):
            for lane in self.lanes:
                if lane.parent == stage and not (self.workdir / FOLDER / lane.name).exists():
                    (self.workdir / FOLDER / lane.name).mkdir(parents=True)
                    toy_pipeline(self.workdir, chosen).run_lane(lane)

    monkeypatch.setattr(pipeline_lib, "Lanes", Here)
    with unchecked():
        found = toy_pipeline(workdir, chosen).run()["plain"]
    assert found.facts["lane"] == "plain"
    assert found.metrics[0]["env_steps_to_95"] == 5 * 8 * 4 * 4
    assert found.facts["wall_s_to_95"][0] > 0.0


def test_a_lane_that_was_begun_goes_on_where_it_can(tmp_path):
    """On a mesh or a GPU: one that is finished needs nothing, another is refused before anything is cut."""
    of = stages()
    (tmp_path / FOLDER / "plain").mkdir(parents=True)
    with pytest.raises(WorkdirError, match="plain began in processes beside the run's.*JAX_PLATFORMS=cpu"):
        choose("auto", of, 1, tmp_path, False)
    for path in ("stages/plain", "checkpoints/plain/6"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "stages/plain/result.json").touch()
    assert choose("auto", of, 1, tmp_path, False) == chains(of)[1:]


@pytest.mark.slow
def test_an_interrupted_lane_continues_exactly(tmp_path, alone, monkeypatch):
    workdir = tmp_path / "run"
    wait = lanes_lib.Lanes.wait

    def interrupted(self, bars, stopped):
        saved = workdir / "checkpoints" / "discover"

        def soon():
            while not list(saved.glob("[0-9]*")):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=soon).start()
        return wait(self, bars, stopped)

    with monkeypatch.context() as patch:
        patch.setattr(lanes_lib.Lanes, "wait", interrupted)
        with pytest.raises(Interrupted):
            toy_run(workdir, config("own"))
    assert not (workdir / "stages" / "finetune" / "result.json").exists()
    toy_run(workdir, config("shared"))  # a lane that was begun stays one
    assert_same(workdir, alone, STAGES)
    assert {row["stage"] for row in rows(workdir)} == set(STAGES)


@pytest.mark.slow
def test_an_error_in_a_lane_is_the_runs(tmp_path):
    with pytest.raises(UserError, match=r"stage (discover|plain), seed 3.*not finite"):
        toy_run(tmp_path / "run", config("own", learner__learning_rate=1e38, nonfinite_limit=1))


def stages(**more):
    return toy_pipeline("unused", toy_config(stages="bc,discover,finetune,plain", **more)).trained


def test_lanes_are_chains_of_stages_that_act():
    found = chains(stages())
    assert found == [Lane(("discover", "finetune"), "bc", (2, 4)), Lane(("plain",), "bc", (6,))]
    assert chains(toy_pipeline("unused", toy_config(stages="bc,baseline")).trained) == []


def test_a_run_uses_lanes_where_they_pay(tmp_path, monkeypatch):
    few, many = stages(), stages(finetune__iterations=400_000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert choose("auto", few, 1, tmp_path, True) == []
    assert choose("auto", many, 1, tmp_path, True) == chains(many)
    assert choose("own", few, 1, tmp_path, True) == chains(few)
    for cores, alone in (("shared", True), ("auto", False)):
        assert choose(cores, many, 1, tmp_path, alone) == []
    (tmp_path / "checkpoints" / "plain").mkdir(parents=True)  # begun in the process of the run
    (tmp_path / FOLDER / "discover+finetune").mkdir(parents=True)  # begun as a lane
    assert choose("own", few, 1, tmp_path, True) == chains(few)[:1]
    assert choose("shared", few, 1, tmp_path, True) == chains(few)[:1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert choose("auto", many, 1, tmp_path / "new", True) == []
