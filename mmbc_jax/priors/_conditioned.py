"""What priors that see the observation share: options, network, and inputs of autoregressive networks."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp

from mmbc_jax.core.observations import Obs, ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.types import Array, Key, PyTree
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.nn.precision import building
from mmbc_jax.priors._base_prior import BasePrior

_MAX_LOG_VARIANCE = 8.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditionedOptions(Options):
    """The network of a prior that sees the observation."""

    hidden: tuple[int, ...] = option((128, 128), "widths of the MLP's hidden layers", low=1, filled=True)
    fourier_octaves: int = option(4, "octaves of the observation's Fourier features", low=0, high=16)


class ConditionedMLP(MLP):
    """An MLP on features of an observation and what a prior sets beside them.

    Attributes:
      spec: what an observation looks like.
      octaves: of the vectors' features.
    """

    spec: ObsSpec = dataclasses.field(kw_only=True)
    octaves: int = dataclasses.field(kw_only=True)

    def setup(self) -> None:
        """The encoder; it has parameters only where there are images."""
        self.encoder = ObsEncoder(self.spec, self.octaves)

    def encode(self, obs: Obs) -> Array:
        """[..., F] the features of an observation."""
        return self.encoder(obs)

    def whole(self, obs: Obs, inputs: Any) -> Array:
        """[..., out] of `inputs(features)`: encoder and MLP at once, to initialise both."""
        return self(inputs(self.encode(obs)))


@dataclasses.dataclass(frozen=True)
class ConditionedPrior(BasePrior, abc.ABC):
    """A prior whose density is a network of the observation's features; see `BasePrior` for the attributes.

    Attributes:
      precision: of the network; see `nn.precision`.
    """

    options: ConditionedOptions

    precision: str | None = dataclasses.field(default_factory=building, kw_only=True)

    trainable: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """n: entries of w."""
        return math.prod(self.event_shape)

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """Width of the network's last layer, which is 0 at first."""

    def inputs(self, features: Array) -> Array:
        """What the network gets at first, of features [F]; only its last axis counts."""
        return features

    @property
    def network(self) -> ConditionedMLP:
        """The network."""
        o = self.options
        return ConditionedMLP(
            o.hidden,
            self.outputs,
            zero_last=True,
            spec=self.spec.obs,
            octaves=o.fourier_octaves,
            precision=self.precision,
        )

    def init(self, key: Key) -> PyTree:
        """Parameters of the network."""
        network = self.network
        return network.init(key, self.spec.obs.dummy(), self.inputs, method=network.whole)["params"]

    def features(self, params: PyTree, obs: Obs) -> Array:
        """[..., F] of observations, to encode once what is looked at often."""
        network = self.network
        return jnp.asarray(network.apply({"params": params}, obs, method=network.encode))

    def answer(self, params: PyTree, inputs: Array) -> Array:
        """[..., outputs] of the network."""
        return jnp.asarray(self.network.apply({"params": params}, inputs))


def bounded_std(raw: Array) -> Array:
    """Standard deviations [...] of raw log variances [...]: log v = 8 tanh(raw / 8), so within [.018, 55]."""
    return jnp.exp(0.5 * _MAX_LOG_VARIANCE * jnp.tanh(raw / _MAX_LOG_VARIANCE))


def flat_pair(value: Array, event_shape: tuple[int, ...], features: Array) -> tuple[Array, Array]:
    """Flattens events and gives both arrays the same leading axes.

    Args:
      value: [..., *event_shape].
      event_shape: of a sample.
      features: [..., F] of observations, leading axes broadcast against those of `value`.

    Returns:
      (value [..., n] with n the product of `event_shape`, features [..., F]).
    """
    lead = jnp.broadcast_shapes(value.shape[: value.ndim - len(event_shape)], features.shape[:-1])
    value = jnp.broadcast_to(value, (*lead, *event_shape)).reshape(*lead, math.prod(event_shape))
    return value, jnp.broadcast_to(features, (*lead, features.shape[-1]))


def earlier_entries(values: Array, features: Array) -> Array:
    """Input of one network for all conditionals p(x_i | x_<i, s).

    Row i holds the entries before i with zeros in the place of the others, i as a one-hot vector, and the
    features of the observation.

    Args:
      values: [..., n, E] the n entries of x.
      features: [..., F] of the observation.

    Returns:
      [..., n, n * E + n + F].
    """
    *lead, n, _ = values.shape
    before = jnp.tril(jnp.ones((n, n)), -1)[..., None] * values[..., None, :, :]
    position = jnp.broadcast_to(jnp.eye(n), (*lead, n, n))
    shared = jnp.broadcast_to(features[..., None, :], (*lead, n, features.shape[-1]))
    return jnp.concatenate([before.reshape(*lead, n, -1), position, shared], -1)
