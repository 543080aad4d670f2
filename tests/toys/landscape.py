"""Whole runs of the landscape task at toy size: all stages in seconds, on one core."""

from __future__ import annotations

import fcntl
import functools
import io
import json
import os
import struct
from contextlib import AbstractContextManager
from pathlib import Path

import jax
from ml_collections import ConfigDict
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from mmbc_jax import train
from mmbc_jax.core.config import apply_overrides, plugin
from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.runs.pipeline import Pipeline, make_pipeline
from mmbc_jax.runs.sections import base_config


def toy_config(**overrides: object) -> ConfigDict:
    """Two seeds; bc: 4 epochs of 2 rows; discover: 2 epochs, finetune: 4 epochs of 1 row.

    Args:
      overrides: of fields, with `__` for the dots.
    """
    config = base_config()
    config.stages = ("bc", "discover", "finetune")
    config.seeds, config.first_seed = 2, 3
    config.env = plugin("env", "landscape")
    config.policy = plugin("policy", "flow", hidden=(8,), fourier_octaves=1, time_dim=4)
    config.baseline = plugin("policy", "mse", hidden=(8,), fourier_octaves=1)
    config.sampler = plugin("sampler", "euler", steps=2)
    config.actor = plugin("actor", "steer", hidden=(8,), fourier_octaves=1)
    config.discriminator = plugin("discriminator", "categorical", hidden=(8,))
    config.chunk.update({"predict": 4, "execute": 4})
    config.data.update({"episodes": 24, "noise": 0.1, "holdout": 0.25})
    config.bc.update(
        {"steps": 16, "batch_size": 16, "steps_per_epoch": 4, "steps_per_row": 2, "warmup_steps": 2}
    )
    config.learner.update({"num_envs": 8, "decisions": 4, "minibatches": 2, "epochs": 1})
    config.learner.update({"iterations_per_epoch": 1, "critic_hidden": (8,)})
    config.discover.update({"iterations": 2, "start_horizon": 8})
    config.finetune.update({"iterations": 4, "num_modes": 2})
    config.evaluation.update({"episodes": 8, "paths": 4, "samples": 2, "every_epochs": 2})
    texts = [(key.replace("__", "."), str(value)) for key, value in overrides.items()]
    return apply_overrides(config, texts)


def unchecked() -> AbstractContextManager:
    """Key-reuse checking off: under vmap it takes the keys that a scan runs over for used ones.

    The same programs are checked where they are not vmapped (`sweep.mode = map`, and single runs).
    """
    return jax.debug_key_reuse(False)


def toy_pipeline(workdir: Path, config: ConfigDict | None = None) -> Pipeline:
    """A pipeline that prints nowhere."""
    return make_pipeline(config or toy_config(), Path(workdir), Console(file=io.StringIO()))


def toy_run(workdir: Path, config: ConfigDict | None = None) -> dict[str, StageResult]:
    """Runs or continues a pipeline in a work directory."""
    with unchecked():
        return toy_pipeline(workdir, config).run()


def config_file(folder: Path) -> Path:
    """A config file whose `get_config` is `toy_config`."""
    path = folder / "toy.py"
    path.write_text(f"import sys\n\nget_config = sys.modules[{__name__!r}].toy_config\n")
    return path


@functools.cache
def finished_run() -> Path:
    """The work directory of a finished toy run of the command line, for tests that only read; one for all workers."""
    folder = Path(os.environ["MMBC_TESTS_SHARED"])
    with (folder / "lock").open("w") as lock, unchecked():
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "run" / "summary.json").exists():
            assert train.main(["--config", str(config_file(folder)), "--workdir", str(folder / "run")]) == 0
    return folder / "run"


def rows(workdir: Path) -> list[dict]:
    """All rows of metrics.jsonl; fails on a torn line."""
    return [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]


def results_json(workdir: Path, stage: str) -> dict:
    """result.json of a stage without its timings, and the checksum over them."""
    value = json.loads((Path(workdir) / "stages" / stage / "result.json").read_text())
    value.pop("facts")
    value.pop("crc32")
    return value


def events(workdir: Path) -> list[tuple[str, str, int, float]]:
    """All scalars of the TensorBoard files: (run, name, step, value)."""
    found = []
    for path in sorted((Path(workdir) / "tensorboard").rglob("events.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):  # TFRecord: length, its checksum, the message, its checksum
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            run = str(path.parent.relative_to(Path(workdir) / "tensorboard"))
            found += [(run, value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found
