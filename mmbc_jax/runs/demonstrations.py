"""The demonstrations of a run, on the device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmbc_jax.data import load
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.windows import Windows, make_windows, spread_indices
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
      normalizer: fitted to the training episodes.
      train_windows: of the training episodes.
      held_out: windows of the held-out episodes; None where nothing is held out.
    """

    setup: Setup
    episodes: Episodes
    normalizer: Normalizer
    train_windows: Windows
    held_out: Windows | None

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
        normalizer = fit(train.obs, train.action, low, high)
        length, which = setup.config.chunk.predict, setup.config.data.windows
        return StageData(
            setup=setup,
            episodes=episodes,
            normalizer=normalizer,
            train_windows=make_windows(train, normalizer, length, which),
            held_out=None if held_out is None else _thin(make_windows(held_out, normalizer, length, which)),
        )

    def facts(self) -> dict[str, Any]:
        """Sizes of the data set and the separation of its modes (see `diagnostics.data_separation`)."""
        labels = self.episodes.mode
        return {
            "source": Path(self.episodes.source).name,
            "episodes": len(self.episodes),
            "steps": int(self.episodes.lengths.sum()),
            "windows": len(self.train_windows),
            "held_out_windows": 0 if self.held_out is None else len(self.held_out),
            "labelled_modes": 0 if labels is None else len(np.unique(labels[labels >= 0])),
            **separation(self.train_windows, seed=self.setup.config.data.seed),
        }


def _thin(windows: Windows) -> Windows:
    index = spread_indices(len(windows), _OFFLINE_WINDOWS)
    return jax.tree.map(lambda leaf: leaf[index], windows)
