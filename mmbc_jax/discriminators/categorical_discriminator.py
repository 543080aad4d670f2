r"""A categorical discriminator q(z | what it sees of the path so far).

cross-entropy  -E[ log q(z | f + sigma e) ],  e ~ N(0, I)

What it sees is a choice:
- `state`: the present observation. It saturates on fine position: high information, few modes.
- `window`: the last `window` observations.
- `history`: the observations at all decisions so far in fixed slots, the slots to come filled with the
  present one, and the fraction of the horizon that has passed.

The noise e is drawn once for each observation remembered: copies of one observation are blurred alike.

The input noise sets the scale below which two paths count as the same: without it the cheapest way to
tell z apart is to shift a path by millimetres instead of taking another one.

Source: q(z|s) and its input noise, Behavioral Mode Discovery (arXiv 2605.11387); state-only
discriminator, DIAYN (Eysenbach et al. 2019).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs, ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.ops.picked import picked

INPUTS = ("state", "window", "history")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoricalDiscriminatorOptions(Options):
    """The categorical discriminator."""

    input: str = option("history", "what it sees of the path so far", choices=INPUTS)
    window: int = option(4, "observations of a window", low=1)
    slots: int = option(32, "observations of a history, at most", low=1)
    noise: float = option(0.3, "standard deviation of the input noise, in normalised units", low=0.0)
    hidden: tuple[int, ...] = option((128, 128), "widths of the hidden layers", low=1)
    activation: str = option("mish", "between the layers", choices=tuple(ACTIVATIONS))


@dataclasses.dataclass(frozen=True)
class CategoricalDiscriminator:
    """The discriminator.

    Its memory is {"slots": observations [..., M], "count": [...] int32 decisions so far}. Its features are [..., F],
    the vectors of all slots and for a history the time passed; where the observation holds images
    {"vectors": [..., F], "images": {name: [..., M, height, width, channels] uint8}}.

    Attributes:
      options: its options.
      spec: what an observation looks like.
      num_modes: Z.
      horizon: decisions in a full episode.
      slots: M, observations remembered.
      network: encoded slots and the time to logits.
    """

    options: CategoricalDiscriminatorOptions
    spec: ObsSpec
    num_modes: int
    horizon: int
    slots: int
    network: EncodedMLP

    @property
    def _has_time(self) -> bool:
        return self.options.input == "history"

    def init(self, key: Key) -> PyTree:
        """Network parameters; the untrained q is uniform."""
        features = self.features(self.init_memory(self.spec.dummy(1)))
        vectors, images = self._parts(features)
        return self.network.init(key, *self._inputs(vectors, images))

    def init_memory(self, obs: Obs) -> PyTree:
        """Memory at the first observation, normalised."""
        batch = self.spec.batch_shape(obs)

        def repeat(entry: Array) -> Array:
            shape = entry.shape[len(batch) :]
            return jnp.broadcast_to(jnp.expand_dims(entry, len(batch)), (*batch, self.slots, *shape))

        return {"slots": jax.tree.map(repeat, obs), "count": jnp.zeros(batch, jnp.int32)}

    def remember(self, memory: PyTree, obs: Obs) -> PyTree:
        """Memory after the decision that led to `obs`."""
        count = memory["count"] + 1
        axis = count.ndim
        update: Callable[[Array, Array], Array]
        if self._has_time:
            slot = (count * self.slots) // (self.horizon + 1)
            later = jnp.arange(self.slots) >= slot[..., None]

            def update(slots: Array, now: Array) -> Array:
                shaped = later.reshape(*later.shape, *(1,) * (slots.ndim - later.ndim))
                return jnp.where(shaped, jnp.expand_dims(now, axis), slots)
        else:

            def update(slots: Array, now: Array) -> Array:
                kept = jax.lax.slice_in_dim(slots, 1, None, axis=axis)
                return jnp.concatenate([kept, jnp.expand_dims(now, axis)], axis)

        return {"slots": jax.tree.map(update, memory["slots"], obs), "count": count}

    def features(self, memory: PyTree) -> PyTree:
        """What the network sees: see the class; the time passed is in [0, 1]."""
        slots, count = memory["slots"], memory["count"]
        vectors = jnp.zeros((*count.shape, 0))
        if self.spec.size:
            vectors = self.spec.flat(slots).reshape(*count.shape, -1)
        if self._has_time:
            time = count.astype(jnp.float32) / self.horizon
            vectors = jnp.concatenate([vectors, time[..., None]], -1)
        if not self.spec.images:
            return vectors
        return {"vectors": vectors, "images": {name: slots[name] for name in self.spec.images}}

    def log_prob(self, params: PyTree, key: Key, features: PyTree) -> Array:
        """[..., Z] log q(.|features + noise): the blur is part of what q sees, in the reward too.

        Images get no noise: their units have nothing to do with those of vectors.
        """
        vectors, images = self._parts(features)
        noisy = vectors + self.options.noise * self._blur(key, vectors)
        return jax.nn.log_softmax(self.network.apply(params, *self._inputs(noisy, images)))

    def loss(self, params: PyTree, key: Key, features: PyTree, z: Array) -> tuple[Array, Metrics]:
        """Cross-entropy under input noise.

        Args:
          params: of the network.
          key: for the noise.
          features: leading axes [...].
          z: [...] int32 commanded mode.

        Returns:
          ([...] -log q(z|features + noise) in nats, {"mode/q_accuracy": [...] 1 where the guess is correct}).
        """
        log_q = self.log_prob(params, key, features)
        loss = -picked(log_q, z)
        accuracy = (log_q.argmax(-1) == z).astype(jnp.float32)
        return loss, {"mode/q_accuracy": accuracy}

    def _blur(self, key: Key, vectors: Array) -> Array:
        """[..., F] standard normal, one draw for each remembered observation.

        Slots that hold the same observation share its draw: those to come in a history, those before the first in a
        window. With draws of their own a network averages them, and sees finer than the noise says.
        """
        end = self.slots * self.spec.size
        noise = jax.random.normal(key, vectors.shape)
        if self.slots == 1 or end == 0:
            return noise
        shape = (*vectors.shape[:-1], self.slots, self.spec.size)
        seen, drawn = vectors[..., :end].reshape(shape), noise[..., :end].reshape(shape)
        kept = -1 if self._has_time else 0  # the slot that others are copies of
        copies = (seen == seen[..., [kept], :]).all(-1, keepdims=True).astype(jnp.int32)
        # only those next to it: an episode may come back to where it was
        run = jax.lax.cumprod(copies, axis=copies.ndim - 2, reverse=self._has_time) > 0
        drawn = jnp.where(run, drawn[..., [kept], :], drawn)
        return jnp.concatenate([drawn.reshape(*vectors.shape[:-1], end), noise[..., end:]], -1)

    def _parts(self, features: PyTree) -> tuple[Array, dict[str, Array]]:
        return (features["vectors"], features["images"]) if self.spec.images else (features, {})

    def _inputs(self, vectors: Array, images: dict[str, Array]) -> tuple[Obs, Array]:
        """(observations [..., M] of the slots, [..., 1] time or [..., 0]) from the features."""
        end = self.slots * self.spec.size
        slots = vectors[..., :end].reshape(*vectors.shape[:-1], self.slots, self.spec.size)
        named, at = dict(images), 0
        for name, entry in self.spec.entries:
            if entry.kind == "vector":
                named[name] = slots[..., at : at + entry.shape[0]]
                at += entry.shape[0]
        return self.spec.joined(named), vectors[..., end:]


@register("discriminator", CategoricalDiscriminatorOptions)
def build(
    options: CategoricalDiscriminatorOptions, spec: ObsSpec, num_modes: int, horizon: int
) -> CategoricalDiscriminator:
    """A discriminator of `num_modes` modes over episodes of `horizon` decisions that sees observations `spec`."""
    history = min(options.slots, horizon + 1)
    slots = {"state": 1, "window": options.window, "history": history}[options.input]
    mlp = MLP(options.hidden, num_modes, activation=options.activation, zero_last=True)
    network = EncodedMLP(ObsEncoder(spec), mlp)
    return CategoricalDiscriminator(options, spec, num_modes, horizon, slots, network)
