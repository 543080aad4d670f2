"""Demonstrations from an environment's own expert, balanced over its modes.

The executed action is the expert's plus Gaussian noise; the recorded one is the expert's own, at the state
the noise has led to. So the data show how to come back, which a clone needs to survive its own errors
(DART, Laskey et al. 2017, https://arxiv.org/abs/1703.09327).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.compiling import jit
from mmbc_jax.core.config import check_range
from mmbc_jax.core.errors import ConfigError, DataError
from mmbc_jax.core.protocols import Env, HasDemonstrated, demonstrates
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.envs import wrappers

MAX_BATCH = 2048
MAX_ROUNDS = 20
MAX_BYTES = 2**28  # of the observations of one batch, on the device


def record(env: Env, key: Key, num_episodes: int, noise: float, params: PyTree | None = None) -> Episodes:
    """Records successful expert episodes that reached the mode they were told to.

    Episode i pursues mode i mod K, so any number is balanced to within one episode per mode, and so is
    every prefix. Failed episodes are dropped and recorded again with new noise.

    Args:
      env: a bare environment with an expert.
      key: for initial states, expert and execution noise.
      num_episodes: E, at least 1.
      noise: standard deviation of the execution noise, in units of the action box [-1, 1].
      params: traced environment parameters; None for the defaults, or those of `HasDemonstrated`.

    Returns:
      E labelled episodes: observations and the expert's actions, both in physical units.

    Raises:
      ConfigError: the environment has no expert, or a number is out of range.
      DataError: the expert keeps failing some mode.
    """
    check_range("data.num_episodes", num_episodes, 1)
    check_range("data.noise", noise, 0.0)
    spec = env.spec
    if not demonstrates(getattr(env, "unwrapped", env)):
        raise ConfigError("env.name", spec.name, "an environment with an expert; give it a data file instead")
    params = demonstrated(env) if params is None else params
    wanted = np.arange(num_episodes) % spec.num_modes
    played: Any = env
    compiled, batch = _roll(played), min(num_episodes, _most(spec))
    done: dict[int, tuple[Any, np.ndarray]] = {}
    for round_key in jax.random.split(key, MAX_ROUNDS * -(-num_episodes // batch)):
        missing = np.array([i for i in range(num_episodes) if i not in done])
        slots = np.resize(missing, batch)  # spare rows try the missing ones again
        tried = compiled(
            round_key, jnp.asarray(wanted[slots], jnp.int32), jnp.asarray(noise, jnp.float32), params
        )
        obs, action, length, good = jax.device_get(tried)
        for row, slot in enumerate(slots):
            if good[row] and int(slot) not in done:
                done[int(slot)] = _rows((obs, action), row, length[row])
        if len(done) == num_episodes:
            break
    else:
        lost = sorted({int(wanted[i]) for i in range(num_episodes) if i not in done})
        raise DataError(
            f"the expert of {spec.name!r} kept failing mode {', '.join(map(str, lost))} with noise {noise}; "
            "lower data.noise"
        )
    ordered = [done[i] for i in range(num_episodes)]
    low, high = (np.asarray(bound, np.float32) for bound in (spec.action_low, spec.action_high))
    return Episodes(
        obs=jax.tree.map(lambda *parts: np.concatenate(parts), *(obs for obs, _ in ordered)),
        action=low + (np.concatenate([action for _, action in ordered]) + 1.0) / 2.0 * (high - low),
        ends=np.cumsum([len(action) for _, action in ordered]),
        mode=wanted,
        source=f"expert of {spec.name} (noise {noise})",
        num_modes=spec.num_modes,
    ).validate()


def _most(spec: EnvSpec) -> int:
    """Episodes of one batch."""
    return min(MAX_BATCH, max(MAX_BYTES // (spec.episode_length * spec.obs.nbytes), 1))


def _rows(recorded: PyTree, row: int, length: int) -> PyTree:
    """The steps of one episode, copied so that they do not keep a batch of images alive."""
    return jax.tree.map(lambda values: values[:length, row].copy(), recorded)


@lru_cache(maxsize=16)
def _roll(env: Any) -> Any:
    """`_played` in an environment, compiled as that needs it."""
    return jit(partial(_played, env), env.spec)


def _played(env: Any, key: Key, modes: Array, noise: Array, params: PyTree) -> tuple[Any, ...]:
    """One episode per mode of `modes` [B]: obs [T, B, ...], action [T, B, A], length [B], success [B]."""
    act = partial(told, env, modes)
    size = modes.shape[0]
    (obs, action), last = rolled_out(
        env, act, lambda state, action: (state.obs, action), key, size, noise, params
    )
    return obs, action, last.info["final_steps"], reached(last, modes)


def told(env: Any, modes: Array, state: State, key: Key) -> Array:
    """[B, A] in [-1, 1]: what the expert does in states [B] of `env` for modes [B]."""
    keys = jax.random.split(key, modes.shape[0])
    return jax.vmap(partial(wrappers.expert_action, env))(state, modes, keys)


def demonstrated(env: Any) -> PyTree:
    """The parameters under which the expert's episodes are recorded and judged: `HasDemonstrated`'s, or None."""
    bare = getattr(env, "unwrapped", env)
    return bare.demonstrated() if isinstance(bare, HasDemonstrated) else None


def reached(last: State, modes: Array) -> Array:
    """[B] bool: the episodes that ended in `last` are successes in the modes [B] that they were told."""
    return (last.metrics["success"] > 0) & (last.info["mode"] == modes)


def rolled_out(
    env: Any,
    act: Callable[[State, Key], Array],
    keep: Callable[[State, Array], PyTree],
    key: Key,
    size: int,
    noise: Array,
    params: PyTree = None,
) -> tuple[PyTree, State]:
    """Plays B episodes side by side to their ends; finished ones stay where they are.

    Args:
      env: a bare environment.
      act: (states [B], key) to actions [B, A].
      keep: (state, action) of all B to what is kept of a step.
      key: for first states, what `act` draws, and noise.
      size: B.
      noise: [] standard deviation of the execution noise.
      params: traced environment parameters; None for the defaults.

    Returns:
      (what was kept [T, ...], the last states [B]).
    """
    batched = wrappers.make(env, autoreset=None)
    reset_key, scan_key = jax.random.split(key)

    def body(state: State, key: Key) -> tuple[State, PyTree]:
        noise_key, act_key = jax.random.split(key)
        action = act(state, act_key)
        executed = action + noise * jax.random.normal(noise_key, action.shape)
        return batched.step(state, executed[:, None]), keep(state, action)

    start = batched.reset(jax.random.split(reset_key, size), params)
    last, kept = jax.lax.scan(body, start, jax.random.split(scan_key, env.spec.episode_length))
    return kept, last
