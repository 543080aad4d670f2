r"""A Gaussian over the chunk itself, given the observation and a discrete mode: reinforcement without a clone.

pi(a | s, z) = N(MLP(s, z), diag(sigma_z)^2) over the H A numbers of a chunk, or with `squash` its image under tanh.

With `ratio` = step every action of the chunk has a probability ratio of its own, log pi_i = log N(a_i; m_i, sigma_i),
whose sum over the chunk is the joint one. PPO then clips each action by itself: the clip of a joint ratio
over many numbers sets in long before any one of them has moved far.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from mmbc_jax.actors._density import normal_log_prob, squashed_entropy
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree, Variables
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.ops import soft_policy as sac
from mmbc_jax.ops.capped import capped
from mmbc_jax.ops.picked import rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianActorOptions(Options):
    """The Gaussian actor."""

    hidden: tuple[int, ...] = option((128, 128), "widths of the hidden layers", low=1)
    activation: str = option("silu", "between the layers", choices=tuple(ACTIVATIONS))
    fourier_octaves: int = option(0, "of the observation's features", low=0, high=16)
    init_std: float = option(0.5, "sigma at first, in units of normalised actions", low=0.0, open_low=True)
    squash: bool = option(
        False, "actions are tanh of the Gaussian and so inside [-1, 1] of its scale; else clipped when played"
    )
    ratio: str = option(
        "joint", "one probability ratio per chunk, or one per step of it", choices=("joint", "step")
    )


@dataclasses.dataclass(frozen=True)
class GaussianActor:
    """See the module docstring; its action is the chunk, W = H A numbers.

    Attributes:
      options: its options.
      spec: sizes and observations.
      num_modes: Z.
      network: (observation, one-hot z) to the mean.
    """

    options: GaussianActorOptions
    spec: PolicySpec
    num_modes: int
    network: EncodedMLP

    @property
    def action_size(self) -> int:
        """W."""
        return self.spec.chunk_size

    @property
    def box(self) -> float:
        """Half-width of the box of the chunk's numbers; 0 for none."""
        return float(self.options.squash)

    def init(self, key: Key, reference: Variables | None) -> PyTree:
        """Parameters at which every mean is 0 and every sigma `init_std`."""
        one_hot = jnp.zeros((1, self.num_modes))
        log_std = jnp.full((self.num_modes, self.action_size), math.log(self.options.init_std), jnp.float32)
        return {"network": self.network.init(key, self.spec.obs.dummy(1), one_hot), "log_std": log_std}

    def _moments(self, params: PyTree, obs: Obs, z: Array) -> tuple[Array, Array]:
        """(mean, log standard deviation) before squashing, each [..., W]."""
        mean = self.network.apply(params["network"], obs, jax.nn.one_hot(z, self.num_modes))
        return mean, jnp.broadcast_to(rows(params["log_std"], z), mean.shape)

    def act(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, PyTree]:
        """(chunk [..., H, A], {"x": [..., W] before squashing, "log_prob": [..., R] its log density})."""
        mean, log_std = self._moments(params, obs, z)
        x = mean + jnp.exp(capped(log_std)) * jax.random.normal(key, mean.shape)
        info = {"x": x, "log_prob": self._log_prob(x, mean, log_std)}
        return self.spec.shaped(sac.squash(x, self.box)), info

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of the mean."""
        return self.spec.shaped(sac.squash(self._moments(params, obs, z)[0], self.box))

    def sample(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, Array]:
        """(flat chunk [..., W], its log density [...]), differentiable in `params`."""
        mean, log_std = self._moments(params, obs, z)
        return sac.sample(key, mean, log_std, self.box)

    def chunk(self, reference: Variables | None, key: Key, obs: Obs, action: Array) -> Array:
        """Chunk [..., H, A] of a flat one [..., W]; nothing is drawn."""
        return self.spec.shaped(action)

    def log_ratio(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[..., R] log ratios: R = 1 of the chunk, or R = H one per step; squashing cancels."""
        mean, log_std = self._moments(params, obs, z)
        return self._log_prob(info["x"], mean, log_std) - info["log_prob"]

    def entropy(self, params: PyTree, reference: Variables | None, obs: Obs, z: Array) -> Array:
        """[...] entropy of the chunk in nats."""
        return squashed_entropy(*self._moments(params, obs, z), self.box)

    def _log_prob(self, x: Array, mean: Array, log_std: Array) -> Array:
        """[..., R] log densities before squashing."""
        each = normal_log_prob(x, mean, log_std)
        return self.spec.shaped(each).sum(-1) if self.options.ratio == "step" else each.sum(-1, keepdims=True)


@register("actor", GaussianActorOptions)
def build(
    options: GaussianActorOptions, *, spec: PolicySpec, policy: Policy | None, num_modes: int
) -> GaussianActor:
    """A Gaussian actor; it has no use for a policy."""
    mlp = MLP(options.hidden, spec.chunk_size, activation=options.activation, zero_last=True)
    network = EncodedMLP(ObsEncoder(spec.obs, options.fourier_octaves), mlp)
    return GaussianActor(options, spec, num_modes, network)
