"""Lanes: stages that learn in an environment, trained in processes of their own, each held to one CPU core.

XLA divides every operation among the threads of a process and waits for each of them. That pays for the large
products of cloning. A simulator's operations are tiny: handing one over costs more than computing it, and where other
programs want the cores, each hand-over waits for them: twice to a hundred times the time. What a process may
use is settled when it starts, so such stages get processes that start on one core. A lane is a chain of stages that
start from each other; lanes do not need each other and run side by side. All but one core's worth of them start with
the run and compile while it clones, the others when the state that they wait for is saved.

A lane writes what these stages would write, and its rows into `lanes/<name>/metrics.jsonl`; the run appends them to
its own, in the order of the stages, when all lanes have ended. Where a lane was begun, it is continued as one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmbc_jax.core.errors import INTERRUPTED, UserError, WorkdirError
from mmbc_jax.runs.checkpoint import checkpoint_steps
from mmbc_jax.runs.screen import Bars
from mmbc_jax.runs.stages import BaseStage

FOLDER = "lanes"
GO = "go"
_WORTH = 2_000_000  # control steps: some ten seconds of training, where the start of a process costs four
_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Lane:
    """A chain of stages.

    Attributes:
      stages: their names, each started from the one before.
      parent: the stage outside of it that the first one starts from; "" for none.
      epochs: of each of them.
    """

    stages: tuple[str, ...]
    parent: str
    epochs: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of its folder and its process."""
        return "+".join(self.stages)


def chains(stages: Sequence[BaseStage]) -> list[Lane]:
    """The lanes of a run's stages: those that need an environment and no demonstrations."""
    found: list[list[BaseStage]] = []
    for stage in stages:
        if stage.needs != {"environment"}:
            continue
        before = next((chain for chain in found if chain[-1] is stage.parent), None)
        if before is None:
            found.append([stage])
        else:
            before.append(stage)
    return [
        Lane(
            tuple(stage.name for stage in chain),
            chain[0].parent.name if chain[0].parent else "",
            tuple(stage.schedule.epochs for stage in chain),
        )
        for chain in found
    ]


def choose(
    cores: str, stages: Sequence[BaseStage], runs: int, workdir: Path, one_cpu_device: bool
) -> list[Lane]:
    """The lanes that a run uses.

    Args:
      cores: `mesh.cores`.
      stages: that the run trains, in order.
      runs: R, its runs.
      workdir: of the run.
      one_cpu_device: whether it computes in one process, on one device, which is the CPU.

    Returns:
      Those begun before. Beside them, with `cores` "own" all, with "auto" all where there are cores to share and
      enough to train, but never one whose stages were begun in the process of the run itself.

    Raises:
      WorkdirError: one was begun that is not finished, and cannot go on here.
    """
    if not one_cpu_device or not hasattr(os, "sched_setaffinity"):
        begun = [lane for lane in chains(stages) if (workdir / FOLDER / lane.name).exists()]
        if undone := " and ".join(lane.name for lane in begun if not finished(workdir, lane)):
            raise WorkdirError(
                f"{workdir}: {undone} began in processes beside the run's, on a CPU (mesh.cores): continue on one "
                "CPU device (JAX_PLATFORMS=cpu) without a mesh, or train in another --workdir"
            )
        return begun
    possible = chains(stages)
    named = {stage.name: stage for stage in stages}
    steps = runs * sum(named[name].env_steps for lane in possible for name in lane.stages)
    several = len(os.sched_getaffinity(0)) > 1 if possible else False
    wanted = cores == "own" or (cores == "auto" and several and steps >= _WORTH)
    return [
        lane
        for lane in possible
        if (workdir / FOLDER / lane.name).exists() or (wanted and not _begun(workdir, lane))
    ]


def announced(lanes: Sequence[Lane]) -> str:
    """What a run says of its lanes."""
    names = " and ".join(lane.name for lane in lanes)
    return f"{names}: on one core each, in processes of their own (mesh.cores)"


def _begun(workdir: Path, lane: Lane) -> bool:
    return any((workdir / "checkpoints" / name).exists() for name in lane.stages)


def finished(workdir: Path, lane: Lane) -> bool:
    """Whether all stages of a lane have been trained to their end and have their results."""
    return all(
        (workdir / "stages" / name / "result.json").exists()
        and checkpoint_steps(workdir / "checkpoints" / name)[-1:] == [epochs]
        for name, epochs in zip(lane.stages, lane.epochs, strict=True)
    )


@dataclasses.dataclass
class _Process:
    lane: Lane
    popen: subprocess.Popen[str]
    reader: threading.Thread
    told: bool = False
    error: str = ""


class Lanes:
    """The processes of a run's lanes; a context manager, which ends those that still run.

    Args:
      workdir: of the run, claimed.
      lanes: to train; those that are finished need no process.
    """

    def __init__(self, workdir: Path, lanes: Sequence[Lane]):
        self.workdir, self.lanes = workdir, list(lanes)
        self._said: queue.SimpleQueue[tuple[_Process, dict[str, Any]]] = queue.SimpleQueue()
        self._processes: list[_Process] = []
        self._waiting: list[Lane] = []
        self._cores: list[int] = []

    def __enter__(self) -> Lanes:
        self._waiting = [lane for lane in self.lanes if not finished(self.workdir, lane)]
        self._cores = sorted(os.sched_getaffinity(0)) if self._waiting else []
        # The run needs a core, too: more compilations at once would hold up its training.
        for _ in range(min(len(self._waiting), max(len(self._cores) - 1, 1))):
            self._start(self._waiting.pop(0))
        return self

    def __exit__(self, *_: object) -> None:
        self._terminate()
        for process in self._processes:
            process.popen.wait()
            process.reader.join()

    def go(self, stage: str) -> None:
        """Lets the lanes train that start from a stage, whose final state is saved; from none with ""."""
        for lane in [lane for lane in self._waiting if lane.parent == stage]:
            self._waiting.remove(lane)
            self._start(lane)
        for process in self._processes:
            if process.lane.parent == stage and not process.told:
                process.told = True
                self._tell(process, f"{GO}\n")

    def wait(self, bars: Bars, stopped: Any) -> bool:
        """Shows the lanes' progress until all have ended.

        Args:
          bars: where.
          stopped: says whether a signal asks to stop; then they save and end.

        Returns:
          Whether one of them was interrupted.

        Raises:
          UserError: one ended with an error, after the others have saved and ended.
        """
        asked = False
        while any(process.reader.is_alive() for process in self._processes) or not self._said.empty():
            if stopped() and not asked:
                asked = True
                self._terminate()
            try:
                process, message = self._said.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            self._show(bars, process, message)
            if process.error:
                self._terminate()
        codes = {process.lane.name: process.popen.wait() for process in self._processes}
        for process in self._processes:
            if process.error:
                raise UserError(process.error)
        failed = [name for name, code in codes.items() if code not in (0, INTERRUPTED)]
        if failed:
            raise RuntimeError(f"the process of {failed[0]} ended with code {codes[failed[0]]}")
        return INTERRUPTED in codes.values()

    def _start(self, lane: Lane) -> None:
        core = self._cores[len(self._processes) % len(self._cores)]
        (self.workdir / FOLDER / lane.name).mkdir(parents=True, exist_ok=True)
        # What can be imported here can be there, a plug-in beside the user's script among it.
        paths = os.pathsep.join(filter(None, sys.path))
        popen = subprocess.Popen(
            [sys.executable, "-m", "mmbc_jax.lane", str(self.workdir), lane.name, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C is for the run, which lets its lanes save
            env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
        )
        # Before it has started a thread; a function between fork and exec could deadlock under JAX.
        os.sched_setaffinity(popen.pid, {core})
        process = _Process(lane, popen, threading.Thread())
        process.reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        process.reader.start()
        self._processes.append(process)

    def _read(self, process: _Process) -> None:
        assert process.popen.stdout is not None
        for line in process.popen.stdout:
            try:
                message = json.loads(line)
            except json.JSONDecodeError:  # what a library printed
                message = {"line": line.rstrip()}
            self._said.put((process, message))

    def _show(self, bars: Bars, process: _Process, message: dict[str, Any]) -> None:
        if "bar" in message:
            bars.start(message["bar"], message["total"], message["done"])
        elif "advance" in message:
            bars.advance(message["advance"], message["steps"], message["note"], message["seconds"])
        elif "waiting" in message:
            bars.waiting(message["waiting"])
        elif "error" in message:
            process.error = message["error"]
        else:
            bars.line(str(message.get("line", message)))

    def _tell(self, process: _Process, text: str) -> None:
        assert process.popen.stdin is not None
        try:
            process.popen.stdin.write(text)
            process.popen.stdin.close()
        except OSError:
            pass  # it has ended, and `wait` says why

    def _terminate(self) -> None:
        """Asks all processes to save and end; one that waits for its parent's state ends at once."""
        for process in self._processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
                if not process.told:
                    process.told = True
                    self._tell(process, "")
