"""One decision as a pure function: from an observation to a chunk, both in physical units."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt32

from mmbc_jax.core.keys import wrapped
from mmbc_jax.core.learning import Subject
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array, Key
from mmbc_jax.evaluation.evaluator import Act
from mmbc_jax.ops import codes
from mmbc_jax.ops.unrolled import unrolled

DRAWN = -1
"""z that stands for one that is drawn, each of those there are as likely, as training draws them."""
_OF_COMMANDS = 2**31  # no actor folds a key with it


def stripped(subject: Subject) -> Subject:
    """What a decision reads of a run: without the evaluation's key, and of the reward which commands there are."""
    alive = codes.alive_of(subject.reward)
    return subject.replace(key=(), reward={} if alive is None else {codes.ALIVE: alive})


def drawn_commands(
    subject: Subject, key: Key, num_modes: int, batch: tuple[int, ...]
) -> Int[Array, "*batch"]:
    """[...] int32 commands of those there are, each as likely; of another stream than the decision under `key`."""
    alive = codes.alive_of(subject.reward)
    there = jnp.ones(num_modes) if alive is None else alive
    return codes.draw(jax.random.fold_in(key, _OF_COMMANDS), there, batch)


def there_of(subject: Subject, num_modes: int) -> np.ndarray:
    """[Z] whether there is such a command: merging leaves fewer than training began with."""
    alive = codes.alive_of(subject.reward)
    return np.ones(num_modes, bool) if alive is None else np.asarray(alive) > 0


@dataclasses.dataclass(frozen=True)
class Decision:
    """The evaluator's decision, with the scales of the data around it.

    Attributes:
      act: who decides, of normalised observations.
      num_modes: Z.
      low: [A] smallest actions that the environment executes; None where nothing is cut.
      high: [A] largest.
      fused: random bits, the same ones, are made in one piece (`ops.unrolled`), which takes a third off a small
        network's decision; not for a batch of unknown size.
    """

    act: Act
    num_modes: int
    low: Float[Array, " A"] | None = None
    high: Float[Array, " A"] | None = None
    fused: bool = False

    def __call__(
        self, subject: Subject, words: UInt32[Array, "2"], obs: Obs, z: Int[Array, " B"]
    ) -> Float[Array, "B H A"]:
        """The chunk of each observation.

        Args:
          subject: of `stripped`.
          words: of the key, as `jax.random.key_data` gives them.
          obs: [B, ...] in physical units, with its history.
          z: [B] commands; `DRAWN` for one that is drawn.

        Returns:
          [B, H, A] actions in physical units.
        """
        key = unrolled(wrapped(words)) if self.fused else wrapped(words)
        drawn = drawn_commands(subject, key, self.num_modes, z.shape) if self.num_modes > 1 else 0
        z = jnp.where(z == DRAWN, drawn, z)
        chunk = self.act(subject, key, subject.normalizer.normalize_obs(obs), z)
        chunk = subject.normalizer.denormalize_action(chunk)
        return chunk if self.low is None else jnp.clip(chunk, self.low, self.high)
