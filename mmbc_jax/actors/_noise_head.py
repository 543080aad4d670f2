r"""A Gaussian over the initial noise, given the observation and a mode: what steers, alone or before a chain.

pi_W(w | s, z) = N(m + b mu(s, z), diag(b sigma_z)^2)
mu(s, z) = C_z psi(s) + MLP(s, z)

(m, b) are the mean and scale of the reference's base. psi holds random Fourier features with |psi(s)| = 1,
and C_z has independent N(0, 1 - sigma_0^2) entries. So at the start every z asks for another smooth field
of noise, while the mixture over z is the base itself: N(0, (1 - sigma_0^2) + sigma_0^2) = N(0, 1). The
reference's behaviour is thus kept in aggregate and already split by z; training sharpens the split. With one mode the
start is exactly the base.

Source: the steering policy of Behavioral Mode Discovery (arXiv 2605.11387). The initialisation is ours.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree, Variables
from mmbc_jax.nn.embedding import continuous
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.ops.picked import rows

_BASE_SAMPLES = 4096  # for the base's mean and scale; the error of either is about 1/64


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadOptions(Options):
    """Options of every actor that steers."""

    hidden: tuple[int, ...] = option((128, 128), "widths of the steering network's hidden layers", low=1)
    activation: str = option("silu", "between the layers", choices=tuple(ACTIVATIONS))
    fourier_octaves: int = option(4, "of the observation's features", low=0, high=16)
    init_std: float = option(
        0.3, "sigma_0 for two modes or more, in units of the base", low=0.0, high=1.0, open_low=True
    )
    init_features: int = option(8, "frequencies in psi", low=1)
    init_frequency: float = option(
        1.5, "their standard deviation, in rad per unit of normalised observation", low=0.0
    )

    def network(self, spec: PolicySpec, size: int) -> EncodedMLP:
        """A network of these layers on (observation, other) with `size` outputs, which start at 0."""
        mlp = MLP(self.hidden, size, activation=self.activation, zero_last=True)
        return EncodedMLP(ObsEncoder(spec.obs, self.fourier_octaves), mlp)


@dataclasses.dataclass(frozen=True)
class NoiseHead:
    """See the module docstring; W = H A.

    Attributes:
      options: its options.
      spec: sizes and observations.
      policy: the reference.
      num_modes: Z.
      network: (observation, one-hot z) to mu.
    """

    options: HeadOptions
    spec: PolicySpec
    policy: Policy
    num_modes: int
    network: EncodedMLP

    @classmethod
    def of(cls, options: HeadOptions, spec: PolicySpec, policy: Policy, num_modes: int) -> NoiseHead:
        """The head on a policy whose base has a noise of a chunk's shape."""
        size = spec.chunk_size
        return cls(options, spec, policy, num_modes, options.network(spec, size))

    @property
    def size(self) -> int:
        """W."""
        return self.spec.chunk_size

    def init(
        self, key_base: Key, key_mix: Key, key_net: Key, key_freq: Key, reference: Variables
    ) -> dict[str, Any]:
        """Parameters at which the mixture over z is the base of the reference."""
        options = self.options
        samples = self._base_samples(key_base, reference)
        std = options.init_std if self.num_modes > 1 else 1.0
        shape = (self.num_modes, 2 * options.init_features, self.size)
        obs, z = self.spec.obs.dummy(1), jnp.zeros((1,), jnp.int32)
        frequencies = (self._vectors(obs).shape[-1], options.init_features)
        return {
            "base_mean": samples.mean(0),
            "base_std": samples.std(0),
            "frequency": options.init_frequency * jax.random.normal(key_freq, frequencies),
            "mix": math.sqrt(1.0 - std**2) * jax.random.normal(key_mix, shape),
            "network": self.network.init(key_net, obs, jax.nn.one_hot(z, self.num_modes)),
            "log_std": jnp.full((self.num_modes, self.size), math.log(std), jnp.float32),
        }

    def _base_samples(self, key: Key, reference: Variables) -> Array:
        """[n, W] draws of the base at the observation 0."""
        if self.spec.obs.images:  # encoded once, not n times
            one = self.policy.base_distribution(reference, self.spec.obs.dummy(1))
            drawn = one.sample(seed=key, sample_shape=(_BASE_SAMPLES,))
        else:
            base = self.policy.base_distribution(reference, self.spec.obs.dummy(_BASE_SAMPLES))
            drawn = base.sample(seed=key)
        return x0_of(drawn).reshape(_BASE_SAMPLES, -1)

    def _vectors(self, obs: Obs) -> Array:
        """[..., D'] the vector entries of an observation without jumps; D' is 0 where there are only images."""
        named = self.spec.obs.named(obs)
        parts = [continuous(named[name], e) for name, e in self.spec.obs.entries if e.kind == "vector"]
        empty = jnp.zeros((*self.spec.obs.batch_shape(obs), 0))
        return parts[0] if len(parts) == 1 else jnp.concatenate([empty, *parts], -1)

    def moments(self, params: PyTree, obs: Obs, z: Array) -> tuple[Array, Array]:
        """(mean, log standard deviation) of the noise, each [..., W]."""
        angle = self._vectors(obs) @ jax.lax.stop_gradient(params["frequency"])
        psi = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1) / math.sqrt(self.options.init_features)
        field = jnp.einsum("...f,...fw->...w", psi, rows(params["mix"], z))
        mean = field + self.network.apply(params["network"], obs, jax.nn.one_hot(z, self.num_modes))
        base_mean = jax.lax.stop_gradient(params["base_mean"])
        base_std = jax.lax.stop_gradient(params["base_std"])
        return base_mean + base_std * mean, jnp.log(base_std) + rows(params["log_std"], z)


def x0_of(w: PyTree) -> Array:
    """The initial noise inside w: w itself, or its entry "x0"."""
    return w["x0"] if isinstance(w, dict) else w


def divergence_from_base(params: PyTree, mean: Array, log_std: Array) -> Array:
    """[...] KL(N(mean, exp(log_std)^2) || N(base_mean, base_std^2)) in nats, of moments [..., W] of a head."""
    base_mean = jax.lax.stop_gradient(params["base_mean"])
    base_log_std = jax.lax.stop_gradient(jnp.log(params["base_std"]))
    spread = jnp.exp(2.0 * (log_std - base_log_std))
    shift = jnp.square((mean - base_mean) * jnp.exp(-base_log_std))
    return (0.5 * (spread + shift - 1.0) - (log_std - base_log_std)).sum(-1)


def required(reference: Variables | None) -> Variables:
    """The variables of a reference policy, where an actor cannot do without.

    Raises:
      ValueError: there are none.
    """
    if reference is None:
        raise ValueError("this actor needs the variables of its reference policy")
    return reference
