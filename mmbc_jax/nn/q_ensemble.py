"""Action values for off-policy fine-tuning: an ensemble of networks on one input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.types import Array
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.nn.precision import Network, precision_of


class QEnsemble(Network):
    """Q_j(s, w, z, t), j = 1 .. N: independent MLPs on features of s, the action, one-hot z and the time passed.

    The heads share their input and nothing else; their parameters carry a leading axis N. Unlike the state
    value's, the last layer starts at random, so that the heads disagree from the start.

    Attributes:
      hidden: widths of the hidden layers.
      num_modes: Z.
      heads: N.
      activation: a key of `nn.mlp.ACTIVATIONS`.
      layer_norm: normalise before each activation, which keeps bootstrapped values from running away on
        actions that were never taken (Ball et al. 2023).
    """

    hidden: tuple[int, ...]
    num_modes: int
    heads: int = 2
    activation: str = "silu"
    layer_norm: bool = True

    @nn.compact
    def __call__(self, features: Array, action: Array, z: Array, time: Array) -> Array:
        """Values of one action per row.

        Args:
          features: [..., F] of the observation (Fourier features, or an encoder's output).
          action: [..., W] or [..., H, A], flattened behind the leading axes of `features`.
          z: [...] int32 in [0, Z).
          time: [...] fraction of the horizon passed, in [0, 1].

        Returns:
          [N, ...].
        """
        flat = action.reshape(*features.shape[:-1], -1)
        x = jnp.concatenate((features, flat, jax.nn.one_hot(z, self.num_modes), time[..., None]), -1)
        network = nn.vmap(
            MLP,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=0,
            axis_size=self.heads,
        )(self.hidden, 1, self.activation, self.layer_norm, precision=precision_of(self))
        return network(x)[..., 0]
