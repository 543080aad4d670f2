"""Control steps per second of the tasks, wrappers and resets included, beside gym-pusht where it is installed.

    python -m benchmarks.tasks [--env push_t block_push] [--batch 1 64 1024 4096]

Actions at random, in a scan over control steps. gym-pusht (`pip install gym-pusht`, of this benchmark alone) steps
one environment in Python. Prints one JSON object a row; a row's figure is the median of `REPEATS` timings.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
import warnings

import jax

from mmbc_jax.cli import compilation_cache
from mmbc_jax.core import config, registry
from mmbc_jax.evaluation import experts

REPEATS, STEPS = 3, 4096  # timings, and control steps of all instances together


def gym_pusht(steps: int = 2000) -> float:
    """Control steps per second of the original Push-T, observing the state."""
    warnings.filterwarnings("ignore")
    import gym_pusht  # type: ignore[import-not-found]  # noqa: F401
    import gymnasium

    env = gymnasium.make("gym_pusht/PushT-v0", obs_type="state")
    env.reset(seed=0)
    env.action_space.seed(0)
    begun = time.perf_counter()
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - begun)


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", nargs="+", default=["push_t"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64, 1024, 4096])
    flags = parser.parse_args()
    compilation_cache()
    if "push_t" in flags.env and importlib.util.find_spec("gym_pusht"):
        found = [gym_pusht() for _ in range(REPEATS)]
        print(
            json.dumps({"env": "gym-pusht", "steps_per_second": round(statistics.median(found))}), flush=True
        )
    for name in flags.env:
        env = registry.build("env", config.plugin("env", name))
        for batch in flags.batch:
            costs = [
                experts.cost(env, key, batch, max(STEPS // batch, 8))
                for key in jax.random.split(jax.random.key(0), REPEATS)
            ]
            rate = statistics.median(cost.steps_per_second for cost in costs)
            seconds = costs[0].compile_seconds
            print(
                json.dumps(
                    {
                        "env": name,
                        "batch": batch,
                        "steps_per_second": round(rate),
                        "compile_seconds": round(seconds, 1),
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
