r"""A field that z moves: data and noise estimates of the reference's field, shifted by a network of their own.

With g = MLP(s, x, t, z), 0 at the start, and x = alpha d + sigma n,

  d' = d + sigma g,   n' = n - alpha g,   v' = v + (alpha' sigma - sigma' alpha) g

recombine to the same x; on the straight path the last is v + g.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.protocols import Field
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.nn.embedding import time_embedding
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.ops.leading_axes import over_chunk

_TIME = 16  # features of the generation time


@dataclasses.dataclass(frozen=True)
class ModeField:
    """The network behind g.

    Attributes:
      spec: sizes and observations.
      num_modes: Z.
      network: (observation, (x, time, one-hot z)) to g.
    """

    spec: PolicySpec
    num_modes: int
    network: EncodedMLP

    def init(self, key: Key) -> PyTree:
        """Parameters at which g is 0."""
        x, z = jnp.zeros((1, *self.spec.chunk_shape)), jnp.zeros((1,), jnp.int32)
        return self.network.init(key, self.spec.obs.dummy(1), self._other(x, jnp.zeros(()), z))

    def _other(self, x: Array, t: Array, z: Array) -> Array:
        batch = x.shape[:-2]
        time = jnp.broadcast_to(time_embedding(t, _TIME), (*batch, _TIME))
        return jnp.concatenate([x.reshape(*batch, -1), time, jax.nn.one_hot(z, self.num_modes)], -1)

    def moved(self, params: PyTree, field: Field, obs: Obs, z: Array) -> Field:
        """The field for observations [...] and modes z [...]."""

        def shift(x: Array, t: Array) -> Array:
            return self.network.apply(params, obs, self._other(x, t, z)).reshape(x.shape)

        return _Moved(field, shift)


@dataclasses.dataclass(frozen=True)
class _Moved:
    """A field with a shift (x [..., H, A], t []) to g [..., H, A]."""

    inner: Field
    shift: Callable[[Array, Array], Array]

    def velocity(self, x: Array, t: Array) -> Array:
        """v'."""
        at = over_chunk(t)
        (alpha, sigma), (up, down) = jax.jvp(self.inner.path, (at,), (jnp.ones_like(at),))
        return self.inner.velocity(x, t) + (up * sigma - down * alpha) * self.shift(x, t)

    def denoise(self, x: Array, t: Array) -> tuple[Array, Array]:
        """(d', n')."""
        data, noise = self.inner.denoise(x, t)
        alpha, sigma = self.inner.path(over_chunk(t))
        g = self.shift(x, t)
        return data + sigma * g, noise - alpha * g

    def path(self, t: Array) -> tuple[Array, Array]:
        """(alpha, sigma), as they were."""
        return self.inner.path(t)
