"""Images as bytes: encoded ones decoded, recorded numbers rounded, entries named in short."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmbc_jax.core.errors import DataError, cut, shown
from mmbc_jax.data._checks import kind_beyond_vectors
from mmbc_jax.data.loaders._columns import check_memory

_FORMATS = ("PNG", "JPEG")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def as_bytes(values: np.ndarray, name: str, source: str) -> np.ndarray:
    """Images [n, height, width, channels] of numbers as uint8: 0 to 255 rounded, 0 to 1 taken 255 times.

    Raises:
      DataError: a number outside 0 to 255, or none at all.
    """
    low, high = (float(bound) for bound in (values.min(initial=np.inf), values.max(initial=-np.inf)))
    if not 0.0 <= low <= high <= 255.0:
        raise DataError(
            f"{source}: {name} is {values.dtype} with shape {values.shape} and values {low:g} to {high:g}; images "
            "must lie in 0 to 255"
        )
    return np.asarray(np.rint(values * (255.0 if high <= 1.0 else 1.0)), np.uint8)


def decoded(encoded: Sequence[bytes], shape: tuple[int, ...], name: str, source: str) -> np.ndarray:
    """[n, height, width, channels] uint8 of n images as PNG or JPEG.

    Args:
      encoded: the files.
      shape: (height, width, channels) that each must have.
      name: of the feature, for messages.
      source: for messages.

    Raises:
      DataError: one is damaged, in another format or of another size.
    """
    if len(shape) != 3 or shape[2] not in _MODES:
        raise DataError(
            f"{source}: {name} has shape {list(shape)}, must be [height, width, channels], 1, 3 or 4 channels"
        )
    check_memory(len(encoded) * math.prod(shape), name, source)
    made = np.empty((len(encoded), *shape), np.uint8)
    for i, data in enumerate(encoded):
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if (image.height, image.width) != shape[:2]:
                    raise ValueError(f"{image.height} x {image.width}, must be {shape[0]} x {shape[1]}")
                made[i] = np.asarray(image.convert(_MODES[shape[2]])).reshape(shape)
        except Exception as error:  # whatever a damaged file makes of the decoder
            said = f"{type(error).__name__}: {cut(str(error))}"
            raise DataError(f"{source}: image {i} of {name} cannot be read ({said})") from error
    return made


def short_names(obs: Any, source: str) -> Any:
    """Observations whose images are named by the last part of their key: `observation.images.top` is `top`.

    Raises:
      DataError: two would have one name.
    """
    if not isinstance(obs, Mapping):
        return obs
    named: dict[str, np.ndarray] = {}
    for key, values in obs.items():
        short = key.replace("/", ".").rpartition(".")[2] if kind_beyond_vectors(values) else key
        if short in named:
            raise DataError(
                f"{source}: two observations would be called {shown(short)}; {key} is one of them"
            )
        named[short] = values
    return named
