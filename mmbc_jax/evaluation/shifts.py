"""Other settings of the environment under which every stage is evaluated beside its own.

`evaluation.shifts` names them: "calm: start_noise=0, action_noise=0; push: action_noise=0.3". A setting changes
traced parameters of the environment (`Env.default_params`), so all of them are played by one compiled program.

A parameter with several values is a sweep, "late: action_delay=0 1 2 4": a setting for each, named late=0, late=1, ..
Where several parameters have several values, these go together, and the first names the setting.

What an environment lacks is added where a setting names it, for the evaluation alone: `perturbed()` has its own
further parameters (dynamics, a block), `envs.wrappers.Perturbed` the noises and the delay that every one can have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp

from mmbc_jax.core.errors import ConfigError, nearest
from mmbc_jax.core.options import Options
from mmbc_jax.core.protocols import Env, HasPerturbed
from mmbc_jax.core.texts import listed_parts
from mmbc_jax.core.types import PyTree
from mmbc_jax.diagnostics.strengths import OF
from mmbc_jax.envs import wrappers

FIELD = "evaluation.shifts"
_LARGEST = float(jnp.finfo(jnp.float32).max)


@dataclasses.dataclass(frozen=True)
class Shift:
    """One entry of `evaluation.shifts`.

    Attributes:
      name: of the entry.
      values: {parameter: its values}, the first the parameter that names the settings; n values each, or one.
    """

    name: str
    values: Mapping[str, tuple[float, ...]]

    @property
    def parameter(self) -> str:
        """The first that has several values; the first of all where none has."""
        several = (name for name, values in self.values.items() if len(values) > 1)
        return next(several, next(iter(self.values)))

    @property
    def strengths(self) -> tuple[float, ...]:
        """Those of `parameter`, which tell the settings apart."""
        return self.values[self.parameter]

    @property
    def is_sweep(self) -> bool:
        """Whether there are several."""
        return len(self.strengths) > 1

    def settings(self) -> Iterator[tuple[str, dict[str, float]]]:
        """(name, {parameter: value}) of each."""
        for i, strength in enumerate(self.strengths):
            name = f"{self.name}{OF}{strength:.6g}" if self.is_sweep else self.name
            yield name, {name: values[i % len(values)] for name, values in self.values.items()}


def read_shifts(text: str) -> list[Shift]:
    """The entries of the text in `evaluation.shifts`.

    Raises:
      ConfigError: it is not of the form of the module docstring, or names something twice.
    """
    found: dict[str, Shift] = {}
    for part in listed_parts(text):
        name, colon, listed = (piece.strip() for piece in part.partition(":"))
        if not (colon and name.isidentifier()) or name in found:
            raise ConfigError(FIELD, part, 'settings of different names, "name: parameter=value, ...; ..."')
        values: dict[str, tuple[float, ...]] = {}
        for item in (piece.strip() for piece in listed.split(",")):
            parameter, _, value = (piece.strip() for piece in item.partition("="))
            numbers = _numbers(value)
            if parameter in values or not numbers:
                raise ConfigError(FIELD, item, "parameter=number, finite in float32, every parameter once")
            if len(set(numbers)) < len(numbers):
                raise ConfigError(FIELD, item, "several values that differ")
            values[parameter] = numbers
        if len({len(numbers) for numbers in values.values()} | {1}) > 2:
            raise ConfigError(FIELD, part, "as many values of every parameter that has several")
        found[name] = Shift(name, values)
    return list(found.values())


def _numbers(text: str) -> tuple[float, ...]:
    """The numbers of a text with spaces between them; empty where one is none, or not finite in float32."""
    try:
        numbers = tuple(map(float, text.split()))
    except ValueError:
        return ()
    return numbers if all(abs(number) <= _LARGEST for number in numbers) else ()


def parse_shifts(text: str) -> dict[str, dict[str, float]]:
    """{name of the setting: {parameter: value}} of the text in `evaluation.shifts`; raises as `read_shifts`."""
    return {name: values for shift in read_shifts(text) for name, values in shift.settings()}


def played_env(text: str, env: Env | None) -> Any:
    """The environment in which every setting is a matter of parameters: itself, where it has them all.

    Raises:
      ConfigError: as `read_shifts`; or there is no environment.
    """
    settings = parse_shifts(text).values()
    if not settings:
        return env
    if env is None:
        raise ConfigError(FIELD, text, "empty: env.name is empty, so nothing is played")
    named = {parameter for values in settings for parameter in values}
    if isinstance(env, HasPerturbed) and named & (_scalars(env.perturbed()) - _scalars(env)):
        env = env.perturbed()
    every = wrappers.PerturbedOptions(section=FIELD)
    added = {field.name for field, _ in every.stated()} - _scalars(env)
    if named & added and isinstance(env.default_params(), Mapping):
        for shift in read_shifts(text):
            _check(every, shift)
        late = "action_delay" in added
        most = max((values.get("action_delay", 0.0) for values in settings), default=0.0) if late else 0.0
        return wrappers.Perturbed(env, int(most))
    return env


def _scalars(env: Any) -> set[str]:
    """Names of its parameters that are one number."""
    params = env.default_params()
    known = params.items() if isinstance(params, Mapping) else ()
    return {name for name, value in known if not isinstance(value, Mapping) and jnp.ndim(value) == 0}


def shifted_params(text: str, env: Env | None) -> dict[str, PyTree]:
    """{name: parameters of `played_env`} of every setting.

    Args:
      text: as of `read_shifts`.
      env: the bare environment; None where there is none.

    Raises:
      ConfigError: as `played_env`; it has no such parameter, or not with such a value.
    """
    played, settings = played_env(text, env), parse_shifts(text)
    if not settings:
        return {}
    known = _scalars(played) | (_scalars(env.perturbed()) if isinstance(env, HasPerturbed) else set())
    options = getattr(getattr(played, "unwrapped", played), "options", None)
    for shift in read_shifts(text):
        for parameter in shift.values:
            if parameter not in _scalars(played):
                more = {field.name for field, _ in wrappers.PerturbedOptions.stated()}
                raise ConfigError(
                    FIELD, parameter, f"a parameter of the environment; {nearest(parameter, known | more)}"
                )
        if isinstance(options, Options):
            _check(options, shift)
    defaults = played.default_params()
    return {
        name: {
            **defaults,
            **{field: jnp.asarray(value, defaults[field].dtype) for field, value in values.items()},
        }
        for name, values in settings.items()
    }


def _check(options: Options, shift: Shift) -> None:
    """Raises ConfigError where options of the same names could not have these values; of a sweep, the strongest."""
    own = {field.name: rule for field, rule in options.stated() if field.name in shift.values}
    for name, rule in own.items():
        for value in shift.values[name]:
            whole = not isinstance(getattr(options, name), int) or value.is_integer()
            if not (whole and rule.fits(value)):
                allowed = "" if whole else "a whole number; "
                raise ConfigError(FIELD, f"{name}={value:g}", f"needs {allowed}{rule.allowed()}")
    try:
        options.replace(**{name: max(shift.values[name], key=abs) for name in own}).check()
    except ConfigError as error:
        raise ConfigError(FIELD, f"{error.field.rpartition('.')[2]}={error.value}", error.allowed) from None
