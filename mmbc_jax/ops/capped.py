"""Arguments of exponentials that float32 can hold, with the slope they would have had.

exp(200) is infinite in float32, and an infinite value that a `where` or `minimum` does not choose still makes the
gradient NaN: 0 times infinity. A plain `minimum` would have no slope beyond the cap, so that what has gone too far
could never come back.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from mmbc_jax.core.types import Array

MOST = 20.0
"""e^20 = 5e8: its square, and a sum of some 1e21 of these, is finite in float32."""


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def capped(x: Float[Array, "*shape"], most: float = MOST) -> Float[Array, "*shape"]:
    """min(x, most), differentiated as x itself."""
    return jnp.minimum(x, most)


@capped.defjvp
def _slope(most: float, at: tuple[Array], along: tuple[Array]) -> tuple[Array, Array]:
    return capped(at[0], most), along[0]
