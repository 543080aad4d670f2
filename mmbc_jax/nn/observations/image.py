"""Images: uint8 everywhere, scaled only inside their encoder."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax.typing import DTypeLike

from mmbc_jax.core.observations import ObsEntry
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array
from mmbc_jax.nn.image_encoder import ImageEncoder


class Image:
    """See the module docstring."""

    rank: ClassVar[int] = 3
    dtype: ClassVar[DTypeLike] = jnp.uint8

    def encode(self, encoder: Any, name: str, entry: ObsEntry, value: Array) -> Array:
        """[..., F] by an `ImageEncoder` of the entry's own, under its name."""
        made = ImageEncoder(
            encoder.image_features, encoder.image_channels, patch=encoder.image_patch, name=name
        )
        return made(value)


@register("observation", Options)
def build(options: Options) -> Image:
    """The kind."""
    return Image()
