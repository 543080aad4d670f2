"""Windows moved off the recorded path, with actions that lead back to it.

Where an action displaces what is observed, the right answer to a position that is off by d is known up to the
speed of the return: the recorded actions less d, an equal share by each, so that the moved chunk ends where the
recorded one did. A clone of few episodes without recoveries thus learns to come back, which by itself it cannot.

d ~ N(0, std^2) per action entry and window, fresh for every batch; all that the entry displaces moves by the same
d, a history too: the path is shifted and keeps its shape. Corrected actions may pass the environment's bounds.
"""

from __future__ import annotations

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array, Batch, EnvSpec, Key
from mmbc_jax.ops.normalisation import Normalizer


class Jitter(flax.struct.PyTreeNode):
    """What one standard deviation does to a window, normalised.

    Attributes:
      obs: [A, D] what it adds to the observation along each action entry; {entry: [A, D_entry]} of a dict, without
        images.
      chunk: [A] what it takes from every action of the chunk.
    """

    obs: Obs
    chunk: Array

    @staticmethod
    def of(spec: EnvSpec, normalizer: Normalizer, std: float, chunk_len: int, observe: int = 1) -> Jitter:
        """That of an environment.

        Args:
          spec: of the environment.
          normalizer: of single observations, without history.
          std: in the physical units of the actions.
          chunk_len: H.
          observe: T.

        Raises:
          ConfigError: the environment does not say what its actions displace.
        """
        check_displaced(spec, std)
        moved = np.zeros((spec.action_dim, spec.obs.size), np.float32)
        for row, columns in zip(moved, spec.displaced, strict=True):
            row[list(columns)] = std
        vectors = {name: entry.shape[0] for name, entry in spec.obs.entries if entry.kind == "vector"}
        parts = np.split(moved, np.cumsum(list(vectors.values()))[:-1], axis=1)
        step = spec.obs.joined(dict(zip(vectors, map(jnp.asarray, parts), strict=True)))
        # The normaliser is affine: its linear part is what it makes of a difference.
        middle = normalizer.denormalize_obs(jax.tree.map(jnp.zeros_like, step))
        obs = normalizer.normalize_obs(jax.tree.map(jnp.add, middle, step))
        share = jnp.full(spec.action_dim, std / chunk_len)
        middle = normalizer.denormalize_action(jnp.zeros(spec.action_dim))
        chunk = normalizer.normalize_action(middle + share)
        return Jitter(jax.tree.map(lambda rows: jnp.tile(rows, (1, observe)), obs), chunk)

    def apply(self, key: Key, batch: Batch) -> Batch:
        """The windows of a batch, each moved by its own draw."""
        draw = jax.random.normal(key, (len(batch.chunk), len(self.chunk)))
        named = dict(batch.obs) if isinstance(batch.obs, Mapping) else {"": batch.obs}
        moves = dict(self.obs) if isinstance(self.obs, Mapping) else {"": self.obs}
        named |= {name: named[name] + _product(draw, rows) for name, rows in moves.items()}
        obs = named if isinstance(batch.obs, Mapping) else named[""]
        return batch.replace(obs=obs, chunk=batch.chunk - (draw * self.chunk)[:, None])


def check_displaced(spec: EnvSpec, std: float) -> None:
    """Raises ConfigError where there is jitter and the environment does not say what its actions displace."""
    if std and not spec.displaced:
        raise ConfigError("data.jitter", std, f"0: {spec.name} does not say what its actions displace")


def _product(draw: Array, rows: Array) -> Array:
    return jnp.einsum("ba,ad->bd", draw, rows, precision="highest")
