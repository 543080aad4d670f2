"""Frames of a video, by their times."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mmbc_jax.core.errors import DataError, UserError, cut
from mmbc_jax.core.extras import imported
from mmbc_jax.data.loaders._columns import check_memory

_FORMATS = {1: "gray", 3: "rgb24"}


def frames(path: Path, times: np.ndarray, fps: float, shape: tuple[int, ...], name: str) -> np.ndarray:
    """[n, height, width, channels] uint8, of each time the frame that is shown within half a frame's duration.

    Args:
      path: of the video.
      times: [n] in s, ascending.
      fps: frames per second, by which "within" is measured.
      shape: (height, width, channels) that frames must have, 1 channel or 3.
      name: of the feature, for messages.

    Raises:
      UserError: the package av (PyAV) is not installed.
      DataError: there is no such file, it is damaged, its frames have another size, or a time has no frame.
    """
    av = imported("av", "video", f"{path}: reading videos")
    if len(shape) != 3 or shape[2] not in _FORMATS:
        raise DataError(
            f"{path}: {name} has shape {list(shape)}, must be [height, width, channels], 1 or 3 channels"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file, which {name} refers to")
    check_memory(len(times) * math.prod(shape), name, str(path))
    made, found = np.empty((len(times), *shape), np.uint8), 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                late = frame.time - 0.5 / fps
                if found == len(times) or times[found] < late:
                    break
                if times[found] > frame.time + 0.5 / fps:
                    continue
                if (frame.height, frame.width) != shape[:2]:
                    raise DataError(
                        f"{path}: frames of {name} are {frame.height} x {frame.width}, must be "
                        f"{shape[0]} x {shape[1]}"
                    )
                image = frame.to_ndarray(format=_FORMATS[shape[2]]).reshape(shape)
                while found < len(times) and times[found] <= frame.time + 0.5 / fps:
                    made[found] = image
                    found += 1
    except UserError:
        raise
    except Exception as error:  # what FFmpeg says of damaged files
        raise DataError(
            f"{path}: damaged, or no video ({type(error).__name__}: {cut(str(error))})"
        ) from error
    if found < len(times):
        raise DataError(f"{path}: no frame of {name} at {times[found]:.3f} s, at {fps:g} frames per second")
    return made
