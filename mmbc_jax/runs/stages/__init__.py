"""The stages of a run: what each starts from, trains, needs, and is evaluated with."""

from __future__ import annotations

from collections.abc import Iterable

from mmbc_jax.runs.run_options import STAGES
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.stages._stage import BaseStage
from mmbc_jax.runs.stages.cloning_stage import BaselineStage, CloningStage, DaggerStage
from mmbc_jax.runs.stages.tuning_stage import DiscoverStage, FinetuneStage, PlainStage

KINDS: dict[str, type[BaseStage]] = {
    "bc": CloningStage,
    "baseline": BaselineStage,
    "dagger": DaggerStage,
    "discover": DiscoverStage,
    "finetune": FinetuneStage,
    "plain": PlainStage,
}


def make_stages(setup: Setup, names: Iterable[str]) -> dict[str, BaseStage]:
    """The stages of a run, each with the first of its possible parents that is among them.

    Args:
      setup: of the run.
      names: those that run, and those that `start_from` provides.

    Returns:
      {name: stage} in the order of `STAGES`.
    """
    present = [name for name in STAGES if name in set(names)]
    made: dict[str, BaseStage] = {}
    for name in present:
        parent = next((made[one] for one in KINDS[name].parents if one in made), None)
        made[name] = KINDS[name](setup, name, parent, tuple(present))
    return made


def all_traced(stages: Iterable[BaseStage]) -> tuple[str, ...]:
    """Every scalar that a grid may sweep in these stages."""
    return tuple(dict.fromkeys(path for stage in stages for path in stage.traced))
