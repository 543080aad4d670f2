"""The demonstrations of a run, on the device."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.errors import DataError
from mmbc_jax.core.files import read_sealed, write_sealed
from mmbc_jax.core.keys import seeded
from mmbc_jax.data import load, several
from mmbc_jax.data.blocks import Blocks
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.fingerprint import check_same, fingerprint
from mmbc_jax.data.inspection import foreign, noticed
from mmbc_jax.data.jitter import Jitter
from mmbc_jax.data.windows import Windows, make_windows, spread_indices, window_bytes, window_rows
from mmbc_jax.diagnostics.data_separation import separation
from mmbc_jax.ops.action_scale import ActionScale, action_scale
from mmbc_jax.ops.normalisation import Normalizer, fit
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.mesh import Mesh
from mmbc_jax.runs.setup import Setup

_OFFLINE_WINDOWS = 4096  # held-out windows measured at most, evenly spread over the set
RECORDED = "demonstrations.npz"


@dataclasses.dataclass
class StageData:
    """What the cloning stages share.

    Attributes:
      setup: of the run.
      episodes: all demonstrations, physical units.
      normalizer: fitted to the training episodes; of what a decision sees, its history included.
      scale: of the actions.
      training: the training windows, by the epoch that trains on them.
      held_out: windows of the held-out episodes; None where nothing is held out.
      count: training windows in all.
    """

    setup: Setup
    episodes: Episodes
    normalizer: Normalizer
    scale: ActionScale
    training: Callable[[int], Windows]
    held_out: Windows | None
    count: int

    @staticmethod
    def prepare(
        setup: Setup,
        workdir: Path,
        episodes: Episodes | None = None,
        *,
        keep: bool = True,
        scales: Normalizer | None = None,
    ) -> StageData:
        """Cuts the demonstrations into windows.

        Args:
          setup: of the run.
          workdir: where the episodes of a scripted expert are kept, so that they are recorded once.
          episodes: those of `data.path`, where they have been read already.
          keep: write down the episodes of a scripted expert.
          scales: normaliser to use instead of one fitted to these episodes, of what a decision sees.
        """
        recorded = Path(workdir) / RECORDED
        if episodes is None and not setup.config.data.path and recorded.exists():
            source = setup_lib.expert_source(setup)
            episodes = dataclasses.replace(load.load(recorded), source=source)
        elif episodes is None:
            episodes = setup_lib.load_episodes(setup)
            if keep and not setup.config.data.path:
                episodes.save_npz(recorded)
        train, held_out = setup_lib.split_episodes(setup, episodes)
        low, high = _bounds(setup)
        scale = action_scale(train.action, low, high, setup.config.data.scale)
        chunk, data = setup.config.chunk, setup.config.data
        if scales is None:
            single = fit(train.obs, train.action, low, high, setup.obs, scale.rule)
        else:
            single = scales.without_history(chunk.observe)
        cut = functools.partial(make_windows, which=data.windows, observe=chunk.observe)
        return StageData(
            setup=setup,
            episodes=episodes,
            normalizer=single.with_history(chunk.observe),
            scale=scale,
            training=_training(setup, train, single),
            held_out=None if held_out is None else _thin(cut(held_out, single, chunk.predict)),
            count=len(window_rows(train, data.windows)),
        )

    @functools.cached_property
    def notes(self) -> tuple[str, ...]:
        """What whoever starts the run should know of the data, in sentences."""
        setup, found = self.setup, [*self.scale.lines, *self.episodes.notes]
        if not setup.config.data.path:
            return tuple(found)
        found += noticed(self.episodes)
        if setup.env is not None:
            found += foreign(setup.env, self.episodes, seeded(setup.config.data.seed))
        return tuple(found)

    @property
    def train_windows(self) -> Windows:
        """The training windows, or where they are streamed the first block of them."""
        return self.training(0)

    def facts(self) -> dict[str, Any]:
        """Sizes of the data set and the separation of its modes (see `diagnostics.data_separation`)."""
        labels = self.episodes.mode
        return {
            "source": Path(self.episodes.source).name,
            "fingerprint": fingerprint(self.episodes),
            "episodes": len(self.episodes),
            "steps": int(self.episodes.lengths.sum()),
            "windows": self.count,
            "action_scale": self.scale.facts(),
            "held_out_windows": 0 if self.held_out is None else len(self.held_out),
            "labelled_modes": 0 if labels is None else len(np.unique(labels[labels >= 0])),
            **separation(
                self.train_windows, seed=self.setup.config.data.seed, spec=self.setup.policy_spec.obs
            ),
        }


class Demonstrations:
    """The demonstrations of a run, prepared when they are first asked for, and the facts of them.

    Args:
      setup: of the run.
      workdir: of the run.
      mesh: of the run; its writer records first.
      cloning: stages that learn from them.
      say: shows what is to be known of them, a sentence at a time and each once.
      scales: the normaliser to use, where it is not to be fitted to them.
    """

    def __init__(
        self,
        setup: Setup,
        workdir: Path,
        mesh: Mesh,
        cloning: Sequence[str],
        say: Callable[[str], None],
        scales: Callable[[], Normalizer | None] = lambda: None,
    ):
        self._setup, self._workdir, self._mesh, self._cloning = setup, workdir, mesh, tuple(cloning)
        self._scales, self._say, self._said = scales, say, False
        self._data: StageData | None = None
        self._episodes: Episodes | None = None

    def read(self) -> None:
        """Reads the file of a run that learns from one; a file that is gone is not missed where all have learned.

        Raises:
          DataError: it cannot be used, or is not what this run was begun with.
        """
        path = self._setup.config.data.path
        if not (self._cloning and path) or self._episodes is not None:
            return
        done = all((self._workdir / "stages" / name / "result.json").exists() for name in self._cloning)
        if done and not several.there(path):
            return
        self._episodes = setup_lib.load_episodes(self._setup)
        self._check(self._episodes)

    @property
    def data(self) -> StageData:
        """The demonstrations, read or recorded by the writer before the other processes."""
        if self._data is None:
            with self._mesh.writer_first():
                self._data = self._prepare()
        return self._data

    @property
    def _path(self) -> Path:
        return self._workdir / "data.json"

    def facts(self) -> dict[str, Any]:
        """Where they came from and how their modes are separated, as far as that is written down."""
        try:
            return read_sealed(self._path) if self._path.exists() else {}
        except DataError as error:
            raise DataError(f"{error}; remove it, and it is made anew") from error

    def write_facts(self) -> None:
        """Completes `data.json` where there are demonstrations; late, since no stage asks for it."""
        wanted = self._mesh.is_writer and bool(self._cloning or self._data is not None)
        if wanted and "windows" not in self.facts():
            # not through `data`, where processes wait for each other: this one is alone here
            data = self._data or self._prepare()
            write_sealed(self._path, {**data.facts(), "notes": list(data.notes)})

    def _check(self, episodes: Episodes) -> None:
        check_same(episodes, self.facts().get("fingerprint", ""), f"the run in {self._workdir}")

    def _prepare(self) -> StageData:
        keep = self._mesh.is_writer
        data = StageData.prepare(self._setup, self._workdir, self._episodes, keep=keep, scales=self._scales())
        self._check(data.episodes)
        if keep and not self._path.exists():
            source = Path(data.episodes.source).name
            write_sealed(self._path, {"source": source, "fingerprint": fingerprint(data.episodes)})
        if keep and not self._said:
            self._said = True
            for note in data.notes:
                self._say(note)
        return data


def _bounds(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """([A], [A]) bounds of the actions, infinite where there are none."""
    if setup.env is None:
        return np.full(setup.action_dim, -np.inf), np.full(setup.action_dim, np.inf)
    return np.asarray(setup.env_spec.action_low), np.asarray(setup.env_spec.action_high)


def _training(setup: Setup, episodes: Episodes, single: Normalizer) -> Callable[[int], Windows]:
    """All windows on the device for every epoch, or with `data.stream` a block of them after another."""
    chunk, data = setup.config.chunk, setup.config.data
    jitter = None
    if data.jitter:
        jitter = Jitter.of(setup.env_spec, single, data.jitter, chunk.predict, chunk.observe)
    size = window_bytes(episodes, chunk.predict, data.windows, chunk.observe)
    if data.stream and size > data.stream * 2**20:
        own = (episodes, single, chunk.predict, data.stream, data.seed, data.windows, chunk.observe)
        return Blocks(*own, put=lambda block: jax.device_put(block.replace(jitter=jitter))).block
    windows = make_windows(episodes, single, chunk.predict, data.windows, chunk.observe)
    files = several.shares(episodes, window_rows(episodes, data.windows))
    windows = windows.replace(jitter=jitter, files=None if files is None else tuple(map(jnp.asarray, files)))
    return lambda epoch: windows


def _thin(windows: Windows) -> Windows:
    return windows.take(spread_indices(len(windows), _OFFLINE_WINDOWS))
