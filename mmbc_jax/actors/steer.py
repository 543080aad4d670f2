r"""Noise steering: a Gaussian over the reference policy's noise, given the observation and a discrete mode.

pi_W(w | s, z) = N(m + b mu(s, z), diag(b sigma_z)^2),    chunk = transport(s, w) of the frozen reference
mu(s, z) = C_z psi(s) + MLP(s, z)

(m, b) are the mean and scale of the reference's base. psi holds random Fourier features with |psi(s)| = 1,
and C_z has independent N(0, 1 - sigma_0^2) entries. So at the start every z asks for another smooth field
of noise, while the mixture over z is the base itself: N(0, (1 - sigma_0^2) + sigma_0^2) = N(0, 1). The
reference's behaviour is thus kept in aggregate and already split by z; training sharpens the split. With one mode the
start is exactly the base.

Source: the steering policy of Behavioral Mode Discovery (arXiv 2605.11387); noise-space RL of DSRL
(Wagenmaker et al. 2025). The initialisation is ours.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, PyTree, Variables
from mmbc_jax.nn.embedding import fourier_features
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP

_BASE_SAMPLES = 4096  # for the base's mean and scale; the error of either is about 1/64


def default_config() -> ConfigDict:
    """Defaults.

    `init_std` is sigma_0 for two modes or more; `init_features` and `init_frequency` shape psi: its number of
    frequencies, and their standard deviation in rad per unit of normalised observation.
    """
    return ConfigDict(
        {
            "hidden": (128, 128),
            "activation": "silu",
            "fourier_octaves": 4,
            "init_std": 0.3,
            "init_features": 8,
            "init_frequency": 1.5,
        }
    )


def x0_of(w: PyTree) -> Array:
    """The initial noise inside w: w itself, or its entry "x0"."""
    return w["x0"] if isinstance(w, dict) else w


@dataclasses.dataclass(frozen=True)
class SteerActor:
    """The steering actor.

    Attributes:
      policy: the reference.
      num_modes: Z.
      network: (features of s, one-hot z) to mu.
      octaves: of the observation features.
      init_std: sigma_0.
      init_features: frequencies in psi.
      init_frequency: their standard deviation.
    """

    policy: Policy
    num_modes: int
    network: MLP
    octaves: int
    init_std: float
    init_features: int
    init_frequency: float

    @property
    def _size(self) -> int:
        return self.policy.spec.chunk_len * self.policy.spec.action_dim

    def init(self, key: Key, reference: Variables) -> PyTree:
        """Parameters at which the mixture over z behaves as the reference."""
        key_base, key_mix, key_net, key_freq = jax.random.split(key, 4)
        spec = self.policy.spec
        base = self.policy.base_distribution(reference, jnp.zeros((_BASE_SAMPLES, spec.obs_dim)))
        samples = x0_of(base.sample(seed=key_base)).reshape(_BASE_SAMPLES, -1)
        std = self.init_std if self.num_modes > 1 else 1.0
        shape = (self.num_modes, 2 * self.init_features, self._size)
        zeros = jnp.zeros((1, spec.obs_dim))
        return {
            "base_mean": samples.mean(0),
            "base_std": samples.std(0),
            "frequency": self.init_frequency
            * jax.random.normal(key_freq, (spec.obs_dim, self.init_features)),
            "mix": math.sqrt(1.0 - std**2) * jax.random.normal(key_mix, shape),
            "network": self.network.init(key_net, self._inputs(zeros, jnp.zeros((1,), jnp.int32))),
            "log_std": jnp.full((self.num_modes, self._size), math.log(std), jnp.float32),
        }

    def _inputs(self, obs: Array, z: Array) -> Array:
        one_hot = jax.nn.one_hot(z, self.num_modes)
        return jnp.concatenate([fourier_features(obs, self.octaves), one_hot], -1)

    def _moments(self, params: PyTree, obs: Array, z: Array) -> tuple[Array, Array]:
        """(mean, log standard deviation) of w, each [..., W], with W = H A."""
        angle = obs @ jax.lax.stop_gradient(params["frequency"])
        psi = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1) / math.sqrt(self.init_features)
        # a gather: ten times cheaper here than a product with a one-hot z, forwards and backwards
        field = jnp.einsum("...f,...fw->...w", psi, params["mix"][z])
        mean = field + jnp.asarray(self.network.apply(params["network"], self._inputs(obs, z)))
        base_mean = jax.lax.stop_gradient(params["base_mean"])
        base_std = jax.lax.stop_gradient(params["base_std"])
        return base_mean + base_std * mean, jnp.log(base_std) + params["log_std"][z]

    def act(
        self, params: PyTree, reference: Variables, key: Key, obs: Array, z: Array
    ) -> tuple[Array, PyTree]:
        """Draws noise and transports it.

        Args:
          params: of this actor.
          reference: frozen variables of the policy.
          key: for w, and for the noise path of a stochastic sampler.
          obs: [..., D] normalised.
          z: [...] int32 in [0, Z).

        Returns:
          (chunk [..., H, A], {"x0": [..., W] the noise, "log_prob": [...] its log density}).
        """
        key_noise, key_path = jax.random.split(key)
        mean, log_std = self._moments(params, obs, z)
        x0 = mean + jnp.exp(log_std) * jax.random.normal(key_noise, mean.shape)
        shaped = x0.reshape(*obs.shape[:-1], *self.policy.spec.chunk_shape)
        w = self.policy.base_distribution(reference, obs).sample(seed=key_path)
        w = {**w, "x0": shaped} if isinstance(w, dict) else shaped
        chunk = self.policy.transport(reference, obs, w)
        return chunk, {"x0": x0, "log_prob": _normal_log_prob(x0, mean, log_std)}

    def log_ratio(self, params: PyTree, reference: Variables, obs: Array, z: Array, info: PyTree) -> Array:
        """[..., 1] log pi_W(w | s, z) under `params` minus that at the time of acting."""
        mean, log_std = self._moments(params, obs, z)
        return (_normal_log_prob(info["x0"], mean, log_std) - info["log_prob"])[..., None]

    def entropy(self, params: PyTree, reference: Variables, obs: Array, z: Array) -> Array:
        """[...] entropy of pi_W(. | s, z) in nats: sum_i (log sigma_i + log(2 pi e) / 2)."""
        _, log_std = self._moments(params, obs, z)
        return (log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum(-1)


def _normal_log_prob(x: Array, mean: Array, log_std: Array) -> Array:
    """log N(x; mean, exp(log_std)^2), summed over the last axis."""
    return (-0.5 * jnp.square((x - mean) * jnp.exp(-log_std)) - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


@register("actor", default_config)
def build(cfg: ConfigDict, policy: Policy, num_modes: int) -> SteerActor:
    """A steering actor on `policy`.

    Raises:
      ConfigError: an option cannot work, or the policy has no continuous noise to steer.
    """
    check_choice("actor.activation", cfg.activation, ACTIVATIONS)
    check_range("actor.fourier_octaves", cfg.fourier_octaves, 0, 16)
    check_range("actor.init_std", cfg.init_std, 0.0, 1.0, open_low=True)
    check_range("actor.init_features", cfg.init_features, 1)
    check_range("actor.init_frequency", cfg.init_frequency, 0.0)
    _check_steerable(policy)
    size = policy.spec.chunk_len * policy.spec.action_dim
    network = MLP(tuple(cfg.hidden), size, activation=cfg.activation, zero_last=True)
    return SteerActor(
        policy,
        num_modes,
        network,
        cfg.fourier_octaves,
        cfg.init_std,
        cfg.init_features,
        cfg.init_frequency,
    )


def _check_steerable(policy: Policy) -> None:
    spec = policy.spec

    def sample(key: Key) -> PyTree:
        batch = Batch(
            obs=jnp.zeros((2, spec.obs_dim)),
            chunk=jnp.zeros((2, *spec.chunk_shape)),
            mask=jnp.ones((2, spec.chunk_len)),
        )
        key_init, key_sample = jax.random.split(key)
        variables = policy.init(key_init, batch)
        return policy.base_distribution(variables, batch.obs).sample(seed=key_sample)

    w = jax.eval_shape(sample, jax.random.key(0))
    if isinstance(w, dict) and "x0" not in w:
        raise ConfigError("actor.name", "steer", "a policy whose base has an initial noise x0")
    x0 = x0_of(w)
    if x0.shape != (2, *spec.chunk_shape) or not jnp.issubdtype(x0.dtype, jnp.floating):
        raise ConfigError(
            "actor.name",
            "steer",
            "a policy with continuous noise of a chunk's shape to steer, such as flow or diffusion; "
            f"this one's base is {x0.dtype}{x0.shape[1:]}",
        )
