r"""The best of K chunks of an actor by a critic: how it explores, what its critic expects, and what is played.

  a* = argmax over i of Q(s, a_i, z),   a_1, .., a_K drawn one by one

Q does not see the time, which nobody tells a policy that is played. With K = 1 there is no choice, and no critic is
asked.

Source: Li et al. 2025 (Q-chunking, arXiv 2507.07969).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array, Key, PyTree, Variables
from mmbc_jax.nn.critic import ActionCritic
from mmbc_jax.ops.soft_policy import reduce_heads


def best(values: Float[Array, " K *batch"], of: Float[Array, " K *batch W"]) -> Float[Array, "*batch W"]:
    """[..., W] the row of the highest value [K, ...] among rows [K, ..., W]; the first of equal ones."""
    chosen = jnp.argmax(values, axis=0)[None, ..., None]
    return jnp.take_along_axis(of, chosen, axis=0)[0]


@dataclasses.dataclass(frozen=True)
class BestOf:
    """See the module docstring; its parameters are {"actor", "critic"}, with K = 1 those of the actor.

    Attributes:
      actor: draws chunks, flat, by `paired`.
      critic: Q.
      count: K.
      reduce: how its heads become one value.
    """

    actor: Any
    critic: ActionCritic
    count: int
    reduce: str

    @property
    def num_modes(self) -> int:
        """Z."""
        return int(self.actor.num_modes)

    @property
    def has_head(self) -> bool:
        """Whether the actor has a steering head."""
        return bool(getattr(self.actor, "has_head", False))

    def headless(self) -> BestOf | None:
        """The same choice among chunks of the actor without its head."""
        actor = self.actor.headless()
        return None if actor is None else dataclasses.replace(self, actor=actor)

    def params(self, params: PyTree, actor: PyTree) -> PyTree:
        """What it acts with, of the parameters of all parts and those of the actor."""
        return actor if self.count == 1 else {"actor": actor, "critic": params["critic"]}

    def choose(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """[..., W] the chosen chunk."""
        if self.count == 1:
            return self.actor.paired(params, reference, key, obs, z)[0]

        def drawn(key: Key) -> tuple[Array, Array]:
            chunk = self.actor.paired(params["actor"], reference, key, obs, z)[0]
            q = jnp.asarray(self.critic.apply(params["critic"], obs, chunk, z, jnp.zeros(z.shape)))
            return reduce_heads(q, self.reduce), chunk

        return best(*jax.vmap(drawn)(jax.random.split(key, self.count)))

    def play(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] that is chosen."""
        key_choice, key_chunk = jax.random.split(key)
        chosen = self.choose(params, reference, key_choice, obs, z)
        return self.actor.chunk(reference, key_chunk, obs, chosen)

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of the actor's likeliest noise: without chance there is nothing to choose from."""
        return self.actor.likeliest(params["actor"], reference, key, obs, z)
