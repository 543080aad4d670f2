"""What an environment's expert does in each of its modes, and what the environment costs."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.compiling import jit
from mmbc_jax.core.picturing import HasFrame, HasPlotted
from mmbc_jax.core.protocols import HasExpert
from mmbc_jax.core.types import Array, Key, PyTree, State
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
      steps_per_second: control steps, of all of them together.
    """

    compile_seconds: float
    steps_per_second: float


BATCH, STEPS = 256, 32
"""Environments and control steps of the measured program, where nothing else is said."""


def has_expert(env: Any) -> bool:
    """Whether its modes can be demonstrated."""
    modes: int = env.spec.num_modes
    return isinstance(env, HasExpert) and modes > 0


def show(env: Any, key: Key, modes: np.ndarray, noise: float = 0.0, keep: Any = None) -> Shown:
    """Plays an episode for each entry of `modes`.

    Args:
      env: a bare environment.
      key: for first states, expert and noise.
      modes: [B] int, each in [0, K), or -1 for an episode of random actions.
      noise: standard deviation of the execution noise, in units of the action box.
      keep: function of a state to what is kept of it; None for nothing.
    """
    run = jit(partial(_episodes, env, keep), env.spec)
    path, states, mode, success, length = jax.device_get(
        run(key, jnp.asarray(modes, jnp.int32), jnp.asarray(noise, jnp.float32))
    )
    reached = (success > 0) & ((mode == modes) | (np.asarray(modes) < 0))
    return Shown(np.asarray(modes), reached, length, path, states)


def _episodes(env: Any, keep: Any, key: Key, modes: Array, noise: Array) -> tuple[Any, ...]:
    batched = wrappers.make(env, autoreset=None)
    bare, size = getattr(env, "unwrapped", env), modes.shape[0]
    reset_key, scan_key = jax.random.split(key)

    def seen(state: State) -> tuple[Any, Any]:
        path = jax.vmap(partial(_position, bare))(state) if plots(bare) else None
        return path, None if keep is None else jax.vmap(keep)(state)

    def body(state: State, key: Key) -> tuple[State, tuple[Any, Any]]:
        noise_key, expert_key, random_key = jax.random.split(key, 3)
        shape = (size, env.spec.action_dim)
        action = jax.random.uniform(random_key, shape, minval=-1.0, maxval=1.0)
        if has_expert(bare):
            known = jax.vmap(bare.expert)(state, jnp.maximum(modes, 0), jax.random.split(expert_key, size))
            action = jnp.where((modes >= 0)[:, None], jnp.clip(known, -1.0, 1.0), action)
        executed = action + noise * jax.random.normal(noise_key, shape)
        after = batched.step(state, executed[:, None])
        return after, seen(after)

    start = batched.reset(jax.random.split(reset_key, size))
    last, later = jax.lax.scan(body, start, jax.random.split(scan_key, env.spec.episode_length))
    path, states = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), seen(start), later)
    return path, states, last.info["mode"], last.metrics["success"], last.info["final_steps"]


def plots(env: Any) -> bool:
    """Whether it has a plane to plot in."""
    return isinstance(env, HasPlotted) or len(env.spec.position) == 2


def _position(env: Any, state: State) -> Array:
    if isinstance(env, HasPlotted):
        return env.plotted(state)
    return env.spec.obs.flat(state.obs)[jnp.asarray(env.spec.position)]


def frame_of(env: Any) -> Any:
    """What to keep of a state to see it: its picture; None where an environment draws none on the device."""
    return env.frame if isinstance(env, HasFrame) else None


def success_by_mode(env: Any, key: Key, episodes: int) -> np.ndarray:
    """[K] share of `episodes` in which the expert reached the mode that it pursued."""
    shown = show(env, key, np.repeat(np.arange(env.spec.num_modes), episodes))
    return shown.success.reshape(env.spec.num_modes, episodes).mean(1)


def cost(env: Any, key: Key, batch: int = BATCH, steps: int = STEPS) -> Cost:
    """Compiles a scan over `steps` random actions in `batch` environments and times its second run."""
    batched = wrappers.make(env)

    def play(state: State, key: Key) -> State:
        def body(state: State, key: Key) -> tuple[State, None]:
            key_action, key_step = jax.random.split(key)
            action = jax.random.uniform(key_action, (batch, 1, env.spec.action_dim), minval=-1.0, maxval=1.0)
            return batched.step(state, action, key_step), None

        return jax.lax.scan(body, state, jax.random.split(key, steps))[0]

    key_reset, *keys = jax.random.split(key, 3)
    state = jit(batched.reset, env.spec)(jax.random.split(key_reset, batch))
    began = time.perf_counter()
    program = jit(play, env.spec).lower(state, keys[0]).compile()
    compiled = time.perf_counter() - began
    state = jax.block_until_ready(program(state, keys[0]))
    began = time.perf_counter()
    jax.block_until_ready(program(state, keys[1]))
    return Cost(compiled, batch * steps / (time.perf_counter() - began))
