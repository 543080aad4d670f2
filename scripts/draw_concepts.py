"""Draws docs/images/concepts.png: `python -m scripts.draw_concepts`.

Two actions, -1 and 1, each with a spread of .1 and equally often, are right for one observation. Shown is what
reaches them: one answer; N(0, 1) through w -> clip(5 w, -.92, .92) + .1 w, steep where |w| < .184, for 15 % of all
draws; and a base of two Gaussians through the identity.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import norm

from mmbc_jax.report import style

OUT = Path(__file__).parents[1] / "docs" / "images" / "concepts.png"
SPREAD, SLOPE = 0.1, 5.0


def limited(w: np.ndarray) -> np.ndarray:
    """A map to both actions that is nowhere steeper than `SLOPE` + `SPREAD`."""
    return np.clip(SLOPE * w, -0.92, 0.92) + SPREAD * w


def main() -> None:
    """Draws the picture."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal(20_000)
    sides = rng.choice([-1.0, 1.0], w.size)
    shown = np.linspace(-3, 3, 601)
    ways = [
        ("regression: one answer, the mean", None, np.zeros_like(w)),
        ("one Gaussian, one map: a bridge", [(shown, limited(shown))], limited(w)),
        (
            "a base with a component for each",
            [(side + SPREAD * shown, side + SPREAD * shown) for side in (-1.0, 1.0)],
            sides + SPREAD * w,
        ),
    ]
    figure = style.new_figure(9.0, 4.4)
    axes = figure.subplots(2, 3)
    bins = np.linspace(-1.6, 1.6, 81)
    centres = (bins[1:] + bins[:-1]) / 2
    wanted = 0.5 * (norm.pdf(centres, -1, SPREAD) + norm.pdf(centres, 1, SPREAD))
    for above, below, (title, maps, action) in zip(axes[0], axes[1], ways, strict=True):
        style.dress(above, title)
        style.dress(below)
        for x, y in maps or []:
            above.plot(x, y, color=style.HUES[0])
        if maps is None:
            above.axhline(0.0, color=style.HUES[0])
        above.set(xlim=(-3, 3), ylim=(-1.6, 1.6), xlabel="noise w", ylabel="action")
        share, _ = np.histogram(action, bins, density=True)
        below.fill_between(centres, wanted, color=style.FAINT, step="mid", label="demonstrated")
        below.step(centres, np.minimum(share, 2.6), where="mid", color=style.HUES[3], label="played")
        below.set(xlim=(-1.6, 1.6), ylim=(0, 2.7), xlabel="action", ylabel="density")
    axes[1, 0].legend(fontsize=7, frameon=False)
    style.save(figure, OUT, dpi=110)


if __name__ == "__main__":
    main()
