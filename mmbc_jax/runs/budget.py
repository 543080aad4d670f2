"""`budget`: the length of a whole run as one number.

Scaled are what trains and what hangs together with it: `bc.steps` with its epochs, rows and warm-up, the horizon of
the averaged weights (`bc.ema_decay`: d becomes d^(1/budget), the same share of the training), DAgger's steps of a
round, the iterations of discovery and fine-tuning with those of an epoch, the decisions a replay buffer waits for,
and the evaluated episodes. What is trained, on what and in which batches stays; schedules go by these lengths anyway.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from mmbc_jax.core.config import at, check_range
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.runs.sections import TUNING

_TUNED = ("discover", "finetune")


def shortened(config: ConfigDict) -> ConfigDict:
    """The configuration with its lengths scaled by `budget`, in place; with 1 nothing is touched.

    To be called once, where a configuration is made: what is scaled is recorded, and `budget` beside it.

    Raises:
      ConfigError: the budget is not above 0, or a length is no number.
    """
    budget = config.get("budget", 1.0)
    if isinstance(budget, bool) or not isinstance(budget, (int, float)):
        raise ConfigError("budget", budget, "a number")
    check_range("budget", budget, 0.0, 1000.0, open_low=True)
    if budget == 1.0:
        return config
    try:
        _clone(config.bc, budget)
        config.dagger.steps_per_round = _scaled(config.dagger.steps_per_round, budget)
        for section in _learners(config):
            _learner(config, section, budget)
        for stage in _TUNED:
            config[stage].iterations = _in_epochs(
                config[stage].iterations, _per_epoch(config, _section(config, stage)), budget
            )
        _evaluation(config, budget)
    except (TypeError, AttributeError, KeyError) as error:  # a file's own field; the checks say which
        raise ConfigError("budget", budget, f"1: a length is no number ({error})") from error
    return config


def _scaled(length: int, budget: float) -> int:
    return max(round(length * budget), 1)


def _in_epochs(length: int, per_epoch: int, budget: float) -> int:
    """The scaled length, a multiple of an epoch."""
    return max(round(length * budget / per_epoch), 1) * per_epoch


def _clone(bc: ConfigDict, budget: float) -> None:
    steps = _scaled(bc.steps, budget)
    if steps < bc.steps_per_epoch:
        bc.steps_per_row = min(bc.steps_per_row, steps)
        bc.steps_per_epoch = steps // bc.steps_per_row * bc.steps_per_row
    bc.steps = max(round(steps / bc.steps_per_epoch), 1) * bc.steps_per_epoch
    bc.warmup_steps = min(round(bc.warmup_steps * budget), bc.steps)
    bc.ema_decay = bc.ema_decay ** (1.0 / budget)


def _section(config: ConfigDict, stage: str) -> str:
    return f"{stage}.learner" if config[stage].learner.name else "learner"


def _per_epoch(config: ConfigDict, section: str) -> int:
    return at(config, section).get("iterations_per_epoch", 1)


def _learners(config: ConfigDict) -> list[str]:
    return ["learner", *(f"{stage}.learner" for stage in TUNING if config[stage].learner.name)]


def _learner(config: ConfigDict, section: str, budget: float) -> None:
    """An epoch is no longer than the shortest stage that is trained with it; `warmup` is of a replay buffer."""
    learner = at(config, section)
    users = [stage for stage in _TUNED if _section(config, stage) == section]
    lengths = [_scaled(config[stage].iterations, budget) for stage in users]
    if lengths and "iterations_per_epoch" in learner:
        learner.iterations_per_epoch = min(learner.iterations_per_epoch, *lengths)
    if "warmup" in learner:
        learner.warmup = round(learner.warmup * budget)


def _evaluation(config: ConfigDict, budget: float) -> None:
    evaluation = config.evaluation
    least = min(evaluation.episodes, max(config.finetune.num_modes, 1))
    evaluation.episodes = max(_scaled(evaluation.episodes, budget), least)
    if evaluation.every_epochs:
        evaluation.every_epochs = min(evaluation.every_epochs, _fewest_epochs(config))


def _fewest_epochs(config: ConfigDict) -> int:
    epochs = [config.bc.steps // config.bc.steps_per_epoch] if "bc" in config.stages else []
    epochs += [
        config[stage].iterations // _per_epoch(config, _section(config, stage))
        for stage in _TUNED
        if stage in config.stages
    ]
    return max(min(epochs, default=1), 1)
