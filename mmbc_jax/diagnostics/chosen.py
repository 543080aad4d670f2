"""Which diagnostics a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence

from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.protocols import Diagnostic


def default_config() -> ConfigDict:
    """One section per instrument of the package, with its options at their defaults."""
    return ConfigDict(
        {
            name: registry.find("diagnostic", name).default_config()
            for name in registry.available("diagnostic")
        }
    )


def instrument_names(chosen: Sequence[str]) -> tuple[str, ...]:
    """The instruments behind a list of names, in which `all` stands for every one of the package.

    Raises:
      ConfigError: unknown name.
    """
    return registry.chosen_names("diagnostic", chosen, "diagnostics")


def build_instruments(config: ConfigDict) -> dict[str, Diagnostic]:
    """The instruments that `config.diagnostics` names, with the settings of `config.instruments`.

    Raises:
      ConfigError: unknown name, or a setting that cannot work.
    """
    built = {}
    for name in instrument_names(config.diagnostics):
        plugin = registry.find("diagnostic", name, "diagnostics")
        section = config.instruments.get(name) or plugin.default_config()
        built[name] = plugin(section, section=f"instruments.{name}")
    return built
