"""`sweep.mode=auto`: what is compared when, what is taken, and that a run that goes on takes the same."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.runs import mode_choice as lib
from mmbc_jax.runs.epoch import Program
from mmbc_jax.runs.loop import StageLoop
from mmbc_jax.runs.mode_choice import Modes, said
from tests.runs.test_resume import Killed
from tests.toys.landscape import results_json, rows, toy_config, toy_pipeline, toy_run, unchecked

GB = 2**30


class Bench:
    """Programs whose epochs take as long, and as much memory, as a test says; the time is its own."""

    def __init__(self, vmap, map, compile_seconds=1.0):
        self.costs = {"vmap": vmap, "map": map}  # seconds, bytes
        self.compile_seconds, self.now, self.asked, self.said = compile_seconds, 0.0, [], []

    def compiled(self, mode):
        self.asked.append(mode)
        seconds, size = self.costs[mode]

        def run(state, shared):
            self.now += seconds
            return jax.tree.map(lambda leaf: leaf.delete(), state)  # as a donation does

        return Program(run, self.compile_seconds, size)

    def pick(self, path=None, epochs=100, key="a"):
        state = {"x": jnp.ones(12), "key": jax.random.split(jax.random.key(0), 12)}
        modes = Modes(path, self.said.append, lambda: self.now)
        modes.pick(key, "finetune", self.compiled, state, (), epochs)
        assert (np.asarray(state["x"]) == 1).all()  # copies were given away
        return modes


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    monkeypatch.setattr(lib, "device_memory", lambda: 8 * GB)


@pytest.mark.parametrize(("vmap", "map", "mode"), [(2.0, 1.0, "map"), (2.0, 1.9, "vmap"), (1.0, 2.0, "vmap")])
def test_the_faster_is_taken_where_it_is_clearly_faster(vmap, map, mode):
    bench = Bench((vmap, GB), (map, GB))
    modes = bench.pick()
    choice = modes.known("a")
    assert (choice["mode"], choice["vmap_seconds"], choice["map_seconds"]) == (mode, vmap, map)
    assert bench.asked == ["vmap", "map"]
    (line,) = bench.said
    assert line.startswith(
        f"finetune: 12 runs {'in turn' if mode == 'map' else 'all at once'} (sweep.mode={mode}"
    )


@pytest.mark.parametrize(("epochs", "compile_seconds"), [(5, 0.0), (10, 0.0), (20, 3.0), (100, 19.0)])
def test_nothing_is_compared_where_that_would_take_a_fifth_of_the_stage(epochs, compile_seconds):
    """Two epochs and a compilation, of epochs of a second."""
    bench = Bench((1.0, GB), (0.1, GB), compile_seconds)
    choice = bench.pick(epochs=epochs).known("a")
    assert (choice["mode"], choice["why"]) == ("vmap", "too short a stage for a comparison")
    assert bench.asked == ["vmap"]
    assert bench.now <= (1.0 if epochs > 10 else 0.0)


def test_crowded_memory_decides_without_a_measurement():
    bench = Bench((1.0, 5 * GB), (9.0, GB))
    assert bench.pick(epochs=2).known("a")["mode"] == "map"
    assert bench.now == 0.0  # nothing that may not fit was run
    assert Bench((1.0, 5 * GB), (9.0, 6 * GB)).pick(epochs=2).known("a")["mode"] == "vmap"


def test_a_recorded_choice_is_taken_whatever_is_faster_now(tmp_path):
    path = tmp_path / "modes.json"
    Bench((2.0, GB), (1.0, GB)).pick(path)
    bench = Bench((1.0, GB), (2.0, GB))
    bench.pick(path)
    assert (bench.asked, bench.now, bench.said) == (["map"], 0.0, [])
    bench.pick(path, key="b")  # another program is chosen for, and both are kept
    assert {key: one["mode"] for key, one in json.loads(path.read_text()).items()} == {
        "a": "map",
        "b": "vmap",
    }


def test_a_choice_in_a_line():
    choice = {"mode": "map", "stage": "bc", "runs": 12, "why": "measured", "vmap_seconds": 2.0, "map_seconds": 0.5,
              "vmap_bytes": 2**20, "map_bytes": -1}  # fmt: skip
    assert said(choice) == (
        "bc: 12 runs in turn (sweep.mode=map; measured: all at once 2 s an epoch, 1 MB of scratch memory; "
        "in turn 0.5 s an epoch)"
    )


def test_the_memory_of_this_machine_is_known(monkeypatch):
    monkeypatch.undo()
    assert 2**28 < lib.device_memory() < 2**46


def prefer_map(monkeypatch):
    """As on a device where runs in turn are always faster, so that the choice is seen."""
    monkeypatch.setattr(lib, "WORTH", 1e9)
    monkeypatch.setattr(lib, "MARGIN", -1e9)


@pytest.mark.slow
@pytest.mark.heavy
def test_a_run_that_goes_on_keeps_its_mode_bit_for_bit(tmp_path, monkeypatch):
    config = toy_config(stages="bc", sweep__mode="auto", evaluation__every_epochs=0)
    with monkeypatch.context() as patch:
        prefer_map(patch)
        toy_run(tmp_path / "whole", config)
        save = StageLoop._save

        def dying(self, at, state):
            if at == 3:
                raise Killed
            save(self, at, state)

        patch.setattr(StageLoop, "_save", dying)
        with pytest.raises(Killed):
            toy_run(tmp_path / "cut", config)
    assert len(rows(tmp_path / "cut")) < len(rows(tmp_path / "whole"))
    with unchecked():
        pipeline = toy_pipeline(tmp_path / "cut", config)
        pipeline.run()
    assert [what for _, what, _ in pipeline.programs.compiled] == ["train", "evaluate"]
    (choice,) = json.loads((tmp_path / "cut" / "modes.json").read_text()).values()
    assert choice["mode"] == "map"
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert results_json(tmp_path / "cut", "bc") == results_json(tmp_path / "whole", "bc")
    facts = json.loads((tmp_path / "cut" / "stages" / "bc" / "result.json").read_text())["facts"]
    assert facts["mode"] == choice


def test_a_single_run_has_nothing_to_choose(tmp_path):
    pipeline = toy_pipeline(tmp_path, toy_config(stages="bc", sweep__mode="auto", seeds=1))
    assert (pipeline.mesh.mode, pipeline.mesh.devices) == ("auto", None)
    assert pipeline.programs.facts(pipeline.stages["bc"], 1)["mode"] == {"mode": "vmap"}
