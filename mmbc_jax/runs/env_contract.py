"""Whether an environment keeps the contract of `core.protocols.Env`: asked of its shapes, before anything compiles.

What is asked costs one trace of `reset` and `step`. An answer is one line that names the environment, what is wrong,
and, where the environment itself raises, the file and line of its author.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.core.keys import seeded
from mmbc_jax.core.types import EnvSpec

FIELD = "env.name"
_PARTS = ("data", "obs", "reward", "done", "metrics", "info")
_TRACED = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.ConcretizationTypeError,
)


def check_env(env: Any, name: str) -> None:
    """Asks an environment for its first state and the one after it, as shapes.

    Args:
      env: bare.
      name: as configured, for messages.

    Raises:
      ConfigError: it breaks the contract, or one of its functions raises.
    """
    missing = [part for part in ("spec", "default_params", "reset", "step") if not hasattr(env, part)]
    if missing or not isinstance(env.spec, EnvSpec):
        _refuse(name, f"an environment with {', '.join(missing) or 'an EnvSpec as its spec'}")
    with reported(env, name, "default_params"):
        params = jax.eval_shape(env.default_params)
    with reported(env, name, "reset"):
        first = jax.eval_shape(env.reset, jax.eval_shape(lambda: seeded(0)), params)
    _check_state(env.spec, first, name, "reset")
    action = jax.ShapeDtypeStruct((env.spec.action_dim,), jnp.float32)
    with reported(env, name, "step"):
        second = jax.eval_shape(env.step, first, action)
    _check_state(env.spec, second, name, "step")
    if changed := next(changes(first, second), None):
        _refuse(name, f"an environment whose step returns a state like that of reset: {changed[1]}")


@contextmanager
def reported(env: Any, name: str, function: str) -> Iterator[None]:
    """Raises what is not a UserError as one that names the environment, and the line of its author where it is from.

    Args:
      env: bare; None while it is being built.
      name: as configured.
      function: what is called.

    Raises:
      ConfigError: anything but a UserError was raised.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever an author's code raises
        lines = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        if isinstance(error, _TRACED):
            said = f"{type(error).__name__}: JAX traces it, so numbers are not known: use jax.numpy and jnp.where"
        _refuse(name, f"its {function} fails{_where(env, error)}: {said[:300]}", error)


def _where(env: Any, error: Exception) -> str:
    """' at FILE, line N' of the innermost line that is the author's; '' where there is none."""
    bare = getattr(env, "unwrapped", env)
    own = getattr(sys.modules.get(type(bare).__module__), "__file__", None)
    libraries = tuple(str(Path(module.__file__ or "").parent) for module in (jax, jnp, sys.modules["numpy"]))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith((*libraries, "<"))
    ]
    ours = [frame for frame in frames if frame.filename == own] or frames
    return f" at {ours[-1].filename}, line {ours[-1].lineno}" if ours else ""


def _refuse(name: str, what: str, cause: Exception | None = None) -> None:
    raise ConfigError(FIELD, name, what) from cause


def _check_state(spec: EnvSpec, state: Any, name: str, function: str) -> None:
    """Raises ConfigError unless a state has the parts that are asked of every state."""
    if wrong := _wrong(spec, state):
        _refuse(name, f"an environment whose {function} returns a state {wrong}")


def _wrong(spec: EnvSpec, state: Any) -> str:
    """What is wrong with a state, as the end of a sentence about what it needs; '' where nothing is."""
    return next(faults(spec, state), "")


def faults(spec: EnvSpec, state: Any) -> Iterator[str]:
    """Everything that is wrong with a state, each as the end of a sentence about what it needs."""
    if lacking := [part for part in _PARTS if not hasattr(state, part)]:
        yield f"with {', '.join(lacking)} (see core.types.State), not a {type(state).__name__}"
        return
    if mismatch := spec.obs.mismatch(state.obs):
        yield f"whose obs is as spec.obs says: it {mismatch}"
    else:
        named = spec.obs.named(state.obs)
        for entry_name, entry in spec.obs.entries:
            if jnp.result_type(named[entry_name]) != jnp.dtype(entry.dtype):
                given = jnp.result_type(named[entry_name])
                yield f"whose obs is as spec.obs says: {entry_name} is {given}, not {jnp.dtype(entry.dtype)}"
    maps = [part for part in ("metrics", "info") if isinstance(getattr(state, part), Mapping)]
    for part in ("metrics", "info"):
        if part not in maps:
            yield f"whose {part} is a dict, not a {type(getattr(state, part)).__name__}"
    for part, needed in (("metrics", ("success", *spec.summed)), ("info", ("mode", "params"))):
        if part in maps and (absent := [key for key in needed if key not in getattr(state, part)]):
            yield f"with {' and '.join(f'{part}[{key!r}]' for key in absent)}"
    scalars = {"reward": state.reward, "done": state.done}
    if "metrics" in maps:
        scalars |= {f"metrics[{key!r}]": value for key, value in state.metrics.items()}
    for part, value in scalars.items():
        if not _is_scalar(value, jnp.floating):
            yield f"whose {part} is a float without axes, not {_shown(value)}"
    if "info" in maps and "mode" in state.info and not _is_scalar(state.info["mode"], jnp.integer):
        yield f"whose info['mode'] is an int32 without axes, not {_shown(state.info['mode'])}"


def _is_scalar(value: Any, kind: Any) -> bool:
    return hasattr(value, "shape") and value.shape == () and bool(jnp.issubdtype(value.dtype, kind))


def _shown(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "shape") else repr(value)


def changes(first: Any, second: Any) -> Iterator[tuple[str, str]]:
    """(leaf, what differs between the two states there, in words), everything that does."""
    before, after = (
        {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
        for state in (first, second)
    )
    for path in dict.fromkeys((*before, *after)):
        if path not in before or path not in after:
            yield path, f"{path} is in that of {'step' if path in after else 'reset'} alone"
        elif _shown(before[path]) != _shown(after[path]):
            yield path, f"{path} is {_shown(before[path])} after reset and {_shown(after[path])} after step"
    kinds: list[Any] = [jax.tree.structure(state) for state in (first, second)]
    if set(before) == set(after) and kinds[0] != kinds[1]:
        yield "", "its containers are of other kinds"
