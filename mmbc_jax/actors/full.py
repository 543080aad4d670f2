r"""All of a policy whose density is known: its parameters are trained by the ratio of its own likelihoods.

chunk = a + b(s, z),   a ~ the policy's copy,   log pi(chunk | s, z) = log p(chunk - b(s, z) | s)

A shift keeps volumes, so the density stays exact; b is a network that starts near 0 and gives z its part. With one
mode there is no b, and the actor is at first the reference. Of a mixture's components the density sums over all.

Played, it is drawn as in exploring: its spread is the policy's own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.actors._noise_head import HeadOptions, required
from mmbc_jax.core.most_likely import most_likely
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Policy, capabilities
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree, Variables
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.ops.capped import capped


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullOptions(HeadOptions):
    """The whole policy; what `hidden` and the rest say holds for the network of b."""

    policy_rate: float = option(
        0.1, "learning rate of the policy as a share of the actor's, which is that of b", low=0.0
    )
    shift_std: float = option(
        0.1,
        "of b's constant part at first, which differs from z to z, in units of the normalised chunk",
        low=0.0,
    )


@dataclasses.dataclass(frozen=True)
class FullActor:
    """See the module docstring.

    Attributes:
      options: its options.
      spec: sizes and observations.
      policy: the reference.
      num_modes: Z.
      network: (observation, one-hot z) to b; None with one mode.
    """

    options: FullOptions
    spec: PolicySpec
    policy: Any
    num_modes: int
    network: EncodedMLP | None

    def rates(self, tunes: Array) -> dict[str, Array | float]:
        """Factors of the learning rate; see `core.acting.HasRates`."""
        return {"policy": self.options.policy_rate * tunes}

    def init(self, key: Key, reference: Variables | None) -> PyTree:
        """The reference's parameters, and those of b."""
        params: dict[str, PyTree] = {"policy": jax.tree.map(jnp.copy, required(reference).params)}
        if self.network is not None:
            key_net, key_offset = jax.random.split(key)
            one_hot = jnp.zeros((1, self.num_modes))
            params["network"] = self.network.init(key_net, self.spec.obs.dummy(1), one_hot)
            size = self.spec.chunk_size
            params["offset"] = self.options.shift_std * jax.random.normal(key_offset, (self.num_modes, size))
        return params

    def _variables(self, params: PyTree, reference: Variables | None) -> Variables:
        return Variables(params["policy"], required(reference).stats)

    def _shift(self, params: PyTree, obs: Obs, z: Array) -> Array:
        """b [..., H, A]; 0 with one mode."""
        if self.network is None:
            return jnp.zeros((*z.shape, *self.spec.chunk_shape))
        one_hot = jax.nn.one_hot(z, self.num_modes)
        flat = self.network.apply(params["network"], obs, one_hot) + one_hot @ params["offset"]
        return self.spec.shaped(flat)

    def act(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, PyTree]:
        """(chunk [..., H, A], {"chunk": the same, "log_prob": [...] its log density})."""
        variables = self._variables(params, reference)
        w = self.policy.base_distribution(variables, obs).sample(seed=key)
        chunk = self.policy.transport(variables, obs, w) + self._shift(params, obs, z)
        return chunk, {"chunk": chunk, "log_prob": self._log_prob(params, reference, obs, z, chunk)}

    def _log_prob(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, chunk: Array
    ) -> Array:
        own = chunk - self._shift(params, obs, z)
        return self.policy.log_prob(self._variables(params, reference), obs, own)

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of the likeliest w."""
        variables = self._variables(params, reference)
        w = most_likely(self.policy.base_distribution(variables, obs), key)
        return self.policy.transport(variables, obs, w) + self._shift(params, obs, z)

    def log_ratio(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[..., 1] of the chunk."""
        now = self._log_prob(params, reference, obs, z, info["chunk"])
        return (now - info["log_prob"])[..., None]

    def divergence(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[...] (rho - 1) - log rho with rho = p_ref / pi of the drawn chunk: on average KL(pi || ref), in nats.

        The chunk depends on the parameters, and that value's own gradient is on average the one of KL(ref || pi).
        So the gradient is -(pi / pi_old) log rho grad log pi, on average that of KL(pi || ref) where `info` was drawn
        by pi_old.
        """
        now = self._log_prob(params, reference, obs, z, info["chunk"])
        log_rho = self.policy.log_prob(required(reference), obs, info["chunk"]) - now
        ratio = jnp.exp(capped(now - info["log_prob"]))
        slope = -jax.lax.stop_gradient(ratio * log_rho) * now
        value = jnp.expm1(capped(log_rho)) - log_rho
        return jax.lax.stop_gradient(value - slope) + slope

    def imitation(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """[...] nats: -log density of a chunk of the reference; what z adds is left alone."""
        frozen = required(reference)
        w = self.policy.base_distribution(frozen, obs).sample(seed=key)
        chunk = jax.lax.stop_gradient(self.policy.transport(frozen, obs, w))
        return -self.policy.log_prob(self._variables(params, reference), obs, chunk)

    def entropy(self, params: PyTree, reference: Variables | None, obs: Obs, z: Array) -> Array:
        """[...] 0: of a mixture it is not known in closed form."""
        return jnp.zeros(z.shape)


@register("actor", FullOptions)
def build(options: FullOptions, *, spec: PolicySpec, policy: Policy | None, num_modes: int) -> FullActor:
    """An actor that is the whole of `policy`.

    Raises:
      ConfigError: there is no policy, or its density is not known.
    """
    if policy is None:
        raise options.error("name", "gaussian: without bc or start_from there is no policy to train")
    if "log_prob" not in capabilities(policy):
        raise options.error("name", "a policy whose density is known, such as gaussian, mdn or mixture_flow")
    network = options.network(spec, spec.chunk_size) if num_modes > 1 else None
    return FullActor(options, spec, policy, num_modes, network)
