"""Paths of episodes over the scene as SVG, each of which a selector can light by its mode or its command z."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmbc_jax.core.picturing import HasDraw
from mmbc_jax.core.types import Rollouts
from mmbc_jax.report import style
from mmbc_jax.report.figures.trajectories import frame, paths_of, window_of
from mmbc_jax.report.web.charts import short
from mmbc_jax.report.web.markup import data_uri, drawing, label

_SIDE = 320  # px of the longer side of the plane, of which a page shows what it has room for
_LEFT, _BOTTOM, _EDGE = 42, 36, 8
_FINE = 10  # units of a path per px


class Plane:
    """The plane that several panels share: its limits, a picture of the scene, and what the axes are called.

    Args:
      env: draws its scene where it has `draw(ax)`.
      rollouts: of the panels, whose paths it has room for.
    """

    def __init__(self, env: Any, rollouts: Sequence[Rollouts]):
        figure = Figure(figsize=(4, 4), dpi=100)
        canvas = FigureCanvasAgg(figure)
        ax = figure.add_axes((0, 0, 1, 1))
        if isinstance(env, HasDraw):
            env.draw(ax)
        names = (ax.get_xlabel() or "x", ax.get_ylabel() or "y")
        frame(ax, window_of([line for one in rollouts for line in paths_of(one)]), "")
        self.names = names
        (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
        ax.set_axis_off()
        self.low, self.high = np.array([x0, y0]), np.array([x1, y1])
        span = np.maximum(self.high - self.low, 1e-9)
        self.scale = _SIDE / float(span.max())
        self.width, self.height = (span * self.scale).tolist()
        figure.set_size_inches(self.width / 100, self.height / 100)
        file = io.BytesIO()
        figure.set_dpi(160)
        ax.set_aspect("auto")
        canvas.print_png(file, metadata={"Software": None})
        self._picture = data_uri(file.getvalue(), "image/png")

    def panel(self, rollouts: Rollouts, num_z: int, name: str) -> str:
        """The paths of one stage as SVG; `name` says what it is."""
        total_w, total_h = self.width + _LEFT + _EDGE, self.height + _BOTTOM + _EDGE
        paths = "".join(self._paths(rollouts, num_z))
        picture = (
            f'<image x="{_LEFT}" y="{_EDGE}" width="{self.width:.1f}" height="{self.height:.1f}" '
            f'preserveAspectRatio="none" href="{self._picture}"/>'
        )
        moved = f"translate({_LEFT} {_EDGE}) scale({1 / _FINE})"
        content = f'{picture}{self._axes()}<g class="paths" transform="{moved}">{paths}</g>'
        return drawing(total_w, total_h, name, content)

    def _axes(self) -> str:
        parts, bottom = [], _EDGE + self.height
        for axis in (0, 1):
            for tick in MaxNLocator(4).tick_values(self.low[axis], self.high[axis]):
                if not self.low[axis] <= tick <= self.high[axis]:
                    continue
                at, text = (tick - self.low[axis]) * self.scale, short(float(tick))
                if axis == 0:
                    parts.append(f'<path class="axis" d="M{_LEFT + at:.1f} {bottom:.1f}v4"/>')
                    parts.append(label(_LEFT + at, bottom + 15, text))
                else:
                    parts.append(f'<path class="axis" d="M{_LEFT} {bottom - at:.1f}h-4"/>')
                    parts.append(label(_LEFT - 6, bottom - at + 4, text, "end"))
        parts.append(f'<path class="axis" d="M{_LEFT} {_EDGE}V{bottom:.1f}h{self.width:.1f}"/>')
        parts.append(label(_LEFT + self.width / 2, bottom + 31, self.names[0]))
        turned = f"translate(10 {_EDGE + self.height / 2:.0f}) rotate(-90)"
        parts.append(f'<g transform="{turned}">{label(0, 0, self.names[1])}</g>')
        return "".join(parts)

    def _paths(self, rollouts: Rollouts, num_z: int) -> list[str]:
        """A path an episode; of those that fail a dashed one with a cross at its end."""
        lines = paths_of(rollouts)
        success = np.asarray(rollouts.success)[: len(lines)].astype(bool)
        modes, z = np.asarray(rollouts.mode), np.asarray(rollouts.z)
        found = []
        for i in np.random.default_rng(0).permutation(len(lines)):
            points = self._steps(lines[i])
            names = [f"m{modes[i]}"] if success[i] and modes[i] >= 0 else []
            names += [f"z{z[i]}"] if num_z > 1 else []
            names += [] if success[i] else ["failed"]
            cross = "" if success[i] else "m-30-30l60 60m0-60l-60 60"
            found.append(f'<path class="{" ".join(names)}" d="{points}{cross}"/>')
        return found

    def _steps(self, line: np.ndarray) -> str:
        """Relative moves in tenths of a pixel; those below a pixel and a half are joined."""
        line = line[np.isfinite(line).all(1)]
        if not len(line):
            return "M0 0"
        places = (np.clip(line, self.low, self.high) - self.low) * self.scale * _FINE
        places[:, 1] = self.height * _FINE - places[:, 1]
        whole = np.rint(places).astype(int)
        last, moves = whole[0], []
        for i, point in enumerate(whole[1:], 1):
            step = point - last
            if i + 1 == len(whole) or abs(step).max() >= 1.5 * _FINE:
                moves.append(f"{step[0]}{step[1]:+d}" if step[1] < 0 else f"{step[0]} {step[1]}")
                last = point
        return f"M{whole[0][0]} {whole[0][1]}" + ("l" + " ".join(moves) if moves else "")


def colours(name: str, modes: int, num_z: int) -> str:
    """The style of labels within the element `name`: the variable `--m` of mode classes, `--z` of command classes."""
    rules = [f"#{name} .m{i}{{--m:{_css(shade)}}}" for i, shade in enumerate(style.palette(modes))]
    rules += [f"#{name} .z{i}{{--z:{_css(shade)}}}" for i, shade in enumerate(style.palette(num_z))]
    return f"<style>{''.join(rules)}</style>"


def _css(shade: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in shade)
