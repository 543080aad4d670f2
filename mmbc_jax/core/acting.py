"""What an actor may do besides its contract (`learning.Actor`); whoever has use for it asks here."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from mmbc_jax.core.learning import Actor, Learner, Parts
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.state import Hparams
from mmbc_jax.core.types import Array, Key, PyTree, Variables


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """How the R factors of a decision's probability enter the objective of PPO.

    Attributes:
      weight: R factors of the advantage, each in [0, 1]; empty for 1 each.
      clip: R multiples of the learner's clip; empty for 1 each.
      asymmetric: decisions of a negative advantage pay for the square of how far they went, instead of being
        clipped.
      share: R shares in the decision's KL, 1 for a factor of its probability and 1 / N for one of N estimates of the
        same factor; empty for 1 each.
    """

    weight: tuple[float, ...] = ()
    clip: tuple[float, ...] = ()
    asymmetric: bool = False
    share: tuple[float, ...] = ()


class HasSurrogate(Protocol):
    """An actor whose probability has factors that do not count alike."""

    surrogate: Surrogate


class HasPlay(Protocol):
    """An actor that is used otherwise than it explores."""

    def play(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Int[Array, "*batch"]
    ) -> Float[Array, "*batch H A"]:
        """Chunk [..., H, A] as it is deployed and evaluated; `key` is for what still depends on chance."""
        ...


@runtime_checkable
class HasPlayer(Protocol):
    """A learner of which more than the actor has a say in what is done, such as a critic that chooses."""

    @property
    def player(self) -> Actor:
        """Who is played in the actor's place, with the parameters that `Learner.subject` gives.

        It has `likeliest` and `play` (`HasPlay`), and where the actor has a head, `commanding.HasHead`.
        """
        ...


class HasDivergence(Protocol):
    """An actor that can say how far it is from its reference."""

    def divergence(
        self,
        params: PyTree,
        reference: Variables | None,
        obs: Obs,
        z: Int[Array, "*batch"],
        info: PyTree,
    ) -> Float[Array, "*batch"]:
        """[...] nats, at least 0: KL(actor || reference) of what a decision draws, given what it drew."""
        ...


class HasImitation(Protocol):
    """An actor that can be trained to draw what its reference draws."""

    def imitation(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Int[Array, "*batch"]
    ) -> Float[Array, "*batch"]:
        """[...] nats: -log density of the actor at one draw of the reference for each observation.

        Its mean is KL(reference || actor) and a constant: where `divergence` asks the actor to do nothing that the
        reference would not, this asks it to go on doing all that the reference does.
        """
        ...


class HasRates(Protocol):
    """An actor whose parameters do not all learn at the same rate."""

    def rates(self, tunes: Float[Array, ""]) -> dict[str, Float[Array, ""] | float]:
        """{name among its parameters: factor of the learning rate}, 1 for those that are not named.

        `tunes` [] is 0 while the reference is to stay as it is, else 1.
        """
        ...


class HasStages(Protocol):
    """An actor that explores more the longer it has learned."""

    def exploring(self, params: PyTree, decisions: Int[Array, ""]) -> PyTree:
        """Parameters to act with after each environment has taken so many decisions."""
        ...


def played_by(learner: Learner, parts: Parts) -> Parts:
    """The parts of a learner as they are played: with its player in the actor's place, where it has one."""
    return dataclasses.replace(parts, actor=learner.player) if isinstance(learner, HasPlayer) else parts


def surrogate_of(actor: Actor) -> Surrogate:
    """That of the actor, or the plain one."""
    return getattr(actor, "surrogate", Surrogate())


def exploring(actor: Actor, params: PyTree, decisions: Int[Array, ""]) -> PyTree:
    """What the actor explores with after so many decisions: the parameters themselves, unless it has stages."""
    stages = getattr(actor, "exploring", None)
    return params if stages is None else stages(params, decisions)


def rates_of(actor: Actor, params: PyTree, hparams: Hparams) -> PyTree:
    """Factors of the learning rate, like `params`; None where all are 1."""
    rates = getattr(actor, "rates", None)
    if rates is None:
        return None
    factors = rates(hparams.get("stage.tune_reference", jnp.ones(())))
    return {
        name: jax.tree.map(lambda p, name=name: jnp.full_like(p, factors.get(name, 1.0)), part)
        for name, part in params.items()
    }
