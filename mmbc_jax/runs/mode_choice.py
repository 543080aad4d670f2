"""`sweep.mode=auto`: whether the runs of one device are computed all at once or in turn, by a short measurement.

A stage of several runs is compiled for all at once (`vmap`), as it would be anyway. Another program is compiled for
runs in turn (`map`) only where that can pay: the first takes more than `CROWDED` of the device's memory, or the stage
is so long that compiling the second and an epoch of each are less than `WORTH` of it. Epochs are timed on copies of
the first state, before anything is trained. `map` is taken where it is faster by `MARGIN`, or where `vmap` crowds the
memory and `map` needs less.

Results of the two may differ in the last bits, so a choice is on disk before the first epoch, and a run that goes on
takes the recorded one. For the same reason it is no default: the same command would not always give the same bits.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from mmbc_jax.core.files import read_json, write_json
from mmbc_jax.core.types import PyTree
from mmbc_jax.runs.epoch import Program
from mmbc_jax.runs.mesh import is_key

CROWDED = 0.5
WORTH = 0.2
MARGIN = 0.1

Choice = dict[str, Any]
"""{"mode", "stage", "runs", "why"} and, as far as they were found, {"<mode>_seconds", "<mode>_bytes"} of an epoch."""


@dataclasses.dataclass
class Modes:
    """The choices of a run.

    Attributes:
      path: where they are recorded; None for nowhere.
      say: gets a line on every choice that is made, and not read.
      clock: seconds.
    """

    path: Path | None = None
    say: Callable[[str], None] = lambda line: None
    clock: Callable[[], float] = time.perf_counter
    _made: dict[str, Choice] = dataclasses.field(default_factory=dict)

    def known(self, key: str) -> Choice | None:
        """The recorded choice of a program."""
        if self.path is not None and self.path.exists() and not self._made:
            self._made.update(read_json(self.path))
        return self._made.get(key)

    def pick(
        self,
        key: str,
        stage: str,
        compiled: Callable[[str], Program],
        state: PyTree,
        shared: PyTree,
        epochs: int,
    ) -> Program:
        """The program of the mode that was chosen before, or that is chosen now.

        Args:
          key: says which program, in every process that runs this command.
          stage: its name.
          compiled: the epoch in a mode, "vmap" or "map".
          state: first state with leading axis R; left as it is.
          shared: what all runs read.
          epochs: in the stage.
        """
        if (recorded := self.known(key)) is not None:
            return compiled(recorded["mode"])
        program = compiled("vmap")
        found: Choice = {"mode": "vmap", "stage": stage, "runs": len(jax.tree.leaves(state)[0])}
        found["vmap_bytes"], memory = program.temp_bytes, device_memory()
        spare = WORTH * epochs - 2  # epochs that a compilation may take
        if 0 < memory * CROWDED < program.temp_bytes:
            other = compiled("map")
            found["map_bytes"] = other.temp_bytes
            found["why"] = f"all at once takes more than {CROWDED:.0%} of the device's memory"
            better = other.temp_bytes < program.temp_bytes
        elif spare > 0 and program.compile_seconds < spare * self._seconds(
            "vmap", program, state, shared, found
        ):
            other = compiled("map")
            found["map_bytes"], found["why"] = other.temp_bytes, "measured"
            better = self._seconds("map", other, state, shared, found) < (1 - MARGIN) * found["vmap_seconds"]
        else:
            other, better, found["why"] = program, False, "too short a stage for a comparison"
        found["mode"] = "map" if better else "vmap"
        self._record(key, found)
        return other if better else program

    def _record(self, key: str, choice: Choice) -> None:
        self._made[key] = choice
        if self.path is not None:
            write_json(self.path, self._made)
        self.say(said(choice))

    def _seconds(self, mode: str, program: Program, state: PyTree, shared: PyTree, found: Choice) -> float:
        """Of an epoch, on a copy: the program takes over what it is given. Noted in `found`."""
        copy = jax.block_until_ready(jax.tree.map(_copied, state))
        start = self.clock()
        jax.block_until_ready(program(copy, shared))
        found[f"{mode}_seconds"] = seconds = self.clock() - start
        return seconds


def _copied(leaf: Any) -> Any:
    if is_key(leaf):
        data = jax.device_put(jax.random.key_data(leaf), may_alias=False)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jax.device_put(leaf, may_alias=False)


def said(choice: Choice) -> str:
    """A choice in a line."""
    how = {"vmap": "all at once", "map": "in turn"}
    figures = []
    for mode, words in how.items():
        parts = []
        if f"{mode}_seconds" in choice:
            parts.append(f"{choice[f'{mode}_seconds']:.3g} s an epoch")
        if choice.get(f"{mode}_bytes", -1) >= 0:
            parts.append(f"{choice[f'{mode}_bytes'] / 2**20:.3g} MB of scratch memory")
        if parts:
            figures.append(f"{words} {', '.join(parts)}")
    return (
        f"{choice['stage']}: {choice['runs']} runs {how[choice['mode']]} (sweep.mode={choice['mode']}; "
        f"{choice['why']}: {'; '.join(figures)})"
    )


def device_memory() -> int:
    """Bytes of memory of the device that computes; 0 where it is not known."""
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if jax.default_backend() == "cpu" and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0
