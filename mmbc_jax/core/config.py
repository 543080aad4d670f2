"""Configurations: python files that return an ml-collections ConfigDict, overridden from the command line.

A config file defines `get_config() -> ConfigDict`. Sections that select a plug-in (`policy`, `env`, ...)
hold `name` and the plug-in's
own fields. Naming another plug-in on the command line replaces the
section by that plug-in's defaults; further overrides then apply to those. All checks here run before
anything compiles.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.errors import ConfigError, UserError, bounds, nearest, one_of
from mmbc_jax.core.options import WORDS, is_a
from mmbc_jax.core.user_file import load_module, user_code

__all__ = [
    "apply_overrides",
    "at",
    "check_choice",
    "check_range",
    "converted",
    "from_plain",
    "load",
    "load_module",
    "plugin",
    "plugin_kind",
    "plugin_sections",
    "resolve_path",
    "set_field",
    "split_overrides",
    "user_code",
]

_UNNAMED = ("diagnostic", "figure", "loader", "observation")  # lists or files name these
_KINDS = {
    **{kind: kind for kind in registry.FOLDERS if kind not in _UNNAMED},
    "baseline": "policy",
}
_MOVED = {"ppo.mi_payment": "reward.payment", "ppo.mi_forfeit": "reward.forfeit"}


def plugin_kind(path: str) -> str | None:
    """The kind of plug-in that a section at a dotted path selects, by its last part; None where it selects none."""
    return _KINDS.get(path.rpartition(".")[2])


def plugin_sections(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    """Dotted paths of all sections that select a plug-in."""
    for name, value in config.items():
        if not isinstance(value, ConfigDict):
            continue
        path = f"{prefix}.{name}".lstrip(".")
        if plugin_kind(path) and "name" in value:
            yield path
        elif not prefix:
            yield from plugin_sections(value, path)


def at(config: ConfigDict, path: str) -> Any:
    """What stands at a dotted path.

    Raises:
      ConfigError: nothing does.
    """
    node: Any = config
    parts = path.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, ConfigDict) or part not in node:
            raise _unknown(".".join(parts[: depth + 1]), node, part)
        node = node[part]
    return node


def resolve_path(config: ConfigDict, path: str) -> str:
    """The full path behind a short one: `ppo.clip` is `learner.clip` where the learner is ppo.

    The name of a selected plug-in stands for the section that selects it, unless a section has that name.
    """
    path = _MOVED.get(path, path)
    head, dot, rest = path.partition(".")
    if head in config or not dot:
        return path
    for section in plugin_sections(config):
        if at(config, section).name == head:
            return f"{section}.{rest}"
    return path


def plugin(section: str, name: str, /, **fields: Any) -> ConfigDict:
    """A section for the plug-in `name`: its defaults with `fields` on top.

    Args:
      section: a kind of plug-in, or the dotted path of a section that selects one (`baseline`, `plain.actor`).
      name: of the plug-in; empty for none.
      **fields: of its section.

    Raises:
      ConfigError: unknown name, unknown field, or a value of the wrong type.
    """
    made = ConfigDict({"name": name})
    if name:
        kind = plugin_kind(section)
        assert kind is not None, section
        made.update(registry.find(kind, name, section).default_config())
    for key, value in fields.items():
        set_field(made, key, value, prefix=section)
    return made


def load(path: str | Path) -> ConfigDict:
    """The ConfigDict of a config file.

    Raises:
      UserError: no such file, it has no `get_config`, its code fails, or it makes something else.
    """
    module = load_module(path)
    if not hasattr(module, "get_config"):
        raise UserError(f"--config {path} has no get_config()")
    with user_code(module.__file__):
        config = module.get_config()
        if isinstance(config, ConfigDict):
            config.copy_and_resolve_references()  # so that a field that is still to be computed fails here
            return config
        if inspect.iscoroutine(config):
            config.close()  # or Python says that it was never awaited
    raise UserError(f"--config {path}: get_config() returns {type(config).__name__}, must be a ConfigDict")


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Separates `--config.KEY=VALUE` and `--config.KEY VALUE` from the other arguments.

    Returns:
      (the other arguments, [(KEY, VALUE)] in the order given).

    Raises:
      UserError: a value is missing.
    """
    rest: list[str] = []
    overrides: list[tuple[str, str]] = []
    items = iter(argv)
    for item in items:
        if item.startswith("--config."):
            key, eq, value = item[len("--config.") :].partition("=")
            if not eq:
                value = next(items, "--")
                if value.startswith("--"):
                    raise UserError(f"--config.{key} needs a value: --config.{key}=VALUE")
            overrides.append((key, value))
        else:
            rest.append(item)
    return rest, overrides


def apply_overrides(config: ConfigDict, overrides: Iterable[tuple[str, str]]) -> ConfigDict:
    """Applies command-line overrides: plug-in names first, then everything else in order.

    Args:
      config: changed in place.
      overrides: (dotted key, text) pairs.

    Returns:
      `config`.

    Raises:
      ConfigError: unknown key, or a value of the wrong type.
    """
    overrides = list(overrides)
    for key, text in overrides:
        section, _, field = key.rpartition(".")
        if field == "name" and plugin_kind(section) and text != at(config, section).name:
            *parents, leaf = section.split(".")
            (at(config, ".".join(parents)) if parents else config)[leaf] = plugin(section, text)
    for key, text in overrides:
        parent, _, leaf = resolve_path(config, key).rpartition(".")
        node = at(config, parent) if parent else config
        if not isinstance(node, ConfigDict):
            raise ConfigError(key, text, f"{parent} is a value, not a section")
        set_field(node, leaf, _parse(text), prefix=parent, text=text)
    return config


def set_field(section: ConfigDict, leaf: str, value: Any, prefix: str = "", text: str | None = None) -> None:
    """Sets one existing field, converting only where nothing is lost (int to float, scalar to 1-tuple).

    Raises:
      ConfigError: the field does not exist or the type does not fit.
    """
    name = f"{prefix}.{leaf}" if prefix else leaf
    if leaf not in section:
        raise _unknown(name, section, leaf)
    made = converted(name, section[leaf], value, text)
    with section.ignore_type():
        section[leaf] = made


def _unknown(name: str, section: Any, leaf: str) -> ConfigError:
    known = list(section.keys()) if isinstance(section, ConfigDict) else []
    return ConfigError(name, "...", f"no such field; {nearest(leaf, known)}")


def _parse(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's compiler, on what is then taken as text
            return ast.literal_eval(text)
    except (
        ValueError,
        SyntaxError,
        TypeError,
        MemoryError,
        RecursionError,
    ):  # the last two: nested too deeply
        return {"true": True, "false": False}.get(text.lower(), text)


def converted(name: str, default: Any, value: Any, text: str | None = None) -> Any:
    """A value in the type of a field's default, where nothing is lost: an int as a float, a scalar as a 1-tuple.

    Args:
      name: dotted path of the field.
      default: of it.
      value: to convert.
      text: as it was typed; None where it was not.

    Raises:
      ConfigError: the type does not fit.
    """
    said = value if text is None else text
    if isinstance(default, ConfigDict):
        if isinstance(value, (dict, ConfigDict)):
            return _section(name, value)
        raise ConfigError(name, said, f"a section with fields {', '.join(default.keys())}")
    if isinstance(default, tuple):
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if default:
            return tuple(converted(name, default[0], item) for item in items)
        return items
    kind = next((kind for kind in WORDS if isinstance(default, kind)), None)
    if kind is str and text is not None:
        return value if isinstance(value, str) else text
    if kind is None:
        return value
    if not is_a(kind, value):
        raise ConfigError(name, said, f"must be {WORDS[kind]}")
    if kind is not float:
        return value
    try:
        return float(value)
    except OverflowError as error:
        raise ConfigError(name, said, "must be a finite number") from error


def _section(name: str, value: Any) -> ConfigDict:
    try:
        return ConfigDict(value)
    except Exception as error:  # fields that are no text, or with dots
        raise ConfigError(name, value, f"a section ({error})") from error


def check_range(
    name: str, value: float, low: float | None = None, high: float | None = None, *, open_low: bool = False
) -> None:
    """Raises ConfigError unless `low <= value <= high` (`low < value` where `open_low`); NaN never passes."""
    above = low is None or (value > low if open_low else value >= low)
    below = high is None or value <= high
    if not (above and below) or value != value:
        raise ConfigError(name, value, bounds(low, high, open_low))


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raises ConfigError, naming the nearest choices, unless `value` is one of them."""
    choices = list(choices)
    if value not in choices:
        raise ConfigError(name, value, one_of(str(value), choices))


def from_plain(value: dict[str, Any]) -> ConfigDict:
    """The ConfigDict behind the JSON that a run writes; lists become tuples."""

    def tuples(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: tuples(entry) for key, entry in item.items()}
        return tuple(map(tuples, item)) if isinstance(item, list) else item

    return ConfigDict(tuples(value))
