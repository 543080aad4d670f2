"""Other settings of the environment under which every stage is evaluated beside its own.

`evaluation.shifts` names them: "calm: start_noise=0, action_noise=0; push: action_noise=0.3". A setting changes
traced parameters of the environment (`Env.default_params`), so all of them are played by one compiled program.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

from mmbc_jax.core.errors import ConfigError, nearest
from mmbc_jax.core.protocols import Env
from mmbc_jax.core.texts import listed_parts
from mmbc_jax.core.types import PyTree

FIELD = "evaluation.shifts"
_LARGEST = float(jnp.finfo(jnp.float32).max)


def parse_shifts(text: str) -> dict[str, dict[str, float]]:
    """{name of the setting: {parameter: value}} of the text in `evaluation.shifts`.

    Raises:
      ConfigError: it is not of the form of the module docstring, or names something twice.
    """
    found: dict[str, dict[str, float]] = {}
    for part in listed_parts(text):
        name, colon, listed = (piece.strip() for piece in part.partition(":"))
        if not (colon and name.isidentifier()) or name in found:
            raise ConfigError(FIELD, part, 'settings of different names, "name: parameter=value, ...; ..."')
        found[name] = {}
        for item in (piece.strip() for piece in listed.split(",")):
            parameter, _, value = (piece.strip() for piece in item.partition("="))
            try:
                number = float(value)
            except ValueError:
                number = float("nan")
            if parameter in found[name] or not abs(number) <= _LARGEST:
                raise ConfigError(FIELD, item, "parameter=number, finite in float32, every parameter once")
            found[name][parameter] = number
    return found


def shifted_params(text: str, env: Env | None) -> dict[str, PyTree]:
    """{name: parameters of the environment} of every setting.

    Args:
      text: as of `parse_shifts`.
      env: the bare environment; None where there is none.

    Raises:
      ConfigError: as `parse_shifts`; there is no environment, or it has no such parameter.
    """
    settings = parse_shifts(text)
    if not settings:
        return {}
    if env is None:
        raise ConfigError(FIELD, text, "empty: env.name is empty, so nothing is played")
    defaults = env.default_params()
    known = defaults if isinstance(defaults, Mapping) else {}
    plain = [name for name, value in known.items() if not isinstance(value, Mapping) and jnp.ndim(value) == 0]
    for values in settings.values():
        for parameter in values:
            if parameter not in plain:
                raise ConfigError(
                    FIELD, parameter, f"a parameter of the environment; {nearest(parameter, plain)}"
                )
    return {
        name: {**known, **{field: jnp.asarray(value, jnp.float32) for field, value in values.items()}}
        for name, values in settings.items()
    }
