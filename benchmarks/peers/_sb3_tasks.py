"""Stable-Baselines3's PPO on a task, through its Gymnasium vector: the adapter and the training."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.comparison import bring_in
from benchmarks.peers import _first_episodes as first
from benchmarks.peers.sb3 import NEEDS
from mmbc_jax.core.errors import UserError

MODULES = ("stable_baselines3", "stable_baselines3.common.vec_env", "gymnasium.spaces")


@dataclasses.dataclass(frozen=True)
class Training:
    """Sizes of a training; the rates and the loss are SB3's defaults where not here."""

    env_steps: int = 200_000
    envs: int = 64
    rollout: int = 32
    batch: int = 512
    rate: float = 1e-3
    episodes: int = 1024


def adapted(base: type, envs: Any) -> Any:
    """A `TaskVectorEnv` as SB3's `VecEnv`.

    SB3's convention: an environment resets itself in the step that ends it, as ours do; what it then looked like is
    in its info as "terminal_observation", and "TimeLimit.truncated" says whether to bootstrap from there. "episode"
    holds return and length, from which SB3 logs.

    Args:
      base: `stable_baselines3.common.vec_env.VecEnv`.
      envs: the vector, with actions in the units that the policy shall use.
    """

    class Tasks(base):
        """All instances."""

        def __init__(self) -> None:
            super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
            self.start_seed: int | None = None

        def seed(self, seed: int | None = None) -> list[int | None]:
            self.start_seed = seed
            return [seed] * self.num_envs

        def reset(self) -> np.ndarray:
            obs, _ = envs.reset(seed=self.start_seed)
            self.start_seed = None  # a second reset goes on, as SB3 has it
            self.returns, self.lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64)
            return obs

        def step_async(self, actions: np.ndarray) -> None:
            self.actions = actions

        def step_wait(self) -> tuple[Any, ...]:
            obs, reward, terminated, truncated, info = envs.step(self.actions)
            self.returns += reward
            self.lengths += 1
            infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
            done = terminated | truncated
            for i in np.flatnonzero(done):
                infos[i] = {
                    "terminal_observation": info["final_obs"][i],
                    "TimeLimit.truncated": bool(truncated[i]),
                    "is_success": bool(info["final_info"]["success"][i]),
                    "episode": {"r": float(self.returns[i]), "l": int(self.lengths[i]), "t": 0.0},
                }
            self.returns[done], self.lengths[done] = 0.0, 0
            return obs, reward.astype(np.float32), done, infos

        def close(self) -> None:
            envs.close()

        def get_attr(self, name: str, indices: Any = None) -> list[Any]:
            return [getattr(envs, name, None)] * self.num_envs

        def set_attr(self, name: str, value: Any, indices: Any = None) -> None:
            raise NotImplementedError(name)

        def env_method(self, name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
            raise NotImplementedError(name)

        def env_is_wrapped(self, wrapper: type, indices: Any = None) -> list[bool]:
            return [False] * self.num_envs

    return Tasks()


def measure(task: str, sizes: Training, seeds: int) -> Iterator[dict[str, Any]]:
    """Trains once a seed and plays each policy, with its noise and by its mean; yields what it knows after each.

    Raises:
      Missing: SB3 or PyTorch cannot be imported.
      UserError: the task observes more than one vector, or there is no such task.
    """
    library, vec_env, spaces = bring_in(NEEDS, None, "", MODULES)
    from mmbc_jax.envs.gymnasium_tasks import TaskVectorEnv

    modes = first.mode_names(task)
    played, runs = TaskVectorEnv(task, sizes.episodes, units="box"), []
    observed = played.single_observation_space
    if not isinstance(observed, spaces.Box) or observed.dtype != np.float32:
        raise UserError(f"--env {task} is not allowed: it must observe one vector")
    for seed in range(seeds):
        envs = adapted(vec_env.VecEnv, TaskVectorEnv(task, sizes.envs, units="box"))
        model = library.PPO(
            "MlpPolicy",
            envs,
            learning_rate=sizes.rate,
            n_steps=sizes.rollout,
            batch_size=sizes.batch,
            seed=seed,
            device="cpu",
        )
        begun, busy = time.perf_counter(), time.process_time()
        model.learn(sizes.env_steps)
        seconds, processor = time.perf_counter() - begun, time.process_time() - busy
        run = {"seed": seed, "seconds": seconds, "cpu_seconds": processor, "env_steps": model.num_timesteps}
        for how, fixed in (("noise", False), ("mean", True)):

            def act(obs: np.ndarray, fixed: bool = fixed, model: Any = model) -> np.ndarray:
                return model.predict(obs, deterministic=fixed)[0]

            run[how] = first.scores(first.play(played, act, seed=1000 + seed), len(modes))
        runs.append(run)
        print(f"sb3 {task} seed {seed}: success {run['mean']['success']:.3f}, {seconds:.0f} s", flush=True)
        yield {
            "task": task,
            "modes": list(modes),
            "sizes": dataclasses.asdict(sizes),
            "version": library.__version__,
            "runs": runs,
        }
