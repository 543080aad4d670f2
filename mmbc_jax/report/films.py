"""Short films of episodes, one for each of a few commands z, as they stand in a page."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmbc_jax.core.errors import UserError
from mmbc_jax.core.picturing import HasDraw, plots
from mmbc_jax.core.types import Rollouts
from mmbc_jax.data.windows import spread_indices
from mmbc_jax.report import clips, style
from mmbc_jax.report.commands import given
from mmbc_jax.report.figures.trajectories import frame, paths_of, window_of
from mmbc_jax.report.finished import Finished
from mmbc_jax.report.web import markup
from mmbc_jax.runs.run_options import TAKEN

MOST = 8
"""Commands that are filmed."""
_SIDE = 240  # px of a film's longer side
_FRAMES, _FPS = 48, 12.0  # at most, and a second
_QUALITY = 30

Player = Callable[[str, int, Sequence[int]], "list[Film] | None"]
"""Plays a run of a stage, by its number, with these commands and films it.

None where its environment has nothing to be filmed by.
"""


@dataclasses.dataclass(frozen=True)
class Film:
    """An episode on film.

    Attributes:
      z: its command.
      success: whether it did the task.
      mode: it ended in; -1 for none.
      frames: [height, width, 3] uint8 each, of even sides.
      fps: frames a second.
    """

    z: int
    success: bool
    mode: int
    frames: Sequence[np.ndarray]
    fps: float = _FPS


def films(run: Finished, player: Player | None = None) -> str:
    """HTML with a video for each of a few z of the last stage that has commands, or of the policy that is taken home.

    Args:
      run: whose episodes they are.
      player: of episodes that have to be played again to be seen; None draws recorded paths alone.

    Returns:
      The videos; a sentence where the package that writes them is missing; nothing where there is nothing to film.
    """
    found = [one for one in run.evaluated() if one[3] is not None]
    if not found:
        return ""
    label, result, metrics, rollouts = _chosen(found)
    assert rollouts is not None
    every = given(metrics, result.num_modes)
    chosen = [every[i] for i in spread_indices(len(every), MOST)]
    made, said = None, ""
    if player is not None:
        try:
            made = player(result.name, run.row(*run.pictured[label]), chosen)
        except (
            UserError
        ) as error:  # no OpenGL, or checkpoints that are gone: what was recorded can still be drawn
            said = f"Episodes could not be played again, so recorded paths are drawn: {error}."
    try:
        made = list(_drawn(run, rollouts, chosen, result.num_modes)) if made is None else made
        return _page(label, made, len(every), run.setup.env_spec.mode_labels, said)
    except UserError as error:
        return f'<h3>Films</h3><p class="note">There are none: {markup.escaped(error)}.</p>'


def _chosen(found: Sequence[Any]) -> Any:
    """Of (label, result, ..) the last one with commands; else the last of the stage that `load` takes."""
    late = list(reversed(found))
    commanding = [one for one in late if one[1].num_modes > 1]
    return commanding[0] if commanding else max(late, key=lambda one: TAKEN.index(one[1].name))


def _page(label: str, made: Sequence[Film], count: int, names: Sequence[str], said: str) -> str:
    figures = []
    for film in made:
        content = clips.encoded(film.frames, film.fps, _QUALITY, "report.html: its films")
        height, width = film.frames[0].shape[:2]
        mode = f"mode {names[film.mode]}" if 0 <= film.mode < len(names) else ""
        parts = [f"z {film.z}" if count > 1 else "", mode, "" if film.success else "failed"]
        text = markup.escaped(", ".join(filter(None, parts)) or "done")
        figures.append(
            f'<figure class="film z{film.z}"><video muted loop playsinline preload="auto" aria-label="{text}" '
            f'width="{width}" height="{height}" poster="{markup.data_uri(still(film), "image/png")}" '
            f'src="{markup.data_uri(content, "video/mp4")}"></video><figcaption>{text}</figcaption></figure>'
        )
    if not figures:
        return ""
    told = "" if count == 1 else f", {len(figures)} of {count} commands z"
    note = f"{said} An episode each; click one to stop it or to let it go on.".strip()
    return (
        f'<h3>Films of {markup.escaped(label + told)}</h3><p class="note">{markup.escaped(note)}</p>'
        f'<div class="tiles small">{"".join(figures)}</div>'
    )


def still(film: Film) -> bytes:
    """The last picture as PNG."""
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, np.ascontiguousarray(film.frames[-1]), format="png", metadata={"Software": ""})
    return file.getvalue()


def _drawn(run: Finished, rollouts: Rollouts, chosen: Sequence[int], num_z: int) -> Iterator[Film]:
    """Recorded paths over the drawn scene: of each z what `_typical` says."""
    env = run.setup.env
    if env is None or not plots(env, env.spec):
        return
    lines = paths_of(rollouts)
    success = np.asarray(rollouts.success)[: len(lines)].astype(bool)
    z, mode = (np.asarray(one)[: len(lines)] for one in (rollouts.z, rollouts.mode))
    paper = _Paper(env, window_of(lines))
    shades = style.palette(max(env.spec.num_modes, 1))
    for command in chosen:
        own = np.flatnonzero(z == command) if num_z > 1 else np.arange(len(lines))
        if not len(own):
            continue
        best = own[_typical(success[own], mode[own])]
        label = int(mode[best])
        shade = shades[label] if success[best] and 0 <= label < len(shades) else style.MUTED
        yield Film(command, bool(success[best]), label, paper.film(lines[best], shade))


def _typical(success: np.ndarray, mode: np.ndarray) -> int:
    """The first success in the mode that most successes took; the first success where they have none, or episode."""
    labelled = success & (mode >= 0)
    if labelled.any():
        return int(np.argmax(labelled & (mode == np.bincount(mode[labelled]).argmax())))
    return int(np.argmax(success))


class _Paper:
    """A scene that is drawn once and a path that grows on it."""

    def __init__(self, env: Any, window: tuple[np.ndarray, np.ndarray]):
        figure = Figure(figsize=(2, 2), dpi=100)
        self._canvas, self._ax = FigureCanvasAgg(figure), figure.add_axes((0, 0, 1, 1))
        if isinstance(env, HasDraw):
            env.draw(self._ax)
        frame(self._ax, window, "")
        (x0, x1), (y0, y1) = self._ax.get_xlim(), self._ax.get_ylim()
        longest = max(x1 - x0, y1 - y0)
        width, height = (2 * max(round(_SIDE * side / longest / 2), 30) for side in (x1 - x0, y1 - y0))
        figure.set_size_inches(width / 100, height / 100)
        self._ax.set_aspect("auto")
        self._ax.set_axis_off()
        self._canvas.draw()
        self._scene = self._canvas.copy_from_bbox(figure.bbox)

    def film(self, line: np.ndarray, shade: Any) -> list[np.ndarray]:
        """A frame for some steps of a path, the whole of it last, which stays for half a second."""
        (path,) = self._ax.plot([], [], color=shade, linewidth=1.8)
        (head,) = self._ax.plot([], [], "o", color=style.INK, markersize=5)
        made = []
        for step in spread_indices(len(line), _FRAMES):
            path.set_data(*line[: step + 1].T)
            head.set_data(*line[step : step + 1].T)
            self._canvas.restore_region(self._scene)  # type: ignore[attr-defined]
            for artist in (path, head):
                self._ax.draw_artist(artist)
            made.append(np.asarray(self._canvas.buffer_rgba())[..., :3].copy())
        path.remove()
        head.remove()
        return made + made[-1:] * 6
