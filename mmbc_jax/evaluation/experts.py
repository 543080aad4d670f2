"""What an environment's expert does in each of its modes, and what the environment costs."""

from __future__ import annotations

import dataclasses
import statistics
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.compiling import jit
from mmbc_jax.core.picturing import HasFrame, plots
from mmbc_jax.core.protocols import demonstrates
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.data.collect import demonstrated, reached, rolled_out, told
from mmbc_jax.envs import wrappers


@dataclasses.dataclass(frozen=True)
class Shown:
    """Episodes of an expert, or of actions at random where there is none.

    Attributes:
      mode: [B] that was pursued; -1 for none.
      success: [B] bool, that mode was reached.
      length: [B] control steps.
      path: [T + 1, B, 2] plotted positions, held after the end; None where there are none.
      states: what was kept of each state, with leading axes [T + 1, B]; None where nothing was.
    """

    mode: np.ndarray
    success: np.ndarray
    length: np.ndarray
    path: np.ndarray | None
    states: PyTree


@dataclasses.dataclass(frozen=True)
class Cost:
    """What it takes to play.

    Attributes:
      compile_seconds: of the program.
      steps_per_second: control steps of all environments together, in the median of the timed runs.
    """

    compile_seconds: float
    steps_per_second: float


BATCH, STEPS = 256, 32
"""Environments and control steps of the measured program, where nothing else is said."""


def show(env: Any, key: Key, modes: np.ndarray, noise: float = 0.0, keep: Any = None) -> Shown:
    """Plays an episode for each entry of `modes`, of the task that the expert demonstrates.

    Args:
      env: a bare environment.
      key: for first states, expert and noise.
      modes: [B] int, each in [0, K), or -1 for an episode of random actions.
      noise: standard deviation of the execution noise, in units of the action box.
      keep: function of a state to what is kept of it; None for nothing.
    """
    run = jit(partial(_episodes, env, keep), env.spec)
    path, states, success, length = jax.device_get(
        run(key, jnp.asarray(modes, jnp.int32), jnp.asarray(noise, jnp.float32))
    )
    return Shown(np.asarray(modes), success, length, path, states)


def _episodes(env: Any, keep: Any, key: Key, modes: Array, noise: Array) -> tuple[Any, ...]:
    bare, size = getattr(env, "unwrapped", env), modes.shape[0]

    def act(state: State, key: Key) -> Array:
        key_expert, key_random = jax.random.split(key)
        shape = (size, env.spec.action_dim)
        action = jax.random.uniform(key_random, shape, minval=-1.0, maxval=1.0)
        if not demonstrates(bare):
            return action
        known = told(env, jnp.maximum(modes, 0), state, key_expert)
        return jnp.where((modes >= 0)[:, None], known, action)

    def seen(state: State, action: Any = None) -> tuple[Any, Any]:
        path = jax.vmap(partial(wrappers.plotted, bare))(state) if plots(bare, env.spec) else None
        return path, None if keep is None else jax.vmap(keep)(state)

    before, last = rolled_out(env, act, seen, key, size, noise, demonstrated(env))
    path, states = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), before, seen(last))
    success = jnp.where(modes < 0, last.metrics["success"] > 0, reached(last, modes))
    return path, states, success, last.info["final_steps"]


def frame_of(env: Any) -> Any:
    """What to keep of a state to see it: its picture; None where an environment draws none on the device."""
    return env.frame if isinstance(env, HasFrame) else None


def success_by_mode(env: Any, key: Key, episodes: int) -> np.ndarray:
    """[K] share of `episodes` in which the expert reached the mode that it pursued."""
    shown = show(env, key, np.repeat(np.arange(env.spec.num_modes), episodes))
    return shown.success.reshape(env.spec.num_modes, episodes).mean(1)


def cost(env: Any, key: Key, batch: int = BATCH, steps: int = STEPS, repeats: int = 1) -> Cost:
    """Compiles a scan over `steps` random actions in `batch` environments, runs it once, and times `repeats` runs."""
    batched = wrappers.make(env)

    def play(state: State, key: Key) -> State:
        def body(state: State, key: Key) -> tuple[State, None]:
            key_action, key_step = jax.random.split(key)
            action = jax.random.uniform(key_action, (batch, 1, env.spec.action_dim), minval=-1.0, maxval=1.0)
            return batched.step(state, action, key_step), None

        return jax.lax.scan(body, state, jax.random.split(key, steps))[0]

    key_reset, key_first, *keys = jax.random.split(key, 2 + repeats)
    state = jit(batched.reset, env.spec)(jax.random.split(key_reset, batch))
    began = time.perf_counter()
    program = jit(play, env.spec).lower(state, key_first).compile()
    compiled, taken = time.perf_counter() - began, []
    state = jax.block_until_ready(program(state, key_first))
    for each in keys:
        began = time.perf_counter()
        jax.block_until_ready(program(state, each))
        taken.append(time.perf_counter() - began)
    return Cost(compiled, batch * steps / statistics.median(taken))
