"""What a discriminator or an intrinsic reward may do besides its contract; whoever has use for it asks here."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from jaxtyping import Float

from mmbc_jax.core.learning import Discriminator, Reward
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array, PyTree


class Played(NamedTuple):
    """What is known of a decision besides the observation it led to.

    Attributes:
      chunk: [..., h, A] what was executed, as the policy answered.
      ended: [...] 1 where the episode is over.
    """

    chunk: Float[Array, "*batch h A"]
    ended: Float[Array, "*batch"]


class RemembersPlayed(Protocol):
    """A discriminator or reward whose memory holds more of a decision than where it led."""

    def remember_played(self, memory: PyTree, obs: Obs, played: Played) -> PyTree:
        """In place of `remember`: memory after the decision `played`, which led to `obs`."""
        ...


def remembered(of: Discriminator | Reward, memory: PyTree, obs: Obs, played: Played) -> PyTree:
    """Memory of a discriminator or reward after a decision, told what it wants to know of it."""
    more = getattr(of, "remember_played", None)
    return of.remember(memory, obs) if more is None else more(memory, obs, played)


class HasPoints(Protocol):
    """A discriminator to which paths are points, so that some lie farther apart than others.

    The Euclidean distance of two points is the root mean square, over the M observations that are remembered, of the
    distance of their vectors, normalised and encoded without parameters (an angle is its cosine and sine). Images and
    the time passed take no part.
    """

    point_size: int  # E; 0 where this one has none

    def points(self, features: PyTree) -> Float[Array, "*batch E"]:
        """[..., E] of features [...]."""
        ...


class SpeaksAtEnds(Protocol):
    """A discriminator that may speak of whole episodes only."""

    at_ends: bool  # True where it does


class Compares(Protocol):
    """A reward that may compare the paths of a rollout, so that it knows nothing of decisions drawn from a buffer."""

    compares: bool  # True where it does


def at_ends(of: Discriminator) -> bool:
    """Whether a discriminator speaks of whole episodes only."""
    return bool(getattr(of, "at_ends", False))


def point_size(of: Discriminator) -> int:
    """Numbers of a path as a point; 0 where paths are none to a discriminator."""
    return int(getattr(of, "point_size", 0))


def compares(of: Reward) -> bool:
    """Whether a reward compares the paths of a rollout."""
    return bool(getattr(of, "compares", False))
