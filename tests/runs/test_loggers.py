"""What loggers besides metrics.jsonl write, read back by the libraries that show it."""

from __future__ import annotations

import csv
import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from mmbc_jax.core import registry
from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.report import style
from mmbc_jax.runs.grid import Grid
from mmbc_jax.runs.logger import Ended, EndedRun, Place, make_loggers, namer, run_name
from mmbc_jax.runs.logs import MetricLog, read_rows
from tests.runs.test_logs import row
from tests.toys.landscape import events, toy_config

GRID = Grid(("finetune.mi_coef", "bc.learning_rate"), ((0.0, 1e-3), (0.5, 1e-3)), (3, 4))


def made(name, tmp_path, **place):
    plugin = registry.find("logger", name, "loggers")
    return plugin(plugin.default_config(), Place(tmp_path, **place))


def ended(tmp_path):
    path = tmp_path / "shown.png"
    style.save(style.new_figure(2.0, 1.0), path, dpi=50)
    runs = [
        EndedRun("mi_coef=0/seed=3", {"finetune.mi_coef": 0.0, "seed": 3}, {"bc/success_rate": 0.5}),
        EndedRun("mi_coef=0.5/seed=3", {"finetune.mi_coef": 0.5, "seed": 3}, {"bc/success_rate": 0.75}),
    ]
    return Ended("seeds: 1\n", runs, [path])


def test_runs_are_named_by_the_values_that_their_stage_depends_on():
    name = namer(GRID, {"bc": ("bc.learning_rate",), "finetune": GRID.paths})
    assert name("bc", 1, 4) == "bc/learning_rate=0.001/seed=4"
    assert name("finetune", 1, 4) == "finetune/mi_coef=0.5/learning_rate=0.001/seed=4"
    assert run_name(GRID, 0, 3) == "mi_coef=0/learning_rate=0.001/seed=3"
    twice = Grid(("bc.learning_rate", "learner.learning_rate"), ((1e-3, 1e-4),), (0,))
    assert run_name(twice, 0, 0) == "bc.learning_rate=0.001/learner.learning_rate=0.0001/seed=0"


def test_tensorboard_has_hparams_final_figures_the_configuration_and_pictures(tmp_path):
    made("tensorboard", tmp_path).finish(ended(tmp_path))
    made("tensorboard", tmp_path).finish(ended(tmp_path))  # a finished run that is repeated
    found = {(run, tag): value for run, tag, _, value in events(tmp_path)}
    assert found["results/mi_coef=0.5/seed=3", "bc/success_rate"] == 0.75
    assert len(list((tmp_path / "tensorboard" / "results").glob("events.*"))) == 1
    values = {}
    for path in (tmp_path / "tensorboard").rglob("events.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + length])
            values |= {(path.parent.parent.name, value.tag): value for value in event.summary.value}
            at += 16 + length
    text = values["tensorboard", "config/text_summary"].tensor.string_val[0].decode()
    assert "seeds: 1" in text
    image = values["tensorboard", "figures/shown"].image
    assert (image.width, image.height) == (100, 50)
    start = values["mi_coef=0.5", "_hparams_/session_start_info"].metadata.plugin_data.content
    told = HParamsPluginData.FromString(start).session_start_info.hparams
    assert told["finetune.mi_coef"].number_value == 0.5


def test_csv_has_a_column_for_what_begins_later(tmp_path):
    log = MetricLog(tmp_path, loggers=[made("csv", tmp_path)])
    log.write([row(1, **{"bc/loss": 0.5, "a/nan": math.nan})])
    log.sync().result()
    log.write([row(2, **{"bc/loss": 0.25, "a/nan": 1.0, "eval/success_rate": 0.5})])
    log.close()
    with (tmp_path / "csv" / "bc" / "point=0" / "seed=3.csv").open(newline="") as handle:
        found = list(csv.DictReader(handle))
    assert [one["bc/loss"] for one in found] == ["0.5", "0.25"]
    assert [one["eval/success_rate"] for one in found] == ["", "0.5"]
    assert [one["a/nan"] for one in found] == ["", "1.0"]
    made("csv", tmp_path).finish(ended(tmp_path))
    with (tmp_path / "csv" / "results.csv").open(newline="") as handle:
        results = list(csv.DictReader(handle))
    assert [(one["run"], one["bc/success_rate"]) for one in results] == [
        ("mi_coef=0/seed=3", "0.5"), ("mi_coef=0.5/seed=3", "0.75"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_log_that_is_cut_back_leaves_what_one_leaves_that_never_was_longer(tmp_path, name):
    """Rows after the checkpoint are gone, and of stages that others log nothing is touched."""
    other = tmp_path / "cut" / name / "discover" / "kept.txt"
    other.parent.mkdir(parents=True)
    other.write_text("of another process")
    log = MetricLog(tmp_path / "cut", loggers=[made(name, tmp_path / "cut", stages=("bc",))])
    log.write([row(1, x=1.0)])
    seen = log.sync().result()
    log.write([row(2, x=2.0, y=3.0)])
    log.close()
    log = MetricLog(tmp_path / "cut", seen, loggers=[made(name, tmp_path / "cut", stages=("bc",))])
    log.write([row(2, x=20.0)])
    log.close()
    (tmp_path / "whole").mkdir()
    log = MetricLog(tmp_path / "whole", loggers=[made(name, tmp_path / "whole")])
    log.write([row(1, x=1.0), row(2, x=20.0)])
    log.close()
    assert read_rows(tmp_path / "cut" / "metrics.jsonl") == read_rows(tmp_path / "whole" / "metrics.jsonl")
    assert other.read_text() == "of another process"
    if name == "csv":
        files = [(tmp_path / one / "csv/bc/point=0/seed=3.csv").read_text() for one in ("cut", "whole")]
        assert files[0] == files[1]
    else:
        assert events(tmp_path / "cut") == events(tmp_path / "whole")


def test_what_is_missing_or_unknown_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"loggers = wandb: needs the package wandb.*mmbc-jax\[wandb\]"):
        make_loggers(toy_config(loggers="wandb"), Place(tmp_path))
    with pytest.raises(ConfigError, match="csv, tensorboard, wandb"):
        make_loggers(toy_config(loggers="csw"), Place(tmp_path))
    assert list(tmp_path.iterdir()) == []


class Library:
    """Stands for wandb: remembers what it is given."""

    def __init__(self):
        self.given, self.summary, self.config = [], {}, self

    def init(self, **settings):
        self.settings = settings
        return self

    def define_metric(self, *args, **kwargs):
        pass

    def log(self, values):
        self.given.append(values)

    def update(self, values, allow_val_change=False):
        self.chosen = values

    def finish(self):
        self.ended = True

    Image = str


def test_wandb_gets_every_row_once_however_often_a_run_continues(tmp_path):
    from mmbc_jax.runs.loggers.wandb_logger import WeightsAndBiases

    library = Library()
    log = MetricLog(tmp_path, loggers=[WeightsAndBiases(Place(tmp_path), library)])
    log.write([row(1, x=1.0), row(2, x=math.nan)])
    seen = log.sync().result()
    log.write([row(3, x=3.0)])
    log.close()  # flushed after the checkpoint that the run continues from
    log = MetricLog(tmp_path, seen, loggers=[WeightsAndBiases(Place(tmp_path), library)])
    log.write([row(3, x=3.0), row(4, x=4.0)])
    log.close()
    assert library.given == [{"x": 1.0, "step": 1}, {"step": 2}, {"x": 3.0, "step": 3}, {"x": 4.0, "step": 4}]
    assert library.settings["name"] == "bc/point=0/seed=3"
    WeightsAndBiases(Place(tmp_path), library).finish(ended(tmp_path))
    assert library.summary == {"bc/success_rate": 0.75}
    assert library.chosen["finetune.mi_coef"] == 0.5
    assert library.ended


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs the extra wandb")
def test_wandb_writes_offline(tmp_path):
    script = (
        "import sys; from pathlib import Path\n"
        "from mmbc_jax.core import registry; from mmbc_jax.runs.logger import Ended, EndedRun, Place\n"
        "plugin = registry.find('logger', 'wandb', 'loggers'); where = Path(sys.argv[1])\n"
        "one = plugin(plugin.default_config(), Place(where))\n"
        "one.restart(); one.add(dict(stage='bc', step=1, point=0, seed=3, x=1.0)); one.flush()\n"
        "one.finish(Ended('seeds: 1', [EndedRun('seed=3', dict(seed=3), {'bc/success_rate': 0.5})], []))\n"
    )
    import os

    env = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, env=env, check=True, timeout=240)
    runs = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    assert all(list(one.glob("*.wandb")) for one in runs)
    assert np.sum([path.stat().st_size for one in runs for path in one.glob("*.wandb")]) > 0
