"""The instruments of `diagnostics.instruments` on the runs of a cloning stage, and the verdict on each."""

from __future__ import annotations

from typing import Any

import jax

from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Key, PyTree, Rollouts
from mmbc_jax.data.windows import Windows
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.diagnostics.chosen import build_instruments
from mmbc_jax.diagnostics.run import measure_all
from mmbc_jax.diagnostics.verdict import verdict
from mmbc_jax.learners.bc import policy_hparams
from mmbc_jax.runs import stages
from mmbc_jax.runs.setup import Setup


def make_case(
    setup: Setup, stage: stages.Stage, one: TrainState, windows: Windows, rollouts: Rollouts | None
) -> Case:
    """What the instruments look at, of one run's state."""
    section = "baseline" if stage.name == "baseline" else "policy"
    return Case(
        variables=stages.reference_of(stage, one),
        hp=policy_hparams(one.hparams, section),
        windows=windows,
        normalizer=one.stats["normalizer"],
        rollouts=rollouts,
        policy=stages.stage_policy(setup, stage.name),
        env=setup.env,
        exec_len=setup.config.chunk.execute,
    )


def diagnose(
    setup: Setup,
    stage: stages.Stage,
    state: TrainState,
    windows: Windows,
    rollouts: PyTree,
    keys: Key,
) -> list[dict[str, Any]]:
    """Every chosen instrument on every run of a cloning stage.

    Args:
      setup: of the run.
      stage: `bc`, `baseline` or `dagger`.
      state: with leading axis R.
      windows: demonstrations to measure on.
      rollouts: evaluated episodes with leading axis R, or None.
      keys: [R].

    Returns:
      Per run, the figures of all instruments and, under `verdict`, `{"mechanism", "text", "scores"}`;
      empty where no instrument is chosen.
    """
    instruments = build_instruments(setup.config)
    if not instruments:
        return [{} for _ in range(len(state.step))]
    name = setup.config["baseline" if stage.name == "baseline" else "policy"].name
    of_data = {title: one for title, one in instruments.items() if getattr(one, "of_data", False)}
    of_policy = {title: one for title, one in instruments.items() if title not in of_data}
    found: list[dict[str, Any]] = []
    shared: dict[str, float] = {}
    for run in range(len(state.step)):
        one, episodes = jax.tree.map(lambda leaf, run=run: leaf[run], (state, rollouts))
        case = make_case(setup, stage, one, windows, episodes)
        if not found:
            shared = measure_all(of_data, case, keys[run])
        figures: dict[str, Any] = {**shared, **measure_all(of_policy, case, keys[run])}
        judged = verdict(figures, name)
        figures["verdict"] = {
            "mechanism": judged.mechanism,
            "text": judged.text,
            "scores": dict(judged.scores),
        }
        found.append(figures)
    return found
