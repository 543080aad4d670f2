r"""A categorical discriminator q(z | what it sees of the path so far).

cross-entropy  -E[ log q(z | f + sigma e) ],  e ~ N(0, I)

What it sees is a choice:
- `state`: the present observation. It saturates on fine position: high information, few modes.
- `window`: the last `window` observations.
- `history`: the observations at all decisions so far in fixed slots, the slots to come filled with the
  present one, and the fraction of the horizon that has passed.
- `action`: the observation at the last decision and what was executed there, q(z | s, a).
- `final`: the observation that an episode ended with. Of a path that goes on q is uniform: nothing is paid
  before the end, and nothing learned (Variational Intrinsic Control, Gregor et al. 2016).

The noise e is drawn once for each observation remembered: copies of one observation are blurred alike.

The input noise sets the scale below which two paths count as the same: without it the cheapest way to
tell z apart is to shift a path by millimetres instead of taking another one.

Source: q(z|s) and its input noise, Behavioral Mode Discovery (arXiv 2605.11387); state-only
discriminator, DIAYN (Eysenbach et al. 2019); final state, VIC (Gregor et al. 2016).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs, ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.seeing import Played
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.discriminators._seen import INPUTS, Seen, blur
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.ops.picked import picked


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
    """The discriminator; its memory and features are those of `Seen`.

    Attributes:
      options: its options.
      spec: what an observation looks like.
      num_modes: Z.
      seen: of a path.
      network: encoded slots and what else is seen to logits.
    """

    options: CategoricalDiscriminatorOptions
    spec: ObsSpec
    num_modes: int
    seen: Seen
    network: EncodedMLP

    @property
    def slots(self) -> int:
        """M, observations that it sees at once."""
        return self.seen.slots

    @property
    def at_ends(self) -> bool:
        """Whether it speaks of whole episodes only."""
        return self.options.input == "final"

    @property
    def point_size(self) -> int:
        """E, numbers of a path as a point; 0 where it is none."""
        return self.seen.point_size

    def points(self, features: PyTree) -> Array:
        """[..., E] paths as points; see `core.seeing.HasPoints`."""
        return self.seen.points(features)

    def init(self, key: Key) -> PyTree:
        """Network parameters; the untrained q is uniform."""
        vectors, images, _ = self.seen.parts(self.features(self.init_memory(self.spec.dummy(1))))
        return self.network.init(key, *self.seen.inputs(vectors, images))

    def init_memory(self, obs: Obs) -> PyTree:
        """Memory at the first observation, normalised."""
        return self.seen.init_memory(obs)

    def remember(self, memory: PyTree, obs: Obs) -> PyTree:
        """Memory after the decision that led to `obs`; of no use for `action` and `final`."""
        return self.seen.remember(memory, obs, None)

    def remember_played(self, memory: PyTree, obs: Obs, played: Played) -> PyTree:
        """Memory after the decision `played`, which led to `obs`."""
        return self.seen.remember(memory, obs, played)

    def features(self, memory: PyTree) -> PyTree:
        """What the network sees."""
        return self.seen.features(memory)

    def log_prob(self, params: PyTree, key: Key, features: PyTree) -> Array:
        """[..., Z] log q(.|features + noise): the blur is part of what q sees, in the reward too.

        Images get no noise: their units have nothing to do with those of vectors. Where there is nothing to say yet
        (`action` before the first decision, `final` before the end) it is -log Z.
        """
        vectors, images, told = self.seen.parts(features)
        noisy = vectors + self.options.noise * blur(self.seen, key, vectors)
        log_q = jax.nn.log_softmax(self.network.apply(params, *self.seen.inputs(noisy, images)))
        if told is None:
            return log_q
        return jnp.where(told[..., None] > 0, log_q, -jnp.log(float(self.num_modes)))

    def loss(self, params: PyTree, key: Key, features: PyTree, z: Array) -> tuple[Array, Metrics]:
        """Cross-entropy under input noise.

        Examples of which there is nothing to say have loss 0, and the others are scaled so that the mean over all is
        the mean over them; the accuracy likewise. A batch without any has 0.

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
        told = self.seen.parts(features)[2]
        if told is not None:
            share = told * (told.size / jnp.maximum(told.sum(), 1.0))
            loss, accuracy = loss * share, accuracy * share
        return loss, {"mode/q_accuracy": accuracy}


@register("discriminator", CategoricalDiscriminatorOptions)
def build(
    options: CategoricalDiscriminatorOptions,
    spec: ObsSpec,
    num_modes: int,
    horizon: int,
    chunk: tuple[int, int] = (0, 0),
) -> CategoricalDiscriminator:
    """A discriminator of `num_modes` modes over episodes of `horizon` decisions that sees observations `spec`.

    `chunk` is (h, A) of what a decision executes.

    Raises:
      ConfigError: it is to see an action and there is none.
    """
    if options.input == "action" and not chunk[0] * chunk[1]:
        raise options.error("input", "another one: no action is known here")
    history = min(options.slots, horizon + 1)
    slots = {"window": options.window, "history": history}.get(options.input, 1)
    mlp = MLP(options.hidden, num_modes, activation=options.activation, zero_last=True)
    seen = Seen(options.input, spec, slots, horizon, chunk)
    return CategoricalDiscriminator(options, spec, num_modes, seen, EncodedMLP(ObsEncoder(spec), mlp))
