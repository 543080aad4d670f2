"""A configuration as text that the command line takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from mmbc_jax.core.config import at, plugin_sections


def as_overrides(config: ConfigDict) -> list[str]:
    """Every field as the command line sets it, `--config.KEY=VALUE`, the names of plug-ins before their fields."""
    names = [f"{path}.name" for path in plugin_sections(config)]
    fields = [*names, *(path for path in _paths(config) if path not in names)]
    return [f"--config.{path}={_typed(at(config, path))}" for path in fields]


def _paths(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _typed(value: Any) -> str:
    plain_texts = (
        isinstance(value, tuple) and value and all(isinstance(x, str) and "," not in x for x in value)
    )
    return ",".join(value) if plain_texts else str(value)
