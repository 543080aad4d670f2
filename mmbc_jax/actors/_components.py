r"""The discrete half of a base, commanded by z: which component of a mixture a decision starts from.

p(k | s, z) = softmax((log pi(s) + g_z) / tau + MLP(s, z)),    g_zk ~ Gumbel at the start

pi(s) are the weights that the reference gives its components. As tau falls to 0 the choice becomes
argmax_k (log pi_k(s) + g_zk), which over independent Gumbel draws g_z is distributed as pi(s): every z prefers other
components, and the mixture over z is about the base itself. With one mode the start is exactly the base.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array, Key, PyTree
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.ops.picked import picked, rows

SHARPNESS = 0.3  # tau


@dataclasses.dataclass(frozen=True)
class Components:
    """The commanded choice of a component.

    Attributes:
      network: (observation, one-hot z) to a number per component.
      num_modes: Z.
      count: C components.
    """

    network: EncodedMLP
    num_modes: int
    count: int

    def init(self, key: Key, obs: Obs) -> PyTree:
        """Fresh parameters; `obs` is one, for its shapes."""
        key_draw, key_net = jax.random.split(key)
        z = jnp.zeros((1,), jnp.int32)
        drawn = jax.random.gumbel(key_draw, (self.num_modes, self.count))
        return {
            "preference": drawn if self.num_modes > 1 else jnp.zeros_like(drawn),
            "network": self.network.init(key_net, obs, jax.nn.one_hot(z, self.num_modes)),
        }

    def draw(self, params: PyTree, base: Any, key: Key, obs: Obs, z: Array) -> dict[str, Array]:
        """{"component": [...] drawn, "component_log_prob": [...]}; `base` is the distribution of the reference."""
        log_probs = self.log_probs(params, base, obs, z)
        component = jax.random.categorical(key, log_probs)
        return {"component": component, "component_log_prob": picked(log_probs, component)}

    def likeliest(self, params: PyTree, base: Any, obs: Obs, z: Array) -> Array:
        """[...] the component of the highest probability."""
        return jnp.argmax(self.log_probs(params, base, obs, z), -1)

    def log_ratio(self, params: PyTree, base: Any, obs: Obs, z: Array, info: PyTree) -> Array:
        """[...] log p of the component in `info` less that at the time of acting."""
        return picked(self.log_probs(params, base, obs, z), info["component"]) - info["component_log_prob"]

    def entropy(self, params: PyTree, base: Any, obs: Obs, z: Array) -> Array:
        """[...] in nats."""
        log_probs = self.log_probs(params, base, obs, z)
        return -(jnp.exp(log_probs) * log_probs).sum(-1)

    def log_probs(self, params: PyTree, base: Any, obs: Obs, z: Array) -> Array:
        """[..., C] log p(k | s, z)."""
        tau = SHARPNESS if self.num_modes > 1 else 1.0
        logits = component_logits(base)
        assert logits is not None
        wanted = (jax.nn.log_softmax(logits) + rows(params["preference"], z)) / tau
        learned = self.network.apply(params["network"], obs, jax.nn.one_hot(z, self.num_modes))
        return jax.nn.log_softmax(wanted + learned)


def component_logits(base: Any) -> Array | None:
    """[..., C] logits of the components that a base distribution mixes; None where it mixes none."""
    parts = base.distributions if isinstance(base, distrax.Joint) else {}
    if not isinstance(parts, dict) or "component" not in parts:
        return None
    logits: Array = parts["component"].logits
    return logits
