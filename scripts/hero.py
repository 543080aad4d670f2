"""Draws the picture at the head of the README from a finished Avoiding run.

    python -m mmbc_jax.train --workdir runs/avoiding
    python scripts/hero.py runs/avoiding docs/images/hero.png

Three panels of the same number of episodes: the clone, after conventional fine-tuning, and after fine-tuning with
the mutual-information reward. A colour is a way through the obstacles, thin grey lines are failures.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from PIL import Image

from mmbc_jax.report import style
from mmbc_jax.report.figures.trajectories import paths_of
from mmbc_jax.report.finished import Finished
from mmbc_jax.report.loaded import loaded

EPISODES = 128
PANELS = (("bc", "clone"), ("plain", "after conventional fine-tuning"), ("finetune", "after ours"))
DPI, COLOURS = 100, 96


def said(metrics: dict[str, Any], commands: int) -> str:
    """What a panel shows, in a line."""
    kept = metrics["modes_kept"]["mean"]
    parts = [f"{kept:.0f} way{'s' if kept != 1 else ''}", f"success {metrics['success_rate']['mean']:.2f}"]
    if commands > 1:
        parts.insert(1, f"{metrics['commandable']['mean']:.0f} on command")
    return ", ".join(parts)


def panel(ax: Axes, run: Finished, stage: str, heading: str) -> None:
    """The first episodes of a stage over the scene."""
    result, spec = run.results[stage], run.setup.env_spec
    rollouts = result.run(0, 0)
    assert rollouts is not None
    run.setup.env.draw(ax)  # type: ignore[attr-defined]
    lines = paths_of(rollouts)[:EPISODES]
    success, mode = np.asarray(rollouts.success)[: len(lines)], np.asarray(rollouts.mode)[: len(lines)]
    shades = style.palette(spec.num_modes)
    lost = [line for line, won in zip(lines, success, strict=True) if not won]
    ax.add_collection(LineCollection(lost, colors=style.FAILED, linewidths=0.6, linestyles="--", zorder=2))
    order = np.random.default_rng(0).permutation(np.flatnonzero(success))
    colours = [shades[mode[i]] for i in order]
    ax.add_collection(LineCollection([lines[i] for i in order], colors=colours, linewidths=1.3, zorder=3))
    points = np.concatenate([line for line, won in zip(lines, success, strict=True) if won])
    low, high = points.min(0), points.max(0)
    ax.set(xlim=(low[0] - 0.02, high[0] + 0.02), ylim=(low[1] - 0.02, high[1] + 0.02), xlabel="", ylabel="")
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_title(heading, fontsize=15, fontweight="bold", color=style.INK, pad=28)
    text = said(run.metrics(stage, 0), result.num_modes)
    ax.text(0.5, 1.02, text, transform=ax.transAxes, ha="center", va="bottom", fontsize=12.5, color=style.INK)


def hero(run: Finished) -> Image.Image:
    """The picture, in few colours so that the file is small."""
    figure = style.new_figure(12.0, 5.2)
    figure.set_layout_engine("none")
    share = 1 / len(PANELS)
    axes = [figure.add_axes((i * share + 0.01, 0.01, share - 0.02, 0.84)) for i in range(len(PANELS))]
    for ax, (stage, heading) in zip(axes, PANELS, strict=True):
        panel(ax, run, stage, heading)
    limits = np.array([[*ax.get_xlim(), *ax.get_ylim()] for ax in axes])
    for ax in axes:  # the panels show one task
        ax.set(xlim=(limits[:, 0].min(), limits[:, 1].max()), ylim=(limits[:, 2].min(), limits[:, 3].max()))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


if __name__ == "__main__":
    picture = hero(loaded(Path(sys.argv[1])))
    path = Path(sys.argv[2])
    picture.save(path, optimize=True)
    print(f"{path} has {path.stat().st_size / 1e3:.0f} kB")
