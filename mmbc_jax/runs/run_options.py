"""What stands at the top of a configuration."""

from __future__ import annotations

import dataclasses

from mmbc_jax.core.options import Options, option
from mmbc_jax.nn.precision import PRECISIONS

STAGES = ("bc", "baseline", "dagger", "discover", "finetune", "plain")
TAKEN = ("baseline", "plain", "bc", "dagger", "discover", "finetune")
"""The stages again, the one that is taken for the run's policy last: those to compare with come first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """What stands at the top of a configuration."""

    stages: tuple[str, ...] = option(
        ("bc",),
        "which stages run, always in this order: bc clones `policy`; baseline clones the policy of that section on "
        "the same data; dagger trains the clone further on its own states, relabelled by the scripted expert; "
        "discover finds modes by the intrinsic reward alone; finetune adds the environment's; plain is the "
        "conventional fine-tuner (lambda = 0, one mode) with as many environment steps as both",
        choices=STAGES,
        filled=True,
    )
    seeds: int = option(1, "seeds trained side by side", low=1, high=2**20)
    first_seed: int = option(0, "the first of them; the others count on", low=0)
    start_from: str = option(
        "",
        "work directory or checkpoint whose stages stand in for those left out; their policy and sizes must be those "
        "of this run, other settings of the environment are recorded",
    )
    warm_start: tuple[str, ...] = option(
        (),
        "stages that run from the weights that the stage of the same name has in start_from, with a fresh "
        "optimiser; bc keeps the scales of the data that it was cloned on",
        choices=STAGES,
    )
    budget: float = option(
        1.0,
        "share of the training that the other fields say: 0.1 is a tenth of all steps, iterations, warm-ups and "
        "evaluated episodes; the fields that it changes are recorded as changed",
        low=0.0,
        high=1000.0,
        open_low=True,
    )
    diagnostics: tuple[str, ...] = option(
        (), "instruments applied to the final clones, and those of episodes to every stage; by name, or all"
    )
    figures: tuple[str, ...] = option(("all",), "drawn at the end, by name, or all")
    figures_per_point: int = option(
        8, "a stage with more sweep points is drawn in one picture instead of a page each", low=1
    )
    loggers: tuple[str, ...] = option(
        ("tensorboard",),
        "what writes the rows of metrics.jsonl for other programs: tensorboard, csv, wandb, or none",
    )
    videos: str = option(
        "drawn",
        "films of a few commands in report.html: recorded paths drawn over the scene, or episodes played again where "
        "the task has pictures of its own, which takes a compilation",
        choices=("none", "drawn", "played"),
    )
    precision: str = option(
        "fp32", "of products in networks; all else is computed in fp32", choices=PRECISIONS
    )
    nonfinite_limit: int = option(50, "updates skipped in a row after which a run stops", low=1)

    def check(self) -> None:
        """Raises ConfigError for a stage named twice, seeds beyond 32 bits, or a warm start from nothing."""
        twice = [stage for stage in STAGES if self.stages.count(stage) > 1]
        if twice:
            raise self.error("stages", f"without naming {twice[0]} twice")
        if self.first_seed + self.seeds > 2**32:
            raise self.error("first_seed", f"at most 2^32 - seeds = {2**32 - self.seeds}")
        for name in self.warm_start:
            if name not in self.stages or not self.start_from:
                raise self.error("warm_start", f"stages that run ({self.stages}), with start_from set")
