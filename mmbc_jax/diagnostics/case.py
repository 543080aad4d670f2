"""What a diagnostic looks at: one trained policy, with the data and, where there is one, the environment."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.protocols import Env, Policy
from mmbc_jax.core.types import Array, Key, PyTree, Rollouts, Variables
from mmbc_jax.data.windows import Windows
from mmbc_jax.ops.normalisation import Normalizer


class Case(flax.struct.PyTreeNode):
    """One trained policy and everything it may be measured on.

    Attributes:
      variables: of the policy.
      hp: its traced scalars, as for `Policy.loss`.
      windows: demonstrations, normalised.
      normalizer: physical units to [-1, 1].
      rollouts: evaluated episodes, or None without an environment.
      env_params: traced parameters of the environment; None for its defaults.
      policy: static; its `spec.obs` says what an observation looks like.
      env: the bare environment, or None; static.
      exec_len: h, actions executed of every chunk; static.
    """

    variables: Variables
    hp: dict[str, Array]
    windows: Windows
    normalizer: Normalizer
    rollouts: Rollouts | None = None
    env_params: PyTree = None
    policy: Policy = flax.struct.field(pytree_node=False, default=None)
    env: Env | None = flax.struct.field(pytree_node=False, default=None)
    exec_len: int = flax.struct.field(pytree_node=False, default=1)

    def sample(self, key: Key, obs: Obs) -> tuple[PyTree, Array]:
        """(w, chunk [..., H, A]) drawn at normalised observations [...]."""
        w = self.policy.base_distribution(self.variables, obs).sample(seed=key)
        return w, self.policy.transport(self.variables, obs, w)


def of_episodes(rollouts: Rollouts, normalizer: Normalizer, env: Env | None, exec_len: int) -> Case:
    """The case of a stage that clones nothing: its episodes, for instruments that ask these alone."""
    nothing: Any = None
    return Case(Variables({}), {}, nothing, normalizer, rollouts, env=env, exec_len=exec_len)


def float_leaves(w: PyTree) -> tuple[list[Array], Any]:
    """The differentiable leaves of a base sample, and a function that puts others in their place.

    Args:
      w: a sample of any base; integer leaves are codes or components.

    Returns:
      (float leaves, rebuild): `rebuild(leaves)` is `w` with those leaves replaced.
    """
    leaves, tree = jax.tree.flatten(w)
    moving = [i for i, leaf in enumerate(leaves) if jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact)]

    def rebuild(new: list[Array]) -> PyTree:
        merged = list(leaves)
        for i, leaf in zip(moving, new, strict=True):
            merged[i] = leaf
        return jax.tree.unflatten(tree, merged)

    return [leaves[i] for i in moving], rebuild
