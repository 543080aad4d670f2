"""The demonstrations of a run, on the device."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmbc_jax.data import load
from mmbc_jax.data.blocks import Blocks
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.jitter import Jitter
from mmbc_jax.data.windows import Windows, make_windows, spread_indices, window_bytes, window_rows
from mmbc_jax.diagnostics.data_separation import separation
from mmbc_jax.ops.normalisation import Normalizer, fit
from mmbc_jax.runs import setup as setup_lib
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
      training: the training windows, by the epoch that trains on them.
      held_out: windows of the held-out episodes; None where nothing is held out.
      count: training windows in all.
    """

    setup: Setup
    episodes: Episodes
    normalizer: Normalizer
    training: Callable[[int], Windows]
    held_out: Windows | None
    count: int

    @staticmethod
    def prepare(
        setup: Setup, workdir: Path, episodes: Episodes | None = None, *, keep: bool = True
    ) -> StageData:
        """Cuts the demonstrations into windows.

        Args:
          setup: of the run.
          workdir: where the episodes of a scripted expert are kept, so that they are recorded once.
          episodes: those of `data.path`, where they have been read already.
          keep: write down the episodes of a scripted expert.
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
        low = high = None
        if setup.env is not None:
            low, high = setup.env_spec.action_low, setup.env_spec.action_high
        single = fit(train.obs, train.action, low, high, setup.obs)
        chunk, data = setup.config.chunk, setup.config.data
        cut = functools.partial(make_windows, which=data.windows, observe=chunk.observe)
        return StageData(
            setup=setup,
            episodes=episodes,
            normalizer=single.with_history(chunk.observe),
            training=_training(setup, train, single),
            held_out=None if held_out is None else _thin(cut(held_out, single, chunk.predict)),
            count=len(window_rows(train, data.windows)),
        )

    @property
    def train_windows(self) -> Windows:
        """The training windows, or where they are streamed the first block of them."""
        return self.training(0)

    def facts(self) -> dict[str, Any]:
        """Sizes of the data set and the separation of its modes (see `diagnostics.data_separation`)."""
        labels = self.episodes.mode
        return {
            "source": Path(self.episodes.source).name,
            "episodes": len(self.episodes),
            "steps": int(self.episodes.lengths.sum()),
            "windows": self.count,
            "held_out_windows": 0 if self.held_out is None else len(self.held_out),
            "labelled_modes": 0 if labels is None else len(np.unique(labels[labels >= 0])),
            **separation(
                self.train_windows, seed=self.setup.config.data.seed, spec=self.setup.policy_spec.obs
            ),
        }


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
    windows = windows.replace(jitter=jitter)
    return lambda epoch: windows


def _thin(windows: Windows) -> Windows:
    return windows.take(spread_indices(len(windows), _OFFLINE_WINDOWS))
