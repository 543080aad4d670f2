"""Steps of the physics per second of the Panda tasks on MJX, beside C MuJoCo on the same models.

    python -m benchmarks.robots [--batch 1 64 1024] [--env reach lift]

A batch steps under `lax.scan(vmap(control step))` with random joint targets; C MuJoCo rolls the same model out in one
thread. Prints one JSON object a row; compile seconds are the first call's, or the persistent cache's.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import rollout

from mmbc_jax.cli import compilation_cache
from mmbc_jax.core import config, registry
from mmbc_jax.core.compiling import jit

STEPS = 2048  # control steps of all instances together, at least 8 of each


def in_mjx(env: Any, batch: int) -> dict[str, float]:
    """Steps of the physics per second of `batch` instances, and seconds of compilation."""
    panda, steps = env.panda, max(STEPS // batch, 8)
    start = env.reset(jax.random.key(0)).data["body"]
    bodies = jax.tree.map(lambda leaf: jnp.tile(leaf, (batch, *(1,) * leaf.ndim)), start)
    moves = 0.02 * jax.random.normal(jax.random.key(1), (steps, batch, len(start.target)))

    def run(bodies: Any, moves: jax.Array) -> Any:
        def step(body: Any, move: jax.Array) -> tuple[Any, None]:
            return jax.vmap(panda.advance)(body, body.target + move), None

        return jax.lax.scan(step, bodies, moves)[0]

    begun = time.perf_counter()
    compiled = jit(run, env.spec).lower(bodies, moves).compile()
    seconds = time.perf_counter() - begun
    jax.block_until_ready(compiled(bodies, moves))
    begun = time.perf_counter()
    jax.block_until_ready(compiled(bodies, moves))
    rate = batch * steps * panda.substeps / (time.perf_counter() - begun)
    return {"steps_per_second": round(rate), "compile_seconds": round(seconds, 1)}


def in_c(env: Any, steps: int = 5000) -> float:
    """Steps per second of C MuJoCo in one thread."""
    model = env.panda.model
    data, body = mujoco.MjData(model), env.reset(jax.random.key(0)).data["body"]
    data.qpos[:] = np.asarray(body.qpos)
    state = np.zeros(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS))
    mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    control = np.broadcast_to(np.asarray(body.target), (1, steps, model.nu)).astype(float)
    begun = time.perf_counter()
    rollout.rollout(model, data, state[None], control)
    return round(steps / (time.perf_counter() - begun))


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--env", nargs="+", default=["reach", "lift"])
    flags = parser.parse_args()
    compilation_cache()
    for name in flags.env:
        env = registry.build("env", config.plugin("env", name))
        print(json.dumps({"env": name, "c_mujoco_steps_per_second": in_c(env)}), flush=True)
        for batch in flags.batch:
            print(json.dumps({"env": name, "batch": batch} | in_mjx(env, batch)), flush=True)


if __name__ == "__main__":
    main()
