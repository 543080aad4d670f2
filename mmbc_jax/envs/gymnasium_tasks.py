"""The tasks as Gymnasium environments: `TaskVectorEnv`, whose instances step together in one program, and `TaskEnv`.

    import gymnasium
    import mmbc_jax.envs.gymnasium_tasks
    envs = gymnasium.make_vec("mmbc_jax/avoiding-v0", num_envs=64, vectorization_mode="vector_entry_point")

Importing this module registers every task as `mmbc_jax/<name>-v0`. NumPy goes in and out. Observations are in
physical units, images bytes; actions are in physical units, as in recorded data, or in [-1, 1] of the task's bounds
with `units="box"`. Info holds `mode`, the label of the way that the episode takes (-1 while undecided or failed), and
`success`, whether it counts as one so far.

A vector resets itself in the same step (`metadata["autoreset_mode"]` is SAME_STEP): where an episode ended, the
observation, `mode` and `success` are those of the next one, and `final_obs` and `final_info` those of the one that
ended. Rows of `final_obs` and `final_info` mean something where their mask `_final_obs` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core import config, registry
from mmbc_jax.core.compiling import jit
from mmbc_jax.core.errors import UserError, one_of, shown
from mmbc_jax.core.extras import imported
from mmbc_jax.core.keys import seeded
from mmbc_jax.core.types import Array, EnvSpec, Key, State
from mmbc_jax.envs import wrappers
from mmbc_jax.ops.action_scale import boxed

gymnasium = imported("gymnasium", "gym", "mmbc_jax.envs.gymnasium_tasks")
imported("gymnasium.vector", "gym", "mmbc_jax.envs.gymnasium_tasks")
_Env: Any = gymnasium.Env
_VectorEnv: Any = gymnasium.vector.VectorEnv
UNITS = ("physical", "box")
_SEEDS = 2**32


class _Task:
    """A task with its spaces, and how actions of those become the environment's."""

    def __init__(self, task: str, units: str, options: Mapping[str, Any]):
        if units not in UNITS:
            raise UserError(f"units = {shown(units)} {one_of(str(units), UNITS)}")
        section = config.plugin("env", task)
        for name, value in options.items():
            config.set_field(section, name, value, "env")
        self.env = registry.build("env", section)
        spec: EnvSpec = self.env.spec
        self.low, self.high = (np.asarray(bound, np.float32) for bound in (spec.action_low, spec.action_high))
        self.physical = units == "physical"
        if self.physical and not np.isfinite([self.low, self.high]).all():
            raise UserError(f"units = 'physical' is not allowed: the actions of {task!r} have no bounds")
        one = np.ones_like(self.low)
        low, high = (self.low, self.high) if self.physical else (-one, one)
        spaces = gymnasium.spaces
        self.action_space = spaces.Box(low, high, dtype=np.float32)
        boxes = {
            name: spaces.Box(-np.inf, np.inf, entry.shape, np.float32)
            if entry.kind == "vector"
            else spaces.Box(0, 255, entry.shape, np.uint8)
            for name, entry in spec.obs.entries
        }
        self.observation_space = next(iter(boxes.values())) if spec.obs.plain else spaces.Dict(boxes)

    def boxed(self, action: Any) -> np.ndarray:
        """Actions [..., A] as the environment takes them, clipped to [-1, 1]."""
        action = np.asarray(action, np.float32)
        if self.physical:
            action = boxed(action, self.low, self.high)
        return np.clip(action, -1.0, 1.0)


def _numpy(obs: Any) -> Any:
    """Observations as NumPy arrays of their own."""
    return jax.tree.map(np.array, obs)


def _drawn_seed(random: np.random.Generator) -> int:
    return int(random.integers(_SEEDS))


class TaskVectorEnv(_VectorEnv):
    """B instances of a task; see the module docstring.

    Args:
      task: as typed in `env.name`.
      num_envs: B.
      units: of actions, one of `UNITS`.
      options: of the task, as in the section `env`.

    Raises:
      UserError: there is no such task, or an option that cannot work.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    def __init__(self, task: str, num_envs: int = 1, units: str = "physical", **options: Any):
        if num_envs < 1:
            raise UserError(f"num_envs = {num_envs} must be at least 1")
        self._task = _Task(task, units, options)
        self.num_envs = num_envs
        self.single_observation_space = self._task.observation_space
        self.single_action_space = self._task.action_space
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        env = wrappers.make(self._task.env)
        self._reset = jit(env.reset, env.spec)
        self._step = jit(lambda state, action, key: env.step(state, action[:, None], key), env.spec)
        self._state: State | None = None
        self._key: Key = seeded(0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts B episodes.

        Args:
          seed: below 2^32; the same one gives the same start states and all that follows. None goes on from before.
          options: unused.

        Returns:
          (observations [B, ...], info).
        """
        super().reset(seed=seed)
        made = seeded(_drawn_seed(self.np_random) if seed is None else seed)
        self._key, key_reset = jax.random.split(made)
        self._state = self._reset(jax.random.split(key_reset, self.num_envs))
        return _numpy(self._state.obs), self._info(self._state, np.zeros(self.num_envs, bool))

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step of all instances with actions [B, A].

        Returns:
          (observations, rewards [B], terminated [B], truncated [B], info).
        """
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        self._key, key = jax.random.split(self._key)
        self._state = state = self._step(self._state, jnp.asarray(self._task.boxed(actions)), key)
        done, cut = np.asarray(state.done) > 0, np.asarray(state.info["truncation"]) > 0
        reward = np.asarray(state.reward, np.float64)
        return _numpy(state.obs), reward, done & ~cut, done & cut, self._info(state, done)

    def _info(self, state: State, done: np.ndarray) -> dict[str, Any]:
        everywhere = np.ones(self.num_envs, bool)
        success = np.asarray(state.metrics["success"]) > 0
        info = {"mode": np.array(state.info["mode"], np.int64), "success": success & ~done}
        info |= {f"_{name}": everywhere for name in tuple(info)}
        if done.any():
            final = {"mode": np.array(state.info["final_mode"], np.int64), "success": success, "_mode": done}
            info |= {"final_obs": _numpy(state.info["final_obs"]), "_final_obs": done}
            info |= {"final_info": final | {"_success": done}, "_final_info": done}
        return info


class TaskEnv(_Env):
    """One instance of a task, for what takes only such; a `TaskVectorEnv` costs hardly more for many.

    Args:
      task: as typed in `env.name`.
      units: of actions, one of `UNITS`.
      options: of the task, as in the section `env`.

    Raises:
      UserError: there is no such task, or an option that cannot work.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, task: str, units: str = "physical", **options: Any):
        self._task = _Task(task, units, options)
        self.observation_space, self.action_space = self._task.observation_space, self._task.action_space
        env = wrappers.Episode(self._task.env, self._task.env.spec.episode_length)
        self._reset, self._step = jit(env.reset, env.spec), jit(env.step, env.spec)
        self._state: State | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; `seed` and `options` as of `TaskVectorEnv.reset`."""
        super().reset(seed=seed)
        self._state = self._reset(seeded(_drawn_seed(self.np_random) if seed is None else seed))
        return _numpy(self._state.obs), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control step with an action [A]: (observation, reward, terminated, truncated, info)."""
        if self._state is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        boxed: Array = jnp.asarray(self._task.boxed(action))
        self._state = state = self._step(self._state, boxed)
        done, cut = bool(state.done > 0), bool(state.info["truncation"] > 0)
        return _numpy(state.obs), float(state.reward), done and not cut, done and cut, self._info()

    def _info(self) -> dict[str, Any]:
        assert self._state is not None
        return {"mode": int(self._state.info["mode"]), "success": bool(self._state.metrics["success"] > 0)}


def _register() -> None:
    here = "mmbc_jax.envs.gymnasium_tasks"
    for name in registry.available("env"):
        if (known := f"mmbc_jax/{name}-v0") not in gymnasium.registry and name != "brax":
            gymnasium.register(
                known,
                entry_point=f"{here}:TaskEnv",
                vector_entry_point=f"{here}:TaskVectorEnv",
                kwargs={"task": name},
            )


_register()
