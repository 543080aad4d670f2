"""What a learner asks of the parts that it is built from."""

from __future__ import annotations

from typing import TypeVar

from mmbc_jax.core.errors import ConfigError

Part = TypeVar("Part")


def require(part: Part | None, field: str, what: str) -> Part:
    """The part, where there is one.

    Args:
      part: of `Parts`.
      field: of the configuration that would name it.
      what: is needed, in words.

    Raises:
      ConfigError: there is none.
    """
    if part is None:
        raise ConfigError(field, "", what)
    return part
