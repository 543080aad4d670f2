"""What a discriminator sees of a path: a memory that grows decision by decision, and features of it.

The choices are those of the `input` option of `discriminators.categorical_discriminator`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs, ObsSpec
from mmbc_jax.core.seeing import Played
from mmbc_jax.core.types import Array, Key, PyTree
from mmbc_jax.nn.obs_encoder import ObsEncoder

INPUTS = ("state", "window", "history", "action", "final")
_HALTING = ("action", "final")  # of a path without an action, or without an end, they say nothing


@dataclasses.dataclass(frozen=True)
class Seen:
    """Memory and features.

    The memory is {"slots": observations [..., M], "count": [...] int32 decisions so far}, with "chunk" [..., h A] for
    `action`, which holds two slots and shows the first, and with "ended" [...] for `final`.

    Features are [..., F]: the vectors of the slots that are shown, then the time passed (`history`) or the chunk
    (`action`), then for `action` and `final` 1 where there is anything to say and 0 where there is not. Where the
    observation holds images they are
    {"vectors": [..., F], "images": {name: [..., M, height, width, channels] uint8}}.

    Attributes:
      input: one of `INPUTS`.
      spec: what an observation looks like.
      slots: M, observations shown.
      horizon: decisions in a full episode.
      chunk: (h, A) of what is executed of a chunk.
    """

    input: str
    spec: ObsSpec
    slots: int
    horizon: int
    chunk: tuple[int, int]

    @property
    def halting(self) -> bool:
        """Whether there are paths of which it can say nothing."""
        return self.input in _HALTING

    def init_memory(self, obs: Obs) -> PyTree:
        """Memory at the first observation, normalised."""
        batch = self.spec.batch_shape(obs)
        slots = 2 if self.input == "action" else self.slots

        def repeat(entry: Array) -> Array:
            shape = entry.shape[len(batch) :]
            return jnp.broadcast_to(jnp.expand_dims(entry, len(batch)), (*batch, slots, *shape))

        memory = {"slots": jax.tree.map(repeat, obs), "count": jnp.zeros(batch, jnp.int32)}
        if self.input == "action":
            memory["chunk"] = jnp.zeros((*batch, self.chunk[0] * self.chunk[1]))
        if self.input == "final":
            memory["ended"] = jnp.zeros(batch)
        return memory

    def remember(self, memory: PyTree, obs: Obs, played: Played | None) -> PyTree:
        """Memory after the decision that led to `obs`.

        Raises:
          ValueError: nothing is said of a decision that has to be known.
        """
        count = memory["count"] + 1
        axis = count.ndim
        update: Callable[[Array, Array], Array]
        if self.input == "history":
            slot = (count * self.slots) // (self.horizon + 1)
            later = jnp.arange(self.slots) >= slot[..., None]

            def update(slots: Array, now: Array) -> Array:
                shaped = later.reshape(*later.shape, *(1,) * (slots.ndim - later.ndim))
                return jnp.where(shaped, jnp.expand_dims(now, axis), slots)
        else:

            def update(slots: Array, now: Array) -> Array:
                kept = jax.lax.slice_in_dim(slots, 1, None, axis=axis)
                return jnp.concatenate([kept, jnp.expand_dims(now, axis)], axis)

        after = {"slots": jax.tree.map(update, memory["slots"], obs), "count": count}
        if self.halting and played is None:
            raise ValueError(f"a discriminator that sees the {self.input} must be told what was played")
        if played is not None and self.input == "action":
            after["chunk"] = played.chunk.reshape(memory["chunk"].shape)
        if played is not None and self.input == "final":
            after["ended"] = played.ended
        return after

    def features(self, memory: PyTree) -> PyTree:
        """What the network sees: see the class; the time passed is in [0, 1]."""
        slots, count = memory["slots"], memory["count"]
        if self.input == "action":
            slots = jax.tree.map(lambda entry: jax.lax.slice_in_dim(entry, 0, 1, axis=count.ndim), slots)
        vectors = jnp.zeros((*count.shape, 0))
        if self.spec.size:
            vectors = self.spec.flat(slots).reshape(*count.shape, -1)
        more: list[Array] = []
        if self.input == "history":
            more = [(count.astype(jnp.float32) / self.horizon)[..., None]]
        if self.input == "action":
            more = [memory["chunk"], (count > 0).astype(jnp.float32)[..., None]]
        if self.input == "final":
            more = [memory["ended"][..., None]]
        vectors = jnp.concatenate([vectors, *more], -1) if more else vectors
        if not self.spec.images:
            return vectors
        return {"vectors": vectors, "images": {name: slots[name] for name in self.spec.images}}

    def parts(self, features: PyTree) -> tuple[Array, dict[str, Array], Array | None]:
        """(vectors without the last number where that says whether there is anything to say, images, that number)."""
        vectors, images = (features["vectors"], features["images"]) if self.spec.images else (features, {})
        return (vectors[..., :-1], images, vectors[..., -1]) if self.halting else (vectors, images, None)

    def inputs(self, vectors: Array, images: dict[str, Array]) -> tuple[Obs, Array]:
        """(observations [..., M] of the slots, [..., 0, 1 or h A] what else there is) from the parts."""
        return self.spec.joined(dict(images) | self._entries(vectors)), vectors[..., self._end :]

    @property
    def _end(self) -> int:
        return self.slots * self.spec.size

    def _entries(self, vectors: Array) -> dict[str, Array]:
        slots = vectors[..., : self._end].reshape(*vectors.shape[:-1], self.slots, self.spec.size)
        named, at = {}, 0
        for name, entry in self.spec.entries:
            if entry.kind == "vector":
                named[name] = slots[..., at : at + entry.shape[0]]
                at += entry.shape[0]
        return named

    @cached_property
    def _encoder(self) -> ObsEncoder:
        vectors = tuple((name, entry) for name, entry in self.spec.entries if entry.kind == "vector")
        return ObsEncoder(ObsSpec(vectors, self.spec.plain))

    @cached_property
    def point_size(self) -> int:
        """E; 0 where paths are no points: of images alone, and where it has nothing to say of some."""
        if self.halting or not self.spec.size:
            return 0
        features = self.features(self.init_memory(self.spec.dummy()))
        return int(jax.eval_shape(self.points, features).shape[-1])

    def points(self, features: PyTree) -> Array:
        """[..., E] of the vectors in sight; see `core.seeing.HasPoints`."""
        vectors, _, _ = self.parts(features)
        obs = self._encoder.spec.joined(self._entries(vectors))
        encoded = jnp.asarray(self._encoder.apply({}, obs)) / self.slots**0.5
        return encoded.reshape(*vectors.shape[:-1], -1)


def blur(seen: Seen, key: Key, vectors: Array) -> Array:
    """[..., F] standard normal for the vectors of `Seen.parts`, one draw for each remembered observation.

    Slots that hold the same observation share its draw: those to come in a history, those before the first in a
    window. With draws of their own a network averages them, and sees finer than the noise says.
    """
    end = seen.slots * seen.spec.size
    noise = jax.random.normal(key, vectors.shape)
    if seen.slots == 1 or end == 0:
        return noise
    shape = (*vectors.shape[:-1], seen.slots, seen.spec.size)
    slots, drawn = vectors[..., :end].reshape(shape), noise[..., :end].reshape(shape)
    kept = -1 if seen.input == "history" else 0  # the slot that others are copies of
    copies = (slots == slots[..., [kept], :]).all(-1, keepdims=True).astype(jnp.int32)
    # only those next to it: an episode may come back to where it was
    run = jax.lax.cumprod(copies, axis=copies.ndim - 2, reverse=seen.input == "history") > 0
    drawn = jnp.where(run, drawn[..., [kept], :], drawn)
    return jnp.concatenate([drawn.reshape(*vectors.shape[:-1], end), noise[..., end:]], -1)
