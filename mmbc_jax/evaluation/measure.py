"""The one place that evaluates, diagnoses and collects facts: for training, `mmbc_jax.evaluate` and studies."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from mmbc_jax.core.files import plain
from mmbc_jax.core.protocols import Diagnostic, Env, capabilities
from mmbc_jax.core.stages import Cloned, Stage
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Key, PyTree, Rollouts
from mmbc_jax.data.windows import Windows
from mmbc_jax.diagnostics.case import Case, of_episodes
from mmbc_jax.diagnostics.domains import SHIFTS
from mmbc_jax.diagnostics.offline import make_offline_metrics
from mmbc_jax.diagnostics.outcomes import success_figures
from mmbc_jax.diagnostics.run import measure_all
from mmbc_jax.diagnostics.verdict import verdict
from mmbc_jax.evaluation.results import StageResult

_OFFLINE_BATCH = 256
Keys = Callable[[str], Key]


class Data(Protocol):
    """Demonstrations to measure on."""

    @property
    def train_windows(self) -> Windows:
        """Windows that the clone was trained on."""
        ...

    @property
    def held_out(self) -> Windows | None:
        """Windows that it was not; None where there are none."""
        ...


class Player(Protocol):
    """What plays the episodes of an evaluation: compiled programs."""

    @property
    def shifts(self) -> Mapping[str, PyTree]:
        """{name: parameters of the environment} under which episodes are played beside its own."""
        ...

    def evaluate(
        self, stage: Any, state: TrainState, keys: Key, params: PyTree = None
    ) -> tuple[Rollouts | None, list[dict[str, Any]]]:
        """(episodes on the host with leading axis R, or None without an environment; metrics of each run).

        `params` are the environment's; None for its own.
        """
        ...

    def facts(self, stage: Any, runs: int) -> dict[str, Any]:
        """What compiling cost."""
        ...


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What is measured of a stage.

    Attributes:
      env: the bare environment, or None.
      exec_len: h.
      offline_samples: chunks per held-out window; 0 to leave the offline metrics out.
      instruments: by name; applied to stages that clone, those `of_episodes` to all.
    """

    env: Env | None
    exec_len: int
    offline_samples: int
    instruments: Mapping[str, Diagnostic]


def measure(
    what: Measurement,
    stage: Stage,
    state: TrainState,
    index: np.ndarray,
    keys: Keys,
    player: Player,
    data: Callable[[], Data],
    facts: Mapping[str, Any],
) -> StageResult:
    """Plays the stage's episodes, and of a clone measures the held-out windows and applies the instruments.

    Args:
      what: is measured.
      stage: which.
      state: its state, leading axis R.
      index: [S, N] run that each sweep point and seed uses.
      keys: [R] keys for a purpose, by its label.
      player: compiled programs.
      data: the demonstrations; called where a clone is measured on them.
      facts: known already, such as the seconds of training.

    Returns:
      The result.
    """
    start = time.perf_counter()
    rollouts, metrics = player.evaluate(stage, state, keys(f"evaluate/{stage.name}"))
    clones = [stage.cloned(_run(state, run)) for run in range(len(state.step))]
    cloned = [clone for clone in clones if clone is not None]
    found: list[list[dict[str, Any]]] = [metrics]
    if player.shifts:
        shifted = {
            name: player.evaluate(stage, state, keys(f"evaluate/{stage.name}/{name}"), params)[1]
            for name, params in player.shifts.items()
        }
        found.append(
            [{SHIFTS: {name: shifted[name][run] for name in shifted}} for run in range(len(metrics))]
        )
    if cloned and what.offline_samples and (held_out := data().held_out) is not None:
        found.append(_offline(cloned, held_out, keys(f"offline/{stage.name}"), what.offline_samples))
    if cloned and what.instruments:
        keys_runs = keys(f"diagnose/{stage.name}")
        found.append(_diagnose(what, cloned, state, data().train_windows, rollouts, keys_runs))
    elif rollouts is not None and (asked := asking_episodes(what.instruments)):
        found.append(_of_episodes(what, asked, state, rollouts, keys(f"diagnose/{stage.name}")))
    merged = [
        {name: value for part in run for name, value in part.items()} for run in zip(*found, strict=True)
    ]
    own = {"evaluate_seconds": time.perf_counter() - start, **player.facts(stage, len(state.step))}
    # plain: as a resumed run will read them back
    return StageResult(stage.name, stage.num_modes, index, plain(merged), {**facts, **own}, rollouts)


def _run(tree: Any, run: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[run], tree)


def _offline(clones: list[Cloned], windows: Windows, keys: Key, samples: int) -> list[dict[str, Any]]:
    """Validation loss and best-of-n chunk errors of each run on the held-out windows."""
    compiled = make_offline_metrics(clones[0].policy, samples, _OFFLINE_BATCH)
    found = []
    for run, clone in enumerate(clones):
        values = jax.device_get(compiled(clone.variables, windows, keys[run], clone.hp))
        found.append({name: float(value) for name, value in values.items()})
    return found


def asking_episodes(instruments: Mapping[str, Diagnostic]) -> dict[str, Diagnostic]:
    """Those that ask the episodes alone."""
    return {name: one for name, one in instruments.items() if getattr(one, "of_episodes", False)}


def _of_episodes(
    what: Measurement,
    instruments: Mapping[str, Diagnostic],
    state: TrainState,
    rollouts: Rollouts,
    keys: Key,
) -> list[dict[str, Any]]:
    """The figures of instruments that ask the episodes alone, of each run."""
    found = []
    for run in range(len(state.step)):
        normalizer = _run(state.stats["normalizer"], run)
        case = of_episodes(_run(rollouts, run), normalizer, what.env, what.exec_len)
        found.append(dict(measure_all(instruments, case, keys[run])))
    return found


def _diagnose(
    what: Measurement,
    clones: list[Cloned],
    state: TrainState,
    windows: Windows,
    rollouts: Rollouts | None,
    keys: Key,
) -> list[dict[str, Any]]:
    """The figures of all instruments and, under `verdict`, `{"mechanism", "text", "scores"}`, of each run."""
    of_data = {name: one for name, one in what.instruments.items() if getattr(one, "of_data", False)}
    of_policy = {name: one for name, one in what.instruments.items() if name not in of_data}
    found: list[dict[str, Any]] = []
    shared: dict[str, float] = {}
    for run, clone in enumerate(clones):
        case = Case(
            variables=clone.variables,
            hp=clone.hp,
            windows=windows,
            normalizer=_run(state.stats["normalizer"], run),
            rollouts=_run(rollouts, run),
            policy=clone.policy,
            env=what.env,
            exec_len=what.exec_len,
        )
        if not found:
            shared = measure_all(of_data, case, keys[run])
        figures: dict[str, Any] = {**shared, **measure_all(of_policy, case, keys[run])}
        evidence = {
            **figures,
            **success_figures(case.rollouts, what.env is None or what.env.spec.has_success),
        }
        judged = verdict(evidence, clone.family, capabilities(clone.policy))
        figures["verdict"] = {
            "mechanism": judged.mechanism,
            "text": judged.text,
            "scores": dict(judged.scores),
        }
        found.append(figures)
    return found
