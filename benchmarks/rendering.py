"""Images of a path task, beside filling and copying as many bytes.

Filling is the floor of any program that makes images; a copy also reads. A result of more than 32 MiB (batch 4,096)
lies in newly mapped memory at every call, which costs more than drawing it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import host
from benchmarks.timing import Contender, interleave, repeated, summarise
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import Array
from mmbc_jax.envs.synthetic._render import SHAPE, ground, render

BATCHES = (64, 1024, 4096)
OURS = "mmbc_jax"
STEPS = 60  # of an episode
_BLOCK_FRAMES = 65_536  # a tenth of a second


def grounds() -> Array:
    """[2, 64, 64, 3] of the circle task, bottom and top as the goal."""
    task = registry.build("env", plugin("env", "circle"))
    params = task.default_params()
    centres, halves = task.boxes(params)
    return jnp.stack([ground(centres, halves, (centre, params["radius"])) for centre in centres])


def agreement(count: int = 64) -> dict[str, float]:
    """Largest difference, in grey levels, of images from the formula evaluated in float64 by NumPy."""
    empty, place = np.asarray(grounds()[0]), jax.random.uniform(jax.random.key(0), (count, 2))
    x, y = 64.0 * np.asarray(place, np.float64).T[..., None]
    pixel = np.arange(64) + 0.5
    distance = np.hypot((pixel - (64.0 - y))[:, :, None], (pixel - x)[:, None])
    expected = empty * (1.0 - np.clip(3.0 - distance, 0.0, 1.0))[..., None]
    found = np.asarray(jax.jit(render)(place, jnp.asarray(empty)))
    return {"grey_levels": float(abs(found - expected).max())}


def episodes(place: Array, empty: Array) -> Array:
    """[T, B, 64, 64, 3] from places [T, B, 2], made and kept step by step in a loop, as a rollout does."""
    return jax.lax.scan(lambda carry, now: (carry, render(now, empty)), None, place)[1]


def contenders(batch_size: int) -> dict[str, Callable[[], Any]]:
    """Blocks that make `batch_size` frames, or for "episodes" as many as fill whole episodes."""
    both = grounds()
    empty = both[0]
    key_place, key_goal = jax.random.split(jax.random.key(1))
    place = jax.random.uniform(key_place, (batch_size, 2))
    goal = jax.random.randint(key_goal, (batch_size,), 0, 2)
    path = jnp.broadcast_to(place[: _actors(batch_size)], (STEPS, _actors(batch_size), 2))
    one, each, loop = jax.jit(render), jax.jit(lambda p, g: render(p, both[g])), jax.jit(episodes)
    source = np.ones((batch_size, *SHAPE), np.uint8)
    target = np.ones_like(source)
    return {
        OURS: lambda: one(place, empty).block_until_ready(),
        "a ground per frame": lambda: each(place, goal).block_until_ready(),
        "episodes": lambda: loop(path, empty).block_until_ready(),
        "fill": lambda: target.fill(255),
        "copy": lambda: np.copyto(target, source),
        "copy into new memory": lambda: source.copy(),
    }


def _actors(batch_size: int) -> int:
    """Environments whose episodes hold about `batch_size` frames."""
    return max(1, batch_size // STEPS)


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """Everything about rendering on the pinned cores.

    Args:
      cores: already pinned.
      quick: few rounds of the smallest batch; checks that it runs, says little about speed.

    Returns:
      The record; its times are per frame.
    """
    cases = []
    for batch_size in BATCHES[:1] if quick else BATCHES:
        repeats = max(1, _BLOCK_FRAMES // batch_size)
        timed = [
            Contender(
                name,
                repeated(block, repeats),
                repeats * (STEPS * _actors(batch_size) if name == "episodes" else batch_size),
            )
            for name, block in contenders(batch_size).items()
        ]
        result = summarise(interleave(timed, 3 if quick else 15), OURS)
        cases.append({"batch_size": batch_size, "frame_bytes": int(np.prod(SHAPE)), **result})
    return {"agreement": agreement(), "cases": cases, "memory": host.memory()}
