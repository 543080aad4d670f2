"""Functional wrappers: episodes, chunks, batches and automatic resets over the `Env` protocol.

`make` stacks them as `AutoReset(Vectorised(Chunk(Episode(History(env)))))`, `History` only where more than the last
observation is wanted. An observation is whatever `spec.obs` describes, an array or a dict of arrays. Every key exists
from reset on, so a state can be carried through `lax.scan`. Keys of `State.info`, with the wrapper that owns them:

  key            shape      owner      meaning
  params         pytree     env        traced environment parameters, kept over resets
  mode           [] int32   env        mode label, -1 while undecided or failed; of the running episode
  horizon        [] int32   Episode    control steps after which this episode is truncated (traced)
  steps          [] int32   Episode    control steps of the running episode
  truncation     [] float   Episode    1 where the limit ended the episode and the environment did not
  diverged       [] float   Episode    1 where the episode ended because the environment was no longer finite
  began          dict       Episode    of the running episode: "over" [] float, 1 where it was over before its first
                                       step; "success" [] float at its start, where it is latched the highest so far
  discount       [] float   Chunk      gamma^k, k the control steps just executed (Episode alone: 1)
  final_obs      as obs     Episode    observation after this step, before any reset
  final_mode     [] int32   Episode    mode label after this step, before any reset
  final_steps    [] int32   Episode    steps of the episode after this step, before any reset
  path           [h, 2]     Chunk      (on demand) plotted position after each executed control step, the last one
                                       repeated; physical units
  perturbed      dict       Perturbed  (where used) its key, step, late actions, and the observation without noise
  first          dict       AutoReset  ("cached" only) data, obs, and mode and began in info, of the first reset

After an automatic reset `obs`, `data`, `info["mode"]`, `info["steps"]` and `info["began"]` belong to the new episode;
`reward`, `done`, `metrics`, `truncation`, `diverged`, `discount`, `path` and the `final_*` keys still speak of the
finished step. It is terminal, with no value to bootstrap, where `done` is 1 and `truncation` is 0; elsewhere the
target is `reward + discount * V(final_obs)`. `metrics["reward"]` is the undiscounted reward of the decision.

What every user of the wrappers can rely on:

- Success is the metric of that name at the end of an episode; where `spec.latched`, whether it ever was above 0.
- An episode that begins `done` has ended with 0 steps: it counts, is paid nothing, and its success is that of its
  first state. An environment that resets itself spends the next step on it, in which nothing is executed and of
  which nothing is learned, and begins another.
- An episode whose data, observation, reward, done or success is no longer finite has failed (`Episode`): nothing
  that is not finite leaves, and the instance is reset like any other that ended.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.protocols import Env
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.envs._base_wrapper import Wrapper, expert_action, plotted, where
from mmbc_jax.envs._episode import Episode
from mmbc_jax.envs._obs_history import History
from mmbc_jax.envs._perturbed import Perturbed, PerturbedOptions
from mmbc_jax.ops.unrolled import rolled

__all__ = ["AUTORESET", "AutoReset", "Chunk", "Episode", "History", "Vectorised", "Wrapper"]
__all__ += ["Perturbed", "PerturbedOptions"]
__all__ += ["expert_action", "make", "plotted", "where"]

AUTORESET = ("full", "cached")


class Chunk(Wrapper):
    r"""Executes the first actions of a chunk as one decision; for one instance.

    With k <= h executed steps, reward = sum_{i<k} gamma^i r_i and info["discount"] = gamma^k, so that
    `reward + discount * V(final_obs)` is the k-step return. Nothing changes after the episode's end: a state
    that comes in with `done` set executes no step and earns nothing.
    The metric "reward" and those of `spec.summed` are added up over the chunk, undiscounted; the others are the last.

    Args:
      env: an `Episode`.
      exec_len: h, control steps executed of every chunk.
      gamma: discount per control step; may be a traced scalar.
      path: keep the plotted positions of the chunk in info["path"].
    """

    def __init__(self, env: Episode, exec_len: int, gamma: float | Array, path: bool = False):
        check_range("env.exec_len", exec_len, 1)
        super().__init__(env)
        self.exec_len, self.gamma, self.path = exec_len, gamma, path

    def reset(self, key: Key, params: PyTree | None = None, horizon: Array | int | None = None) -> State:
        """As `Episode.reset`; every entry of the path is the first position."""
        state = self.env.reset(key, params, horizon)
        if not self.path:
            return state
        path = jnp.broadcast_to(plotted(self.env, state), (self.exec_len, 2))
        return state.replace(info=state.info | {"path": path})

    def step(self, state: State, chunk: Array) -> State:
        """Executes `chunk[:h]` ([H >= h, A], clipped to [-1, 1]) until the episode ends.

        Raises:
          ValueError: the chunk is shorter than h.
        """
        if chunk.shape[0] < self.exec_len:
            raise ValueError(f"a chunk of {chunk.shape[0]} actions cannot fill {self.exec_len} steps")
        actions = jnp.clip(chunk[: self.exec_len], -1.0, 1.0)
        info = {k: v for k, v in state.info.items() if k != "path"}
        start = state.replace(info=info)
        sums = {k: jnp.zeros_like(state.metrics[k]) for k in ("reward", *self.spec.summed)}

        def body(carry: tuple, action: Array) -> tuple[tuple, Array | None]:
            current, reward, discount, sums = carry
            alive = current.done == 0
            stepped = self.env.step(current, action)
            reward = reward + jnp.where(alive, discount * stepped.reward, 0.0)
            sums = {k: v + jnp.where(alive, stepped.metrics[k], 0.0) for k, v in sums.items()}
            discount = jnp.where(alive, discount * self.gamma, discount)
            current = where(alive, stepped, current)
            return (current, reward, discount, sums), plotted(self.env, current) if self.path else None

        carry = (start, jnp.zeros(()), jnp.ones(()), sums)
        (last, reward, discount, sums), path = jax.lax.scan(body, carry, actions)
        visited = {"path": path} if self.path else {}
        return last.replace(
            reward=reward,
            metrics=last.metrics | sums,
            info=last.info | {"discount": discount} | visited,
        )


class Vectorised(Wrapper):
    """vmaps an environment over B instances."""

    def reset(self, key: Key, params: PyTree | None = None, horizon: Array | int | None = None) -> State:
        """Starts B episodes.

        Args:
          key: [B] keys.
          params: None, a pytree shaped as `default_params()` (shared), or with a leading axis B on
            some or all of its leaves (one value per instance).
          horizon: None, [] or [B] int32.

        Returns:
          State with a leading axis B on every leaf.
        """
        defaults = self.default_params()
        params = defaults if params is None else params
        axes = jax.tree.map(lambda p, d: 0 if jnp.ndim(p) > jnp.ndim(d) else None, params, defaults)
        if horizon is None:
            return jax.vmap(self.env.reset, in_axes=(0, axes))(key, params)
        horizon = jnp.asarray(horizon, jnp.int32)
        return jax.vmap(self.env.reset, in_axes=(0, axes, 0 if horizon.ndim else None))(key, params, horizon)

    def step(self, state: State, action: Array) -> State:
        """Steps all instances with action [B, ...]."""
        return jax.vmap(self.env.step)(state, action)


class AutoReset(Wrapper):
    """Starts a new episode wherever one has ended; see the module docstring for what stays visible.

    Args:
      env: a `Vectorised`.
      mode: "full" draws a new initial state at every end; "cached" returns to the instance's first one.
    """

    KEEP = ("truncation", "diverged", "discount", "path", "final_obs", "final_mode", "final_steps")

    def __init__(self, env: Vectorised, mode: Literal["full", "cached"] = "full"):
        check_choice("env.autoreset", mode, AUTORESET)
        super().__init__(env)
        self.mode = mode

    def reset(self, key: Key, params: PyTree | None = None, horizon: Array | int | None = None) -> State:
        """As `Vectorised.reset`, with info["first"] where the mode is "cached"."""
        state = self.env.reset(key, params, horizon)
        if self.mode == "full":
            return state
        info = {"mode": state.info["mode"], "began": state.info["began"]}
        first = {"data": state.data, "obs": state.obs, "info": info}
        return state.replace(info=state.info | {"first": first})

    def step(
        self, state: State, action: Array, key: Key | None = None, horizon: Array | int | None = None
    ) -> State:
        """Steps all instances and resets those that ended.

        Args:
          state: [B] batch of states.
          action: [B, ...] actions or chunks.
          key: [] for the new initial states; needed in mode "full", unused in "cached".
          horizon: None to keep each instance's horizon, or [] or [B] int32 for episodes that start now.

        Returns:
          The next state.

        Raises:
          ValueError: no key in mode "full".
        """
        first = state.info.get("first")
        nstate = self.env.step(_running(state), action)
        ended = nstate.done > 0
        limit = nstate.info["horizon"]
        limit = limit if horizon is None else jnp.broadcast_to(jnp.asarray(horizon, jnp.int32), limit.shape)
        if self.mode == "full":
            if key is None:
                raise ValueError("an environment with full resets needs a key at every step")
            fresh = self.env.reset(jax.random.split(key, ended.shape[0]), nstate.info["params"], limit)
            fresh = rolled(fresh)  # keys that an environment keeps are of one type whatever it was given
            start = {"data": fresh.data, "obs": fresh.obs, "info": fresh.info}
        else:
            assert first is not None
            restart = first["info"] | {"steps": jnp.zeros_like(nstate.info["steps"]), "horizon": limit}
            start = {"data": first["data"], "obs": first["obs"], "info": nstate.info | restart}
        start["info"] = start["info"] | {k: nstate.info[k] for k in self.KEEP if k in nstate.info}
        merged = where(ended, start, {"data": nstate.data, "obs": nstate.obs, "info": nstate.info})
        if first is not None:
            merged["info"]["first"] = first
        return nstate.replace(**merged)


def _running(state: State) -> State:
    """A state after automatic resets that speaks of the running episodes alone, for those that are over already."""
    began, zeros = state.info["began"], jnp.zeros_like(state.done)
    own = {"final_obs": state.obs, "final_mode": state.info["mode"], "final_steps": state.info["steps"]}
    info = {k: v for k, v in state.info.items() if k != "first"}
    info |= own | {"truncation": zeros, "diverged": zeros}
    metrics = state.metrics | {"success": began["success"].astype(state.metrics["success"].dtype)}
    return state.replace(done=began["over"], info=info, metrics=metrics)


def make(
    env: Env,
    exec_len: int = 1,
    gamma: float | Array = 1.0,
    autoreset: Literal["full", "cached"] | None = "full",
    length: int | None = None,
    observe: int = 1,
    path: bool = False,
) -> Any:
    """Stacks the wrappers.

    Args:
      env: a bare environment.
      exec_len: h, control steps per decision.
      gamma: discount per control step.
      autoreset: "full", "cached", or None for evaluation, where finished instances stay frozen.
      length: control steps per episode; None for `env.spec.episode_length`.
      observe: T_o, observations of the last control steps that are seen at once.
      path: keep the plotted positions of every decision in info["path"].

    Returns:
      A batched environment: `reset(keys [B], params=None, horizon=None)` and `step(state, chunk [B, H, A])`,
      the latter with `key` and `horizon` where it resets.
    """
    seen = env if observe == 1 else History(env, observe)
    episode = Episode(seen, env.spec.episode_length if length is None else length)
    batched = Vectorised(Chunk(episode, exec_len, gamma, path))
    return batched if autoreset is None else AutoReset(batched, autoreset)
