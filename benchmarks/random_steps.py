"""Random steps of the planar and MJX tasks: is anything ever not finite, do joints keep to their ranges?

    python -m benchmarks.random_steps [NAME ...] [--steps 1000000] [--physics]

Actions are uniform in the box; a quarter of the instances each holds them for 1, 4, 16 or 64 control steps on
average, so that some wander far. Episodes end as in training and begin anew. At the end half of the instances get
NaN in all floats of their state, and the program goes on. One JSON object a task:

  steps, physics     control steps of all instances together; steps of the physics, where the task is an arm's
  diverged           episodes that ended because something was not finite
  ended, truncated   episodes that the task ended, or its limit
  largest            largest absolute number observed
  beyond             largest excess of a joint over its range [m or rad], 0 for none; null without joints
  recovered          exactly the spoilt instances ended as diverged, and all numbers are finite again
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from mmbc_jax.cli import compilation_cache
from mmbc_jax.core import config, registry
from mmbc_jax.core.compiling import jit
from mmbc_jax.core.types import Array, State
from mmbc_jax.envs import wrappers
from mmbc_jax.envs._episode import finite

BATCH, SCAN = 256, 250
HELD = (1.0, 4.0, 16.0, 64.0)  # control steps of one action, on average
ROOMS = (".planar.", ".mjx.")


@dataclasses.dataclass(frozen=True)
class Found:
    """A line; see the module docstring."""

    env: str
    steps: int
    physics: int | None
    diverged: int
    ended: int
    truncated: int
    largest: float
    beyond: float | None
    recovered: bool
    seconds: float


def names() -> list[str]:
    """The tasks of `envs/planar` and `envs/mjx`."""
    return [name for name, path in registry.available("env").items() if any(room in path for room in ROOMS)]


def arm(env: Any) -> Any:
    """Its arm; None without one."""
    return getattr(env, "panda", getattr(getattr(env, "rod", None), "panda", None))


def beyond(env: Any) -> Callable[[State], Array] | None:
    """[B] largest excess of a joint over its range, of states [B]; None without joints."""
    if arm(env) is None:
        return None
    model = arm(env).model
    limited = model.jnt_limited.astype(bool) & (model.jnt_type >= int(mujoco.mjtJoint.mjJNT_SLIDE))
    at, ranges = model.jnt_qposadr[limited], model.jnt_range[limited].astype(np.float32)

    def excess(state: State) -> Array:
        data = state.data
        joints = (data["body"] if "body" in data else data["rod"].body).qpos[:, at]
        return jnp.maximum(jnp.maximum(ranges[:, 0] - joints, joints - ranges[:, 1]).max(-1), 0.0)

    return excess


def program(env: Any, batch: int, scan: int) -> tuple[Any, Any]:
    """(reset, play): play(state, action, key) is (state, action, figures) after `scan` control steps of `batch`."""
    batched, excess = wrappers.make(env), beyond(env)
    share = 1.0 / jnp.asarray(HELD)[jnp.arange(batch) % len(HELD)]

    def seen(state: State) -> dict[str, Array]:
        final = [x for x in jax.tree.leaves(state.info["final_obs"]) if jnp.issubdtype(x.dtype, jnp.inexact)]
        return {
            "diverged": state.info["diverged"].sum(),
            "ended": (state.done * (1.0 - state.info["truncation"]) - state.info["diverged"]).sum(),
            "truncated": state.info["truncation"].sum(),
            "largest": jnp.stack([jnp.abs(x).max() for x in final]).max() if final else jnp.zeros(()),
            "beyond": jnp.zeros(()) if excess is None else excess(state).max(),
        }

    def step(carry: tuple[State, Array], key: Array) -> tuple[tuple[State, Array], dict[str, Array]]:
        state, action = carry
        keys = jax.random.split(key, 3)
        fresh = jax.random.uniform(keys[0], action.shape, minval=-1.0)
        action = jnp.where((jax.random.uniform(keys[1], (batch,)) < share)[:, None], fresh, action)
        state = batched.step(state, action[:, None], keys[2])
        return (state, action), seen(state)

    def play(state: State, action: Array, key: Array) -> tuple[State, Array, dict[str, Array]]:
        (state, action), figures = jax.lax.scan(step, (state, action), jax.random.split(key, scan))
        add = {name: figures[name].sum() for name in ("diverged", "ended", "truncated")}
        return state, action, {name: x.max() for name, x in figures.items()} | add

    return jit(batched.reset, env.spec), jit(play, env.spec)


def spoilt(state: State, which: Array) -> State:
    """NaN in all floats of the data of `which` [B]."""

    def of(x: Array) -> Array:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        return jnp.where(which.reshape(-1, *(1,) * (x.ndim - 1)), jnp.nan, x)

    return state.replace(data=jax.tree.map(of, state.data))


def wander(env: Any, steps: int, physics: bool = False, batch: int = BATCH, scan: int = SCAN) -> Found:
    """Plays at least `steps` control steps, or with `physics` steps of the physics, rounded up to whole scans."""
    inner = arm(env).substeps if arm(env) else None
    reset, play = program(env, batch, scan)
    key_reset, key = jax.random.split(jax.random.key(0))
    state, action = reset(jax.random.split(key_reset, batch)), jnp.zeros((batch, env.spec.action_dim))
    began, found = time.perf_counter(), []
    count = math.ceil(steps / (batch * scan * (inner if physics and inner else 1)))
    for i in range(count):
        state, action, figures = play(state, action, jax.random.fold_in(key, i))
        found.append(jax.device_get(figures))
    seconds, half = time.perf_counter() - began, jnp.arange(batch) < batch // 2
    state, _, after = play(spoilt(state, half), action, jax.random.fold_in(key, count))
    good = jax.vmap(finite)((state.data, state.obs)).all()
    total = {k: int(sum(f[k] for f in found)) for k in ("diverged", "ended", "truncated")}
    most = {k: float(max(f[k] for f in found)) for k in ("largest", "beyond")}
    played = count * batch * scan
    return Found(
        env.spec.name,
        played,
        played * inner if inner else None,
        **total,
        largest=round(most["largest"], 3),
        beyond=most["beyond"] if inner else None,
        recovered=int(after["diverged"]) == batch // 2 and bool(good),
        seconds=round(seconds, 1),
    )


def main() -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="tasks; all of both rooms without")
    parser.add_argument("--steps", type=int, default=1_000_000, help="at least so many, of a task")
    parser.add_argument("--physics", action="store_true", help="count steps of an arm's physics")
    flags = parser.parse_args()
    compilation_cache()
    for name in flags.names or names():
        env = registry.build("env", config.plugin("env", name))
        print(json.dumps(dataclasses.asdict(wander(env, flags.steps, flags.physics))), flush=True)


if __name__ == "__main__":
    main()
