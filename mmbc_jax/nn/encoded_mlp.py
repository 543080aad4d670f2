"""An MLP on an encoded observation and other numbers, for actors and discriminators."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array, Key, PyTree
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder


@dataclasses.dataclass(frozen=True)
class EncodedMLP:
    """y = MLP([encoder(obs), other]).

    Its parameters are the MLP's, with those of the encoder under "encoder" where that has any. So on vectors they
    are just the MLP's.

    Attributes:
      encoder: of observations.
      mlp: the rest.
    """

    encoder: ObsEncoder
    mlp: MLP

    def init(self, key: Key, obs: Obs, other: Array) -> PyTree:
        """Fresh parameters; arguments as of `apply`."""
        if not self.encoder.spec.images:
            return self.mlp.init(key, self._inputs({}, obs, other))
        key, key_encoder = jax.random.split(key)
        encoder = self.encoder.init(key_encoder, obs)
        return {**self.mlp.init(key, self._inputs(encoder, obs, other)), "encoder": encoder["params"]}

    def apply(self, params: PyTree, obs: Obs, other: Array) -> Array:
        """Maps to [..., out].

        Args:
          params: of `init`.
          obs: leading axes [...], or more of them, which are then flattened: an observation [..., M] of M
            slots is M encodings one after another.
          other: [..., O] further inputs.
        """
        encoder = {"params": params["encoder"]} if "encoder" in params else {}
        inputs = self._inputs(encoder, obs, other)
        return jnp.asarray(self.mlp.apply({"params": params["params"]}, inputs))

    def _inputs(self, encoder: PyTree, obs: Obs, other: Array) -> Array:
        encoded = jnp.asarray(self.encoder.apply(encoder, obs))
        return jnp.concatenate([encoded.reshape(*other.shape[:-1], -1), other], -1)
