"""Parameters that a task has besides its own: other dynamics, a block. They cost nothing where nothing sets them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import jax.numpy as jnp

from mmbc_jax.core.options import Options
from mmbc_jax.core.types import PyTree


def differs(options: Options, names: Sequence[str]) -> bool:
    """Whether one of some options is not at its default."""
    plain = type(options)()
    return any(getattr(options, name) != getattr(plain, name) for name in names)


def parameters(options: Options, names: Sequence[str]) -> dict[str, PyTree]:
    """{name: the option as an array []}, for `default_params`."""
    return {name: jnp.asarray(getattr(options, name)) for name in names}


class Further:
    """A task whose further parameters exist where `further` says so; see `core.protocols.HasPerturbed`."""

    options: Any
    further: bool

    def perturbed(self) -> Self:
        """The same task, with its further parameters among `default_params`, at what the options say."""
        other = copy.copy(self)
        other.further = True
        return other
