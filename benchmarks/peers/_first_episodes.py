"""The first episode of every instance of a Gymnasium vector, and what it says about a policy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mmbc_jax.core import config, registry


@dataclasses.dataclass(frozen=True)
class Episodes:
    """One episode an instance, arrays [B]; `best` is the largest reward of a step, `mode` -1 without success."""

    returns: np.ndarray
    best: np.ndarray
    steps: np.ndarray
    success: np.ndarray
    mode: np.ndarray


def mode_names(task: str) -> tuple[str, ...]:
    """The modes of a task, in the order of their labels."""
    return registry.build("env", config.plugin("env", task)).spec.mode_names


def play(envs: Any, act: Callable[[np.ndarray], np.ndarray], seed: int) -> Episodes:
    """Plays until every instance has ended once; later episodes of the same instance do not count.

    Counting what ends first would favour short episodes, and in Push-T the short ones are the successful ones.

    Args:
      envs: a `TaskVectorEnv` of B instances.
      act: observations [B, ...] to actions [B, A], as `envs` takes them.
      seed: of the starts.
    """
    obs, _ = envs.reset(seed=seed)
    running, count = np.ones(envs.num_envs, bool), envs.num_envs
    returns, best, steps = np.zeros(count), np.full(count, -np.inf), np.zeros(count, np.int64)
    success, mode = np.zeros(count, bool), np.full(count, -1)
    while running.any():
        obs, reward, terminated, truncated, info = envs.step(act(obs))
        returns += np.where(running, reward, 0.0)
        best = np.where(running, np.maximum(best, reward), best)
        steps += running
        ended = running & (terminated | truncated)
        if ended.any():
            success[ended] = info["final_info"]["success"][ended]
            mode[ended] = info["final_info"]["mode"][ended]
        running &= ~ended
    return Episodes(returns, best, steps, success, np.where(success, mode, -1))


def scores(episodes: Episodes, num_modes: int) -> dict[str, Any]:
    """Means over the episodes, and the modes of the successful ones.

    Returns:
      "success"; "success_by_mode", the share of all episodes that succeed in each mode (they add up to "success");
      "entropy" of the modes among the successful, logarithm to the base of `num_modes`, None without success;
      "return", "best_reward", "steps", means; "episodes", their number.
    """
    shares = np.bincount(episodes.mode[episodes.mode >= 0], minlength=num_modes) / len(episodes.mode)
    given = shares[shares > 0] / max(shares.sum(), 1e-12)
    entropy = float(abs((given * np.log(given)).sum()) / math.log(num_modes)) if shares.sum() else None
    return {
        "success": float(episodes.success.mean()),
        "success_by_mode": shares.tolist(),
        "entropy": entropy,
        "return": float(episodes.returns.mean()),
        "best_reward": float(episodes.best.mean()),
        "steps": float(episodes.steps.mean()),
        "episodes": len(episodes.mode),
    }
