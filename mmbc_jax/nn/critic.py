"""Values for fine-tuning: of the observation, the commanded mode and the time passed; and of an action."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs, ObsSpec
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.nn.precision import Network
from mmbc_jax.nn.q_ensemble import QEnsemble


class Critic(Network):
    """V(s, z, t): an MLP on features of s, one-hot z and the fraction of the horizon passed.

    Attributes:
      spec: what an observation looks like.
      hidden: widths of the hidden layers.
      num_modes: Z.
      octaves: of the observation features.
      activation: a key of `nn.mlp.ACTIVATIONS`.
    """

    spec: ObsSpec
    hidden: tuple[int, ...]
    num_modes: int
    octaves: int = 4
    activation: str = "silu"

    @nn.compact
    def __call__(self, obs: Obs, z: Array, time: Array) -> Array:
        """[...] value from a normalised observation [...], z [...] int32 and time [...] in [0, 1]."""
        features = ObsEncoder(self.spec, self.octaves)(obs)
        parts = (features, jax.nn.one_hot(z, self.num_modes), time[..., None])
        network = MLP(self.hidden, 1, activation=self.activation, zero_last=True)
        return network(jnp.concatenate(parts, -1))[..., 0]


def rescaled(params: PyTree, old: tuple[Array, Array], new: tuple[Array, Array]) -> PyTree:
    """Parameters of a `Critic` whose output x stands for m + s x, such that the values stay as they are.

    w' = w s / s',  b' = (s b + m - m') / s'  in its last layer (van Hasselt et al. 2016, PopArt).

    Args:
      params: of `Critic.init`.
      old: (m, s), [] each.
      new: (m', s').
    """
    layers = params["params"]["MLP_0"]
    name = max(layers, key=lambda layer: int(layer.rpartition("_")[2]))
    (mean, std), (to_mean, to_std) = old, new
    last = {
        "kernel": layers[name]["kernel"] * (std / to_std),
        "bias": (std * layers[name]["bias"] + mean - to_mean) / to_std,
    }
    return {**params, "params": {**params["params"], "MLP_0": {**layers, name: last}}}


class ActionCritic(Network):
    """Q_j(s, w, z, t), j = 1 .. N: a `QEnsemble` on features of s.

    Attributes:
      spec: what an observation looks like.
      hidden: widths of the hidden layers.
      num_modes: Z.
      heads: N.
      octaves: of the observation features.
      layer_norm: normalise before each activation.
    """

    spec: ObsSpec
    hidden: tuple[int, ...]
    num_modes: int
    heads: int = 2
    octaves: int = 4
    layer_norm: bool = True

    @nn.compact
    def __call__(self, obs: Obs, action: Array, z: Array, time: Array) -> Array:
        """[N, ...] values of an action [..., W] at an observation [...], z [...] int32 and time [...] in [0, 1]."""
        features = ObsEncoder(self.spec, self.octaves)(obs)
        ensemble = QEnsemble(self.hidden, self.num_modes, self.heads, layer_norm=self.layer_norm)
        return ensemble(features, action, z, time)
