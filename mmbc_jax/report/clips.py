"""Pictures and videos of episodes: one tile for each, side by side."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mmbc_jax.core.errors import UserError
from mmbc_jax.core.extras import imported
from mmbc_jax.core.picturing import HasDraw
from mmbc_jax.report import style

MOST_TILES = 24
_LEAST_SIDE = 160  # px of a tile; smaller pictures are enlarged by a whole factor
_GAP = 4  # px between tiles
_COLUMNS = 6


def _grid(count: int) -> tuple[int, int]:
    """(rows, columns) of so many tiles."""
    columns = min(count, _COLUMNS)
    return -(-count // columns), columns


def tiled(frames: np.ndarray, titles: Sequence[str] = ()) -> np.ndarray:
    """[T, height, width, 3] uint8: frames [T, B, h, w, 3] in rows, white between; even sides, as videos need.

    With `titles` [B] each stands above its tile.
    """
    steps, count, height, width, _ = frames.shape
    factor = max(1, math.ceil(_LEAST_SIDE / min(height, width)))
    frames = frames.repeat(factor, 2).repeat(factor, 3)
    height, width = factor * height, factor * width
    if titles:
        heads = np.stack([_headline(title, width) for title in titles])
        heads = np.broadcast_to(heads, (steps, *heads.shape))
        frames, height = np.concatenate([heads, frames], 2), height + heads.shape[2]
    rows, columns = _grid(count)
    across, down = columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP
    made = np.full((steps, down + down % 2, across + across % 2, 3), 255, np.uint8)
    for i in range(count):
        y, x = (i // columns) * (height + _GAP), (i % columns) * (width + _GAP)
        made[:, y : y + height, x : x + width] = frames[:, i]
    return made


def _headline(text: str, width: int) -> np.ndarray:
    """[20, width, 3] uint8: text, dark on white."""
    dpi, height = 80, 20
    figure = style.new_figure(width / dpi, height / dpi)
    figure.set_layout_engine("none")
    figure.set_dpi(dpi)
    figure.text(2 / width, 0.5, text, fontsize=9, va="center", color="0.15")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def drawn(env: Any, paths: np.ndarray, titles: Sequence[str], whole: bool = True) -> Iterator[np.ndarray]:
    """[height, width, 3] uint8 for each step, or the last alone: paths [T, B, 2] over the scene, a panel for each."""
    count = paths.shape[1]
    rows, columns = _grid(count)
    figure = style.new_figure(2.2 * columns, 2.3 * rows)
    canvas, lines, heads = FigureCanvasAgg(figure), [], []
    figure.set_dpi(80)
    for i in range(count):
        ax = figure.add_subplot(rows, columns, i + 1)
        style.dress(ax, titles[i])
        if isinstance(env, HasDraw):
            env.draw(ax)
            ax.set(xlabel="", ylabel="")
        else:
            low, high = paths.min((0, 1)), paths.max((0, 1))
            margin = 0.05 * np.maximum(high - low, 1e-6)
            ax.set(
                xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1])
            )
        ax.set_xticks([])
        ax.set_yticks([])
        lines += ax.plot([], [], lw=1.6, color="tab:blue")
        heads += ax.plot([], [], "o", ms=4, color="tab:red", clip_on=False)
    figure.set_layout_engine("tight", h_pad=1.8, pad=1.3)
    canvas.draw()
    figure.set_layout_engine("none")  # where the axes stand is settled before the first picture
    for step in range(len(paths)) if whole else [len(paths) - 1]:
        for i in range(count):
            lines[i].set_data(*paths[: step + 1, i].T)
            heads[i].set_data(*paths[step : step + 1, i].T)
        canvas.draw()
        image = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        yield image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]


def encoded(frames: Sequence[np.ndarray], fps: float, quality: int = 20, what: str = "") -> bytes:
    """Frames [height, width, 3] uint8 of even sides as H.264 in MP4.

    Args:
      frames: one or more.
      fps: frames per second, rounded to a whole number of at least 1.
      quality: the constant rate factor of x264, 0 (lossless) to 51.
      what: is made, to begin a message with.

    Raises:
      UserError: the package av (PyAV) is not installed.
    """
    av = imported("av", "video", what or "writing videos")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=max(round(fps), 1))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": str(quality)}
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file.getvalue()


def write_video(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Writes frames [height, width, 3] uint8 of even sides as H.264 in MP4.

    Raises:
      UserError: the package av (PyAV) is not installed, or the file cannot be written.
    """
    content = encoded(frames, fps, what=f"{path}: writing videos")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error})") from error


def write_picture(path: Path, image: np.ndarray) -> None:
    """Writes one frame [height, width, 3] uint8 as PNG."""
    from matplotlib.image import imsave

    imsave(path, image)
