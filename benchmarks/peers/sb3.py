"""Stable-Baselines3 (an installed package): its PPO on the task of `_pendulum`, whose physics stays a jitted step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.comparison import Comparison, bring_in
from benchmarks.peers import _pendulum as task

NEEDS = "Stable-Baselines3: pip install torch stable-baselines3 gymnasium"


def vectorised(base: type, spaces: Any) -> Any:
    """The environments as its `VecEnv`: stepped by one compiled program, reset by themselves."""
    from brax import envs
    from brax.envs.wrappers import training

    env = training.wrap(envs.get_environment(task.ENV, backend=task.BACKEND), episode_length=1000)
    reset, step = jax.jit(env.reset), jax.jit(env.step, donate_argnums=0)
    observed = spaces.Box(-np.inf, np.inf, (env.observation_size,), np.float32)

    class Pendulums(base):
        """All of them."""

        def __init__(self) -> None:
            super().__init__(task.ENVS, observed, spaces.Box(-1.0, 1.0, (env.action_size,), np.float32))

        def reset(self) -> np.ndarray:
            keys = jax.random.split(jax.random.key(0), task.ENVS)
            self.state = reset(jax.random.key_data(keys))  # brax reads the batch off raw keys
            return np.array(self.state.obs)

        def step_async(self, actions: np.ndarray) -> None:
            self.actions = actions

        def step_wait(self) -> tuple[Any, ...]:
            self.state = step(self.state, self.actions)
            found = (np.array(x) for x in (self.state.obs, self.state.reward, self.state.done))
            obs, reward, done = found
            return obs, reward, done > 0.5, [{} for _ in range(task.ENVS)]

        def close(self) -> None:
            del self.state

        def get_attr(self, name: str, indices: Any = None) -> list[Any]:
            return [None] * task.ENVS

        def set_attr(self, name: str, value: Any, indices: Any = None) -> None:
            raise NotImplementedError(name)

        def env_method(self, name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
            raise NotImplementedError(name)

        def env_is_wrapped(self, wrapper: type, indices: Any = None) -> list[bool]:
            return [False] * task.ENVS

    return Pendulums()


def training(modules: list[Any]) -> Callable[[], Any]:
    """A function that runs `UPDATES` updates."""
    library, vec_env, spaces = modules
    sizes = [task.WIDTH, task.WIDTH]
    model = library.PPO(
        "MlpPolicy",
        vectorised(vec_env.VecEnv, spaces),
        learning_rate=task.RATE,
        n_steps=task.STEPS,
        batch_size=task.ENVS * task.STEPS // task.MINIBATCHES,
        n_epochs=task.EPOCHS,
        policy_kwargs={"net_arch": {"pi": sizes, "vf": sizes}},
        device="cpu",
    )
    total = task.UPDATES * task.ENVS * task.STEPS
    return lambda: model.learn(total, reset_num_timesteps=False)


def comparisons(checkout: Path | None, cores: int, quick: bool) -> Iterator[Comparison]:
    """An update."""
    names = ["stable_baselines3", "stable_baselines3.common.vec_env", "gymnasium.spaces"]
    modules = bring_in(NEEDS, checkout, "", names)
    import torch

    torch.set_num_threads(cores)
    yield task.against(
        "sb3",
        lambda: training(modules),
        "SB3 crosses between PyTorch and the host at every environment step and keeps statistics of its iterations.",
    )
