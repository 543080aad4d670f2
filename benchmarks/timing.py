"""Interleaved timing: every contender in every round, so that a busy moment hits all of them alike."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_BUDGET = 40.0  # seconds after which no further round starts, once there are _FEWEST
_FEWEST = 5
_PAUSE = 0.003  # seconds between blocks: idle OpenMP threads spin for about a millisecond


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
      name: as shown.
      block: does `units` units of work and returns when all of it is done.
      units: per block; a fraction where a block does less than what is reported.
    """

    name: str
    block: Callable[[], Any]
    units: float


def repeated(block: Callable[[], Any], repeats: int) -> Callable[[], None]:
    """A block that runs a short one `repeats` times."""

    def run() -> None:
        for _ in range(repeats):
            block()

    return run


@dataclasses.dataclass
class Samples:
    """Seconds per unit, one entry per round.

    Attributes:
      wall: elapsed.
      cpu: processor time of all threads of the process; with one core, elapsed minus what others took.
    """

    wall: list[float] = dataclasses.field(default_factory=list)
    cpu: list[float] = dataclasses.field(default_factory=list)


def interleave(contenders: Sequence[Contender], rounds: int, warmup: int = 1) -> dict[str, Samples]:
    """Times all contenders in turn, `rounds` times, every other round in reverse order.

    Args:
      contenders: with distinct names.
      rounds: at least 1; fewer are done, but never under 5, where they take longer than 40 s.
      warmup: blocks of each before the clock counts.

    Returns:
      Samples by name.
    """
    for contender in contenders:
        for _ in range(warmup):
            contender.block()
    samples = {contender.name: Samples() for contender in contenders}
    start = time.monotonic()
    for index in range(rounds):
        if index >= _FEWEST and time.monotonic() - start > _BUDGET:
            break
        for contender in contenders[:: 1 if index % 2 == 0 else -1]:
            time.sleep(_PAUSE)
            wall, cpu = time.perf_counter(), time.process_time()
            contender.block()
            samples[contender.name].cpu.append((time.process_time() - cpu) / contender.units)
            samples[contender.name].wall.append((time.perf_counter() - wall) / contender.units)
    return samples


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and extremes."""
    array = np.asarray(values, float)
    low, median, high = np.percentile(array, [25, 50, 75])
    return {
        "median": float(median),
        "q25": float(low),
        "q75": float(high),
        "min": float(array.min()),
        "max": float(array.max()),
    }


def summarise(samples: dict[str, Samples], ours: str) -> dict[str, Any]:
    """Times of each contender and how many times faster `ours` is.

    A ratio is taken within each round (both sides saw the same moment of the machine), then its median and
    quartiles over the rounds.

    Args:
      samples: of `interleave`.
      ours: the contender that the others are compared with.

    Returns:
      {"rounds", "seconds": {name: spread}, "cpu_seconds": {name: spread}, "ratio": {name: spread of name / ours},
      "cpu_ratio": the same of processor time}; ratios for the others only.
    """
    result: dict[str, Any] = {
        "rounds": len(samples[ours].wall),
        "seconds": {name: spread(sample.wall) for name, sample in samples.items()},
        "cpu_seconds": {name: spread(sample.cpu) for name, sample in samples.items()},
        "ratio": {},
        "cpu_ratio": {},
    }
    for name, sample in samples.items():
        if name != ours:
            result["ratio"][name] = spread(np.divide(sample.wall, samples[ours].wall))
            result["cpu_ratio"][name] = spread(np.divide(sample.cpu, samples[ours].cpu))
    return result
