"""What rewards that measure how far apart paths lie ask of the discriminator, whose view of a path they use."""

from __future__ import annotations

from typing import Any

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Discriminator
from mmbc_jax.core.seeing import point_size


def with_points(discriminator: Discriminator | None, reward: str) -> Any:
    """The discriminator, where paths are points to it (`core.seeing.HasPoints`); q itself is not used.

    Raises:
      ConfigError: there is none, or paths are no points to it.
    """
    if discriminator is None:
        raise ConfigError(
            "discriminator.name", "", f"a discriminator: the {reward} reward sees of a path what it sees"
        )
    spec = getattr(discriminator, "spec", None)
    if spec is not None and not spec.size:
        raise ConfigError(
            "env.observe",
            "image",
            f"state or both: the {reward} reward measures distances of observed vectors",
        )
    if not point_size(discriminator):
        seen = getattr(getattr(discriminator, "options", None), "input", "")
        raise ConfigError(
            "discriminator.input",
            seen,
            f"state, window or history: the {reward} reward measures distances of paths",
        )
    return discriminator
