"""A trained policy taken out of its run: `mmbc_jax.load("runs/x")`."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.acting import played_by
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.files import local_path
from mmbc_jax.core.keys import wrapped
from mmbc_jax.core.learning import Subject
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.deploy.decision import Decision, drawn_commands, stripped, there_of
from mmbc_jax.deploy.inputs import RequestError, as_commands, as_rows, as_words, padded
from mmbc_jax.deploy.interface import Interface, interface_of
from mmbc_jax.deploy.known_modes import KnownMode, known_modes
from mmbc_jax.evaluation.evaluator import acting
from mmbc_jax.runs.checkpoint import checkpoint_steps, find_stage
from mmbc_jax.runs.restored import Restored, restore
from mmbc_jax.runs.run_options import TAKEN

if TYPE_CHECKING:
    from mmbc_jax.deploy.controller import Controller

_EMBEDDED = 2**24  # bytes of weights


class KeyStream:
    """Keys one after another, for any number of threads.

    Args:
      words: [2] uint32 that start the stream.
    """

    def __init__(self, words: np.ndarray):
        self._generator, self._lock = np.random.default_rng(words), threading.Lock()
        self._block: list[np.ndarray] = []

    def take(self) -> np.ndarray:
        """[2] uint32, the next one."""
        with self._lock:
            if not self._block:
                self._block = list(self._generator.integers(0, 2**32, (256, 2), dtype=np.uint32)[::-1])
            return self._block.pop()


@dataclasses.dataclass(frozen=True)
class Deployed:
    """A policy with everything that it needs to act; call it.

    Attributes:
      spec: what goes in and comes out.
      act: who decides, drawn and without chance.
      subject: its weights, on the device.
      workdir: of the run.
      final: whether the run's summary speaks of this checkpoint.
      deterministic: whether it plays the likeliest actions where a call says nothing else.
      notes: which checkpoint it is, and what its user may have expected instead.
      keys: those of calls that name none.
    """

    spec: Interface
    act: dict[bool, Any]
    subject: Subject
    workdir: Path
    final: bool = True
    deterministic: bool = False
    notes: tuple[str, ...] = ()
    keys: KeyStream = dataclasses.field(default_factory=lambda: KeyStream(as_words(0)))

    def __call__(self, obs: Any, z: Any = None, key: Any = None, deterministic: bool | None = None) -> Any:
        """The chunk of an observation, or of each of a batch; compiled once for every power of two of batches.

        Args:
          obs: as `spec.obs` has it, in physical units; one, or with a leading axis B. A policy that sees several
            control steps takes their observations one after another, the oldest first, as a controller keeps them.
          z: command, one for all or [B]; None to draw it as training did, anew at every call.
          key: of `jax.random.key`, or a seed, for all that is left to chance; None for the policy's own stream.
          deterministic: the likeliest action in place of a drawn one; None as loaded.

        Returns:
          [H, A] or [B, H, A] actions in physical units within `spec.low` and `spec.high`; NumPy's array, or where the
          observation is one of JAX's, that.

        Raises:
          RequestError: an observation, command or key that it cannot take.
        """
        chunk, single = self.plan(obs, z, key, deterministic, bounded=True)
        return chunk[0] if single else chunk

    def plan(
        self,
        obs: Any,
        z: Any = None,
        key: Any = None,
        deterministic: bool | None = None,
        bounded: bool = False,
    ) -> tuple[Any, bool]:
        """(chunks [B, H, A], cut to the bounds or not yet; whether the observation was a single one)."""
        spec = self._obs
        rows, batch, single = as_rows(spec, obs)
        size = 1 << (batch - 1).bit_length()
        commands = as_commands(z, self.there, self.spec.stage, batch, size)
        words = self.keys.take() if key is None else as_words(key)
        rows = rows if size == batch else padded(rows, size)
        program = self._programs[
            self.deterministic if deterministic is None else bool(deterministic), bounded
        ]
        chunk = program(words, spec.joined(rows), commands)
        if all(type(array) is np.ndarray for array in rows.values()):  # what is not is JAX's
            chunk = np.asarray(chunk)
        return chunk if size == batch else chunk[:batch], single

    def bounded(self, chunk: Any) -> Any:
        """Actions [..., A] cut to what the environment executes."""
        if not self._bounds:
            return chunk
        lib: Any = jnp if isinstance(chunk, jax.Array) else np
        return lib.minimum(lib.maximum(chunk, self._low), self._high)

    def draw(self, key: Any = None, batch: tuple[int, ...] = ()) -> np.ndarray:
        """Commands drawn as in training: those that `policy(obs, key=key)` would follow."""
        words = self.keys.take() if key is None else as_words(key)
        if self.spec.num_modes == 1:
            return np.zeros(batch, np.int32)
        return np.asarray(
            drawn_commands(self.subject, wrapped(jnp.asarray(words)), self.spec.num_modes, batch)
        )

    def warm_up(self, batch: int = 1) -> Deployed:
        """Compiles what a call runs for a batch of observations now, which else the first does; returns itself.

        A controller may run another program: see `Controller.warm_up`.
        """
        obs = self.spec.obs.dummy(batch)
        self(jax.tree.map(np.asarray, obs), key=0)
        return self

    def modes(self) -> list[KnownMode]:
        """The commands there are, with what the run's evaluation found of each; see `KnownMode`."""
        return known_modes(self.workdir, self.spec, self.final)

    def controller(self, **settings: Any) -> Controller:
        """A receding-horizon controller around it; `settings` are those of `deploy.controller.Controller`."""
        from mmbc_jax.deploy.controller import Controller

        return Controller(self, **settings)

    @cached_property
    def there(self) -> np.ndarray:
        """[Z] whether there is such a command: merging leaves fewer than training began with."""
        return there_of(self.subject, self.spec.num_modes)

    @cached_property
    def _low(self) -> np.ndarray:
        return np.asarray(self.spec.low, np.float32)

    @cached_property
    def _high(self) -> np.ndarray:
        return np.asarray(self.spec.high, np.float32)

    @cached_property
    def _bounds(self) -> bool:
        return bool(self.spec.low) and bool(np.isfinite([self.spec.low, self.spec.high]).any())

    def decision(self, deterministic: bool, bounded: bool = False, fused: bool = False) -> Decision:
        """The pure function behind a call, for whoever compiles it otherwise."""
        cut = bounded and self._bounds
        low, high = (jnp.asarray(self._low), jnp.asarray(self._high)) if cut else (None, None)
        return Decision(self.act[deterministic], self.spec.num_modes, low, high, fused)

    @cached_property
    def _obs(self) -> ObsSpec:
        return self.spec.obs

    @cached_property
    def _programs(self) -> dict[tuple[bool, bool], Any]:
        """By `deterministic` and `bounded`.

        Weights are constants of the program, which saves a call their flattening; not large ones, which would take
        longer to compile and more memory.
        """
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(self.subject))
        made: dict[tuple[bool, bool], Any] = {}
        for case in ((False, False), (False, True), (True, False), (True, True)):
            decide = self.decision(*case, fused=True).__call__
            if size <= _EMBEDDED:
                made[case] = jax.jit(functools.partial(decide, self.subject))
            else:
                made[case] = functools.partial(jax.jit(decide), self.subject)
        return made


def load(
    path: str | Path,
    stage: str | None = None,
    step: int | None = None,
    seed: int | None = None,
    point: int = 0,
    deterministic: bool = False,
    key: Any = 0,
) -> Deployed:
    """A trained policy, ready to act: `policy = load("runs/x"); chunk = policy(obs, z=2)`.

    Args:
      path: a work directory, or the checkpoints of one of its stages.
      stage: which; None for the last one trained, `baseline` and `plain`, which are there to compare with, only where
        there is no other.
      step: of its checkpoints; None for the newest whole one.
      seed: which of the runs side by side; None for the first.
      point: which point of a sweep.
      deterministic: play the likeliest actions where a call says nothing else.
      key: starts the stream that calls without a key draw from; a seed, or a key of JAX's.

    Raises:
      CheckpointError: nothing there, damaged, or no such step.
      UserError: no such stage, seed or point.
    """
    where = local_path(path, "path")
    with _without_warnings_of("absl"):  # orbax warns of what it was asked for: to change nothing
        restored = restore(where, stage or "", [], TAKEN, step)
    seed = restored.grid.seeds[0] if seed is None else seed
    run = _run_of(restored, seed, point)
    subjects = stripped(restored.stage.subject(restored.state, restored.keys(restored.stage.name)))
    subject = jax.tree.map(lambda leaf: jnp.asarray(leaf)[run], subjects)
    there = there_of(subject, restored.stage.num_modes)
    directory, _ = find_stage(where, (restored.stage.name,))
    newest = checkpoint_steps(directory)[-1]
    parts = played_by(restored.stage.learner, restored.stage.parts)
    return Deployed(
        interface_of(restored, seed, point, there),
        {own: acting(parts, own) for own in (False, True)},
        subject,
        restored.workdir,
        directory.parent.name == "checkpoints" and restored.step == newest,
        bool(deterministic),
        restored.notes,
        KeyStream(as_words(key)),
    )


@contextmanager
def _without_warnings_of(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _run_of(restored: Restored, seed: int, point: int) -> int:
    """Index among the runs of a checkpoint."""
    grid = restored.grid
    if not 0 <= point < len(grid.points):
        raise UserError(f"point {point} must be from 0 to {len(grid.points) - 1}: the points of the sweep")
    if seed not in grid.seeds:
        raise UserError(
            f"seed {seed} must be one of {', '.join(map(str, grid.seeds))}: those of the checkpoint"
        )
    return int(restored.stage.runs(grid).index[point, grid.seeds.index(seed)])


__all__ = ["Deployed", "RequestError", "load"]
