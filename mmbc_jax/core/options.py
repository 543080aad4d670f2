"""Options: the one statement of what a section of the configuration holds.

A plug-in or a section is configured by a frozen dataclass whose fields say everything about an option: default,
bounds or choices, one line of help, and whether it is a traced scalar that a sweep varies without recompiling:

  @dataclasses.dataclass(frozen=True, kw_only=True)
  class EulerOptions(Options):
      steps: int = option(10, "network evaluations per sample", low=1)

From it come the defaults (`to_config`), the checks and their errors (`from_config`), the traced scalars
(`traced`), `--help` and the table of options in the docs (`describe`).
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core.errors import ConfigError, bounds, one_of

WORDS: dict[Any, str] = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
"""What an option of a type is called in messages."""
_HIDDEN = ("section", "name")
_MOST = 2**31 - 1  # programs count in 32 bits
_LARGEST = float(np.finfo(np.float32).max)  # and calculate in float32
_Value = TypeVar("_Value")


@dataclasses.dataclass(frozen=True)
class Rule:
    """What an option says of itself.

    Attributes:
      help: one line.
      low: smallest value, of every entry where the option is a tuple; None for none.
      high: largest value; None for none.
      open_low: `low` itself is not allowed.
      choices: allowed values; None for any.
      length: number of entries of a tuple; None for any.
      filled: a tuple must not be empty.
      traced: a scalar that is traced, so that a sweep over it never recompiles.
    """

    help: str
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    choices: tuple[object, ...] | None = None
    length: int | None = None
    filled: bool = False
    traced: bool = False

    def allowed(self) -> str:
        """What is allowed, in words; empty where everything is."""
        parts = []
        if self.choices is not None:
            parts.append(f"one of {', '.join(map(str, self.choices))}")
        if self.low is not None or self.high is not None:
            left = "" if self.low is None else f"{self.low} {'<' if self.open_low else '<='} "
            right = "" if self.high is None else f" <= {self.high}"
            parts.append(f"{left}value{right}")
        if self.length is not None:
            parts.append(f"{self.length} values")
        if self.filled:
            parts.append("at least one value")
        return "; ".join(parts)

    def fits(self, value: Any) -> bool:
        """Whether one entry lies within the bounds; NaN never does."""
        if (value := _number(value)) is None:
            return True
        above = self.low is None or (value > self.low if self.open_low else value >= self.low)
        return bool(above and (self.high is None or value <= self.high))

    def holds(self, value: Any) -> str:
        """Why a program could not hold one entry, in words; empty where it can.

        Numbers are finite in float32, and whole ones at most 2^31 - 1 unless `high` allows more.
        """
        if (value := _number(value)) is None:
            return ""
        if not isinstance(value, int):
            return "" if abs(value) <= _LARGEST else "a finite number in float32"
        most = _MOST if self.high is None else max(_MOST, self.high)
        return "" if abs(value) <= most else f"lower: at most {_MOST}"


def _number(value: object) -> Any:
    """The value itself where it is a number, which True is not."""
    return value if isinstance(value, numbers.Real) and not isinstance(value, bool) else None


def option(
    default: _Value,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    choices: Sequence[object] | None = None,
    length: int | None = None,
    filled: bool = False,
    traced: bool = False,
) -> _Value:
    """A field of an `Options` class; the arguments are the attributes of `Rule`.

    To a type checker it is its default, which must have the type that the field is declared with.
    """
    allowed = None if choices is None else tuple(choices)
    rule = Rule(help, low, high, open_low, allowed, length, filled, traced)
    return dataclasses.field(default=default, metadata={"rule": rule})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all options; subclasses are frozen keyword-only dataclasses whose fields are made by `option`.

    Attributes:
      section: of the configuration that these values come from; errors name it.
      name: under which the plug-in was configured, with its argument (`brax:reacher`).
    """

    section: str = dataclasses.field(default="", repr=False, compare=False)
    name: str = dataclasses.field(default="", repr=False, compare=False)

    @classmethod
    def stated(cls) -> Iterator[tuple[dataclasses.Field[Any], Rule]]:
        """The options in the order of their definition, those of a base class first."""
        for field in dataclasses.fields(cls):
            if field.name not in _HIDDEN:
                yield field, field.metadata["rule"]

    @classmethod
    def to_config(cls) -> ConfigDict:
        """The section with every option at its default."""
        values: dict[str, Any] = {}
        for field, _ in cls.stated():
            default = field.default
            values[field.name] = default.to_config() if isinstance(default, Options) else default
        return ConfigDict(values)

    @classmethod
    def traced(cls) -> tuple[str, ...]:
        """Names of the traced scalars."""
        return tuple(field.name for field, rule in cls.stated() if rule.traced)

    @classmethod
    def from_config(cls, cfg: ConfigDict, section: str) -> Self:
        """The checked options behind a section.

        Args:
          cfg: with every field of `to_config`; others are left alone.
          section: its dotted path, for errors.

        Raises:
          ConfigError: a value is of another type, out of bounds, not among the choices or more than a program can
            hold, or the fields do not go together.
        """
        values: dict[str, Any] = {}
        own: Any = cls
        for field, rule in cls.stated():
            value = cfg[field.name]
            if isinstance(field.default, Options):
                values[field.name] = type(field.default).from_config(value, f"{section}.{field.name}")
                continue
            value = tuple(value) if isinstance(value, (list, tuple)) else value
            path = f"{section}.{field.name}".lstrip(".")
            _check_type(path, value, _hints(own)[field.name])
            _check(path, value, rule)
            values[field.name] = value
        found = cls(section=section, name=cfg.get("name") or "", **values)
        found.check()
        return found

    def check(self) -> None:
        """Raises ConfigError where options do not go together; subclasses say which."""

    def error(self, field: str, allowed: str) -> ConfigError:
        """The error that `field` does not have an allowed value."""
        return ConfigError(f"{self.section}.{field}".lstrip("."), getattr(self, field), allowed)

    def replace(self, **changes: Any) -> Self:
        """A copy with other values, unchecked."""
        return dataclasses.replace(self, **changes)


@functools.cache
def _hints(options: Any) -> dict[str, Any]:
    """{field: the type that it is declared with} of a class of options."""
    return typing.get_type_hints(options)


def _check_type(path: str, value: object, hint: Any) -> None:
    """Raises ConfigError unless a value is of the type that its option is declared with."""
    many = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if many else hint
    if kind not in WORDS:
        return
    if many != isinstance(value, tuple):
        words = f"a tuple, each entry {WORDS[kind]}" if many else WORDS[kind]
        raise ConfigError(path, value, f"must be {words}")
    for item in value if isinstance(value, tuple) else (value,):
        if not is_a(kind, item):
            raise ConfigError(path, item, f"must be {WORDS[kind]}")


def is_a(kind: Any, value: object) -> bool:
    """Whether a value may stand in an option of type bool, int, float or str: True is no number, 1 is a float."""
    accepted = numbers.Real if kind is float else kind
    return isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))


def _check(path: str, value: object, rule: Rule) -> None:
    if isinstance(value, tuple) and (
        (rule.filled and not value) or (rule.length is not None and len(value) != rule.length)
    ):
        raise ConfigError(path, value, f"must have {rule.allowed()}")
    for item in value if isinstance(value, tuple) else (value,):
        if rule.choices is not None and item not in rule.choices:
            raise ConfigError(path, item, one_of(str(item), map(str, rule.choices)))
        if not rule.fits(item):
            each = "each " if isinstance(value, tuple) else ""
            raise ConfigError(path, value, each + bounds(rule.low, rule.high, rule.open_low))
        if why := rule.holds(item):
            raise ConfigError(path, item, why)


@dataclasses.dataclass(frozen=True)
class Described:
    """One row of a table of options.

    Attributes:
      path: dotted, as on the command line behind `--config.`.
      default: its value.
      allowed: in words; empty where everything of that type is.
      traced: whether a sweep varies it without recompiling.
      help: one line.
    """

    path: str
    default: object
    allowed: str
    traced: bool
    help: str


def describe(options: type[Options], section: str) -> list[Described]:
    """The options of a class, nested ones too, as rows of a table."""
    rows: list[Described] = []
    for field, rule in options.stated():
        path = f"{section}.{field.name}".lstrip(".")
        if isinstance(field.default, Options):
            rows += describe(type(field.default), path)
        else:
            rows.append(Described(path, field.default, rule.allowed(), rule.traced, rule.help))
    return rows
