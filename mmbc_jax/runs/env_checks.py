"""What is wrong with an environment that keeps its contract: asked of its numbers, by playing it.

Contract and shapes are `runs.env_contract`. Here it is reset and stepped in a batch, with random actions and by its
own expert, and each sentence says what a training on it would only have shown as a low success.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.compiling import jit
from mmbc_jax.core.keys import seeded
from mmbc_jax.core.protocols import demonstrates
from mmbc_jax.core.types import EnvSpec, Key, PyTree
from mmbc_jax.evaluation import experts
from mmbc_jax.runs.env_contract import changes, faults

_EPISODES = 32
_CALLED = {"mode": "info['mode']"}
_REACHES = 0.5  # share of its episodes in which an expert reaches the mode that it pursues


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found of an environment.

    Attributes:
      errors: sentences; none where it can be trained on.
      remarks: sentences on what may be as it was meant.
      line: its figures.
    """

    errors: list[str]
    remarks: list[str]
    line: str


def contract_faults(env: Any) -> list[str]:
    """Every fault of the states of an environment that can be traced, as sentences.

    Of the state after a step only where the first one has none; what is asked of every state is then not said again
    as a difference between the two.
    """
    params = jax.eval_shape(env.default_params)
    first = jax.eval_shape(env.reset, jax.eval_shape(lambda: seeded(0)), params)
    if found := [f"reset must return a state {fault}" for fault in faults(env.spec, first)]:
        return found
    second = jax.eval_shape(env.step, first, jax.ShapeDtypeStruct((env.spec.action_dim,), jnp.float32))
    found = [f"step must return a state {fault}" for fault in faults(env.spec, second)]
    asked = (".obs", ".reward", ".done", ".metrics", ".info['mode']") if found else ()
    unlike = [said for path, said in changes(first, second) if not path.startswith(asked)]
    return found + [f"step must return a state like that of reset: {said}" for said in unlike]


def spec_faults(spec: EnvSpec) -> list[str]:
    """What an `EnvSpec` states of itself that cannot be, as sentences."""
    found = []
    for name in ("action_low", "action_high"):
        if len(getattr(spec, name)) != spec.action_dim:
            found.append(
                f"spec.{name} has {len(getattr(spec, name))} entries, must have action_dim = {spec.action_dim}"
            )
    if not found:
        bad = [i for i, (a, b) in enumerate(zip(spec.action_low, spec.action_high, strict=True)) if not a < b]
        found += [f"spec.action_low must be below action_high; it is not for action {i}" for i in bad]
    if spec.mode_names and len(spec.mode_names) != spec.num_modes:
        found.append(
            f"spec.mode_names has {len(spec.mode_names)} labels, must have num_modes = {spec.num_modes}"
        )
    if spec.episode_length < 1:
        found.append(f"spec.episode_length is {spec.episode_length}, must be at least 1")
    if any(not 0 <= i < spec.obs.size for i in spec.position):
        found.append(
            f"spec.position is {spec.position}, must be numbers of the observation below {spec.obs.size}"
        )
    return found


def played(env: Any, key: Key) -> Found:
    """Plays an environment whose contract and spec are right.

    Args:
      env: bare.
      key: for resets, actions and the expert.
    """
    key_walk, key_expert, key_cost = jax.random.split(key, 3)
    errors, remarks = _impure(env), []
    starts, walked, resets = jax.device_get(jit(partial(_walk, env), env.spec)(key_walk))
    errors += _of_numbers(env.spec, starts, walked)
    if not errors and _same(resets):
        remarks.append(
            "every reset gives the same observation: if starts are meant to vary, draw them from the key"
        )
    expert = ""
    if demonstrates(env) and not errors:
        success = experts.success_by_mode(env, key_expert, _EPISODES)
        expert = (
            f", its expert reaches its mode in {success.min():.2f} to {success.max():.2f} of the episodes"
        )
        if missed := np.flatnonzero(success < _REACHES).tolist():
            labels = ", ".join(env.spec.mode_labels[mode] for mode in missed)
            errors.append(
                f"the expert reaches mode {labels} in {success[missed].max():.2f} of {_EPISODES} episodes or fewer: "
                "demonstrations would be failures (reached is metrics['success'] > 0 with the mode in info['mode'] "
                "when an episode ends)"
            )
    elif not errors:
        remarks.append(_no_expert(env))
    spec = env.spec
    cost = (
        ""
        if errors
        else f", {experts.cost(env, key_cost).steps_per_second:,.0f} control steps/s in a batch of 256"
    )
    sizes = ", ".join(f"{name} {list(entry.shape)}" for name, entry in spec.obs.entries)
    line = f"observes {sizes}, {spec.action_dim} actions, {spec.episode_length} steps, {spec.num_modes} modes"
    return Found(errors, remarks, f"{line}{expert}{cost}")


def _no_expert(env: Any) -> str:
    if env.spec.num_modes:
        return (
            "it has modes and no expert(state, mode, key): demonstrations must come from a file (data.path)"
        )
    return "it labels no modes: what asks for them is left out; info['mode'] must be -1 then"


def _walk(env: Any, key: Key) -> tuple[PyTree, PyTree, PyTree]:
    """(states after reset [B], states after each step [T, B] of random actions, observations of other resets)."""
    key_reset, key_act = jax.random.split(key)
    first = jax.vmap(lambda one: env.reset(one, env.default_params()))(jax.random.split(key_reset, _EPISODES))

    def seen(state: Any) -> dict[str, Any]:
        numbers = {"reward": state.reward, "done": state.done, "mode": state.info["mode"]}
        named = {f"obs {name}": x for name, x in env.spec.obs.named(state.obs).items()}
        return {**numbers, **named, **{f"metrics[{name!r}]": x for name, x in state.metrics.items()}}

    def step(state: Any, key: Key) -> tuple[Any, dict[str, Any]]:
        action = jax.random.uniform(key, (_EPISODES, env.spec.action_dim), minval=-1.0, maxval=1.0)
        after = jax.vmap(env.step)(state, action)
        return after, seen(after)

    length = min(env.spec.episode_length, 200)
    _, walked = jax.lax.scan(step, first, jax.random.split(key_act, length))
    return seen(first), walked, env.spec.obs.named(first.obs)


def _same(resets: PyTree) -> bool:
    return all(bool((np.asarray(x) == np.asarray(x)[:1]).all()) for x in jax.tree.leaves(resets))


def _of_numbers(spec: EnvSpec, starts: dict[str, Any], walked: dict[str, Any]) -> list[str]:
    """Sentences on values that cannot be: not finite, or outside of what they stand for."""
    found = []
    done = (np.asarray(walked["done"]) > 0).astype(np.int64)
    ended = np.cumsum(done, axis=0) - done > 0
    for name, first in starts.items():
        values = np.concatenate([np.asarray(first)[None], np.asarray(walked[name])])
        alive = np.concatenate([np.zeros_like(ended[:1]), ended]) == 0
        shape = (*alive.shape, *[1] * (values.ndim - 2))
        bad = ~np.isfinite(values.astype(np.float64)) & alive.reshape(shape)
        if bad.any():
            step, *rest = (int(i) for i in np.argwhere(bad)[0])
            when = "after reset" if step == 0 else f"after step {step}"
            place = f", column {', '.join(map(str, rest[1:]))}," if rest[1:] else ""
            found.append(
                f"{name}{place} is {values[(step, *rest)]} {when} of an episode of random actions; must be finite"
            )
    running = {name: np.where(ended, np.nan, np.asarray(walked[name], np.float64)) for name in _checked(spec)}
    for name, values in running.items():
        low, high, wanted = _bounds(spec, name)
        wrong = values[np.isfinite(values) & ((values < low) | (values > high))]
        if wrong.size:
            found.append(
                f"{_CALLED.get(name, name)} is {wrong[0]:g} in an episode of random actions; must be {wanted}"
            )
    return found


def _checked(spec: EnvSpec) -> list[str]:
    return ["done", "mode", *(["metrics['success']"] if spec.has_success else [])]


def _bounds(spec: EnvSpec, name: str) -> tuple[float, float, str]:
    if name != "mode":
        return 0.0, 1.0, "0 to 1"
    most = spec.num_modes - 1
    return -1.0, most, f"-1 (none) to {most}" if spec.num_modes else "-1, since spec.num_modes is 0"


def _impure(env: Any) -> list[str]:
    """Whether tracing twice gives two programs: random numbers of NumPy or Python, counters, clocks."""
    params = env.default_params()
    state = jax.eval_shape(lambda: env.reset(seeded(0), params))
    action = jax.ShapeDtypeStruct((env.spec.action_dim,), jnp.float32)
    calls = {"reset": lambda: jax.make_jaxpr(lambda key: env.reset(key, params))(seeded(0))}
    calls["step"] = lambda: jax.make_jaxpr(env.step)(state, action)
    found = []
    for name, make in calls.items():
        if not _equal(make(), make()):
            found.append(
                f"{name} is another program each time that it is traced: numbers of numpy.random, random or a clock "
                "are drawn once and stay; draw them from the key with jax.random"
            )
    return found


def _equal(one: Any, other: Any) -> bool:
    if str(one.jaxpr) != str(other.jaxpr):
        return False
    pairs = zip(one.consts, other.consts, strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y), equal_nan=True) for x, y in pairs)
