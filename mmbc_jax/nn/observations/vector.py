"""Vectors: numbers, normalised to [-1, 1], with angles and quaternions left continuous."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax.typing import DTypeLike

from mmbc_jax.core.observations import ObsEntry
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array
from mmbc_jax.nn.embedding import continuous, fourier_features


class Vector:
    """See the module docstring."""

    rank: ClassVar[int] = 1
    dtype: ClassVar[DTypeLike] = jnp.float32

    def encode(self, encoder: Any, name: str, entry: ObsEntry, value: Array) -> Array:
        """[..., F] `fourier_features` of the vector once nothing in it jumps; no parameters."""
        return fourier_features(continuous(value, entry), encoder.octaves)


@register("observation", Options)
def build(options: Options) -> Vector:
    """The kind."""
    return Vector()
