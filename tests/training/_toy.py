"""The landscape at toy size: all stages in seconds, on one core."""

from __future__ import annotations

import io
import json
from contextlib import AbstractContextManager
from pathlib import Path

import jax
from ml_collections import ConfigDict
from rich.console import Console

from mmbc_jax.core.config import apply_overrides, plugin
from mmbc_jax.training.defaults import base_config
from mmbc_jax.training.pipeline import Pipeline, make_pipeline
from mmbc_jax.training.results import StageResult


def toy_config(**overrides: object) -> ConfigDict:
    """bc: 4 epochs of 2 rows; discover: 2 epochs, finetune: 4 epochs of 1 row; dots in keys as `__`."""
    config = base_config()
    config.stages = ("bc", "discover", "finetune")
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
    config.ppo.update(
        {
            "num_envs": 8,
            "decisions": 4,
            "minibatches": 2,
            "epochs": 1,
            "iterations_per_epoch": 1,
            "critic_hidden": (8,),
        }
    )
    config.discover.update({"iterations": 2, "start_horizon": 8})
    config.finetune.update({"iterations": 4, "num_modes": 2})
    config.evaluation.update({"episodes": 8, "paths": 4, "samples": 2})
    return apply_overrides(
        config, [(key.replace("__", "."), str(value)) for key, value in overrides.items()]
    )


def unchecked() -> AbstractContextManager:
    """Key-reuse checking off: under vmap it takes the keys that a scan runs over for used ones.

    The same programs are checked where they are not vmapped (`sweep.mode = map`, and single runs).
    """
    return jax.debug_key_reuse(False)


def toy_run(workdir: Path, config: ConfigDict | None = None) -> dict[str, StageResult]:
    """Runs or continues a pipeline in a work directory."""
    with unchecked():
        return toy_pipeline(workdir, config).run()


def toy_pipeline(workdir: Path, config: ConfigDict | None = None) -> Pipeline:
    """A pipeline that prints nowhere."""
    return make_pipeline(config or toy_config(), Path(workdir), Console(file=io.StringIO()))


def rows(workdir: Path) -> list[dict]:
    """All rows of metrics.jsonl; fails on a torn line."""
    return [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]


def results_json(workdir: Path, stage: str) -> dict:
    """result.json of a stage without its timings."""
    value = json.loads((Path(workdir) / "stages" / stage / "result.json").read_text())
    value.pop("facts")
    return value
