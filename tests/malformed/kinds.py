"""Bad values for every option of every plug-in and section, by kind of badness."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin, plugin_kind, plugin_sections
from mmbc_jax.core.options import Options, Rule
from mmbc_jax.runs.run_options import RunOptions
from mmbc_jax.runs.sections import base_config, fixed_sections


@dataclasses.dataclass(frozen=True)
class Target:
    """An option: its path, the plug-in that must be selected for it to exist, and what it states of itself."""

    path: str
    selected: tuple[str, str] | None
    default: Any
    rule: Rule
    stated_in: type

    @property
    def choice(self) -> list[str]:
        """The override that selects its plug-in."""
        return [f"--config.{self.selected[0]}.name={self.selected[1]}"] if self.selected else []

    def put(self, config: ConfigDict, value: object) -> None:
        """Sets it as a config file could, whatever the type."""
        if self.selected:
            *parents, leaf = self.selected[0].split(".")
            holder = config
            for parent in parents:
                holder = holder[parent]
            holder[leaf] = plugin(*self.selected)
        *parents, leaf = self.path.split(".")
        for parent in parents:
            config = config[parent]
        with config.unlocked(), config.ignore_type():
            config[leaf] = value


def _of(options: type[Options], section: str, selected: tuple[str, str] | None = None) -> Iterator[Target]:
    for field, rule in options.stated():
        path = f"{section}.{field.name}".lstrip(".")
        if isinstance(field.default, Options):
            yield from _of(type(field.default), path, selected)
        else:
            where = next(
                one for one in reversed(options.__mro__) if field.name in vars(one).get("__annotations__", {})
            )
            yield Target(path, selected, field.default, rule, where)


def targets() -> list[Target]:
    """Every option of the neutral configuration with each plug-in selected in turn."""
    found = list(_of(RunOptions, ""))
    for name, options in fixed_sections().items():
        found += _of(options, name)
    for section in plugin_sections(base_config()):
        kind = plugin_kind(section)
        for name in registry.available(kind):
            options = registry.find(kind, name, section).options
            found += _of(options, section, (section, name)) if options else []
    return found


def distinct() -> list[Target]:
    """Each option once, whichever plug-ins and sections share it."""
    once: dict[tuple[type, str], Target] = {}
    for target in targets():
        once.setdefault((target.stated_in, target.path.rpartition(".")[2]), target)
    return list(once.values())


def _item(target: Target) -> Any:
    hint = target.default
    if not isinstance(hint, tuple):
        return hint
    if hint:
        return hint[0]
    return {"angles": 0, "weights": 0.0}.get(target.path.rpartition(".")[2], "")


def texts(target: Target) -> dict[str, str]:
    """{kind of badness: text behind `=` on the command line}."""
    rule, item, many = target.rule, _item(target), isinstance(target.default, tuple)
    tail = "," if many else ""
    found: dict[str, str] = {}
    if isinstance(item, bool):
        found = {
            "word": "maybe",
            "number": "3",
            "none": "None",
            "empty": "()",
            "list": "[True]",
            "dict": "{}",
        }
    elif isinstance(item, (int, float)):
        found = {
            "word": f"many{tail}",
            "nan": f"nan{tail}",
            "truth": f"True{tail}",
            "none": f"None{tail}",
            "infinite": f"1e400{tail}",
            "long": "9" * 400 + tail,
            "longer": "0x" + "f" * 20_000 + tail,
            "complex": f"1j{tail}",
            "bytes": f"b'1'{tail}",
            "dict": "{}" + tail,
            "set": "{1, 2}" + tail,
            "unhashable": "{[]: 1}" + tail,
            "nested": "-" * 5000 + "1" + tail,
            "list in a list": "[[1]]",
        }
        if not many:
            found |= {"empty": "()", "list": "[1]", "pair": "(1, 1)", "blank": ""}
        if isinstance(item, int):
            found |= {"fraction": f"1.5{tail}", "31 bits": f"{max(2**31, rule.high or 0) + 1:.0f}{tail}"}
        else:
            found |= {"float32": f"1e39{tail}"}
        if rule.low is not None:
            found["low"] = f"{rule.low if rule.open_low else rule.low - 1}{tail}"
        if rule.high is not None:
            found["high"] = f"{rule.high + 1}{tail}"
    elif rule.choices is not None:
        found = {"choice": "nonesuch", "number": "3", "none": "None", "dict": "{}"}
        if not many:
            found |= {"empty": "()", "blank": "", "list": f"[{target.default!r}]"}
            if "" in rule.choices:
                del found["blank"]
    if many and rule.filled:
        found |= {"empty": "()", "blank": ""}
    if many and rule.length is not None:
        found["length"] = f"{(*target.default, *target.default)}"
    if target.path in ("diagnostics", "figures"):
        found = {"choice": "nonesuch", "import": "no.module:figure", "relative": "..up:figure"}
    return found


class Strange:
    """An object that cannot even be written down."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


def values(target: Target) -> dict[str, Any]:
    """{kind of badness: value that only a config file can set}."""
    item, many = _item(target), isinstance(target.default, tuple)
    found: dict[str, Any] = {
        "none": None,
        "dict": {"a": 1},
        "array": np.zeros(3),
        "object": Strange(),
        "section": ConfigDict({"a": 1}),
        "complex": 1j,
        "bytes": b"x",
        "set": {1},
        "nested": ((1,), (2,)),
        "mixed": (target.default, None),
        "function": len,
    }
    if isinstance(item, (int, float)) and not isinstance(item, bool):
        found |= {
            "nan": float("nan"),
            "infinite": float("inf"),
            "nan of numpy": np.float32("nan"),
            "text": "1",
        }
        if isinstance(item, int):  # a ConfigDict itself makes floats of whole numbers and of True
            found |= {"huge": 10**400, "truth": True}
    elif isinstance(item, bool):
        found |= {"number": 1, "text": "True"}
    else:
        found |= {"number": 3, "truth": True}
    if many:
        found |= {"one bad": (item, object()), "scalar": 1j}
    return found
