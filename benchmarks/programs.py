"""What a compiled program executes: operations, conditionals, scatters and transfers to the host.

Counted from the optimised HLO of an executable (`Program.compiled.as_text()`), so a count is of one backend and one
version of the compiler, and exact: no clock, and the same on a busy machine.

- Operations: instructions of the entry computation and of what it calls, those in the body of a loop times its trip
  count. A fusion is one, however much is fused, and so are a sort, a reduction and a product with whatever they
  apply to each entry; a conditional is one and its longest branch. Free are instructions that only name values
  (`FREE`), a loop itself and its condition.
- Conditionals, scatters and transfers are places in the program, inside fusions too, however often they are executed.
  A transfer is an infeed, an outfeed, a send, a receive or a call back into Python.

    python -m benchmarks.programs                  # an iteration of each training program of the main job
    python -m benchmarks.programs --set env.start_noise=0 --set env.action_noise=0 --set env.obs_noise=0
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping

import jax

from benchmarks import finetuning, subjects
from mmbc_jax.core import config as config_lib
from mmbc_jax.runs import setup
from mmbc_jax.runs.epoch import compile_program, make_epoch
from mmbc_jax.runs.mesh import Mesh
from mmbc_jax.runs.stages import make_stages

FREE = frozenset(
    ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "opt-barrier", "domain")
    + ("partition-id", "replica-id", "copy-done", "async-done", "async-update", "call", "while")
)
"""Instructions that nothing is executed for; a call and a loop stand for what they call."""

_TRANSFERS = ("infeed", "outfeed", "send", "recv")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = .*?\s([a-z][a-z0-9\-]*)\((.*)$")
_CALLED = re.compile(r"\b(?:to_apply|body|calls|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_TARGET = re.compile(r'\bcustom_call_target="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a program executes; see the module docstring.

    Attributes:
      operations: executed.
      conditionals: places.
      scatters: places.
      transfers: places.
      unbounded: loops whose trip count the compiler does not know; their bodies are counted once.
    """

    operations: int
    conditionals: int
    scatters: int
    transfers: int
    unbounded: int


@dataclasses.dataclass(frozen=True)
class _Instruction:
    opcode: str
    called: tuple[str, ...]
    trips: int | None
    target: str


def count(hlo: str) -> Counts:
    """Counts an executable's optimised HLO text.

    Raises:
      ValueError: the text has no entry computation.
    """
    entry, computations = _parse(hlo)
    reached = set(_reached(entry, computations))
    everything = [instruction for name in reached for instruction in computations[name]]

    @functools.cache
    def executed(name: str) -> int:
        return sum(_executed(instruction, executed) for instruction in computations[name])

    return Counts(
        operations=executed(entry),
        conditionals=sum(one.opcode == "conditional" for one in everything),
        scatters=sum(one.opcode == "scatter" for one in everything),
        transfers=sum(_transfers(one) for one in everything),
        unbounded=sum(one.opcode == "while" and one.trips is None for one in everything),
    )


def _executed(one: _Instruction, executed: Callable[[str], int]) -> int:
    if one.opcode == "while":
        return (one.trips or 1) * sum(map(executed, one.called))
    if one.opcode == "call":
        return sum(map(executed, one.called))
    if one.opcode == "conditional":
        return 1 + max(map(executed, one.called), default=0)
    return int(one.opcode not in FREE)


def _transfers(one: _Instruction) -> bool:
    return one.opcode in _TRANSFERS or (one.opcode == "custom-call" and "callback" in one.target)


def _parse(hlo: str) -> tuple[str, dict[str, list[_Instruction]]]:
    """(name of the entry, instructions of each computation)."""
    entry, computations, current = "", {}, None
    for line in hlo.splitlines():
        head = _HEAD.match(line)
        if head:
            current = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current.append(_instruction(found[1], found[2]))
    if not entry:
        raise ValueError("not the text of an HLO module: no entry computation")
    return entry, computations


def _instruction(opcode: str, rest: str) -> _Instruction:
    called = _CALLED.findall(rest)
    for branches in _BRANCHES.findall(rest):
        called += [name.strip().lstrip("%") for name in branches.split(",")]
    trips, target = _TRIPS.search(rest), _TARGET.search(rest)
    return _Instruction(opcode, tuple(called), int(trips[1]) if trips else None, target[1] if target else "")


def _reached(entry: str, computations: dict[str, list[_Instruction]]) -> Iterator[str]:
    """Names of the computations that the entry leads to, once each."""
    seen, waiting = {entry}, [entry]
    while waiting:
        name = waiting.pop()
        yield name
        for one in computations[name]:
            new = set(one.called) - seen
            seen |= new
            waiting += sorted(new)


def training(stages: tuple[str, ...], changes: Mapping[str, str]) -> dict[str, Counts]:
    """Counts of one training step of stages of the main job, compiled as a run executes it.

    Args:
      stages: of the main job; discover and finetune share a program.
      changes: {option: value} on the main job's, as `train --set` has them.
    """
    config = config_lib.apply_overrides(config_lib.load(finetuning.JOB), changes.items())
    made, counts = make_stages(setup.build(config), ("bc", *stages)), {}
    for name in stages:
        stage = made[name]
        state, shared = jax.eval_shape(
            lambda stage=stage: (finetuning.start(stage), subjects.demonstrations(1000))
        )
        epoch = make_epoch(stage.train_step, 1, 1, Mesh(), stage.logs)
        program = compile_program(epoch, state, shared if name == "bc" else (), donate=True)
        counts[name] = count(program.compiled.as_text())
    return counts


def main() -> None:
    """Prints a line for each training program."""
    parser = argparse.ArgumentParser(description=training.__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    changes = dict(each.split("=", 1) for each in parser.parse_args().set)
    for name, counts in training(("bc", "finetune", "plain"), changes).items():
        print(f"{name}: " + ", ".join(f"{number} {what}" for what, number in vars(counts).items()))


if __name__ == "__main__":
    main()
