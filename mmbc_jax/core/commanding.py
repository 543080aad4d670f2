"""What learners and actors may do with commands besides their contracts; whoever has use for it asks here."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int

from mmbc_jax.core.learning import Actor
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Array, Key


@runtime_checkable
class HasCommandValues(Protocol):
    """A learner whose critic can compare commands before an episode begins."""

    def command_value(
        self, state: TrainState, key: Key, obs: Obs, z: Int[Array, "*batch"]
    ) -> Float[Array, "*batch"]:
        """[...] what it expects of an episode that starts at the normalised `obs` under z; `key` draws actions."""
        ...


@runtime_checkable
class HasHead(Protocol):
    """An actor that may draw its noise by a steering head, without which it can act, too."""

    @property
    def has_head(self) -> bool:
        """Whether it has one."""
        ...

    def headless(self) -> Actor | None:
        """The actor with noise from the reference's base; None where nothing but the reference is left.

        It takes the same parameters. What else z commands, it still does.
        """
        ...
