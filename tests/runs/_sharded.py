"""`python -m tests.runs._sharded STAGE R FILE MESH ...`: what the toy does on meshes of 8 forced devices.

A MESH is `RUNSxBATCH`. See `figures` for what FILE holds, under `MESH/`.
"""

from __future__ import annotations

import functools
import os
import sys

import jax
import numpy as np

from mmbc_jax.core.config import plugin
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.grid import run_keys
from mmbc_jax.runs.mesh import Mesh, make_mesh
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.stages import BaseStage, make_stages
from tests.toys import cloning as toy

STEPS = 10
FORCED = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}


def environment(forced: dict[str, str] | None = None) -> dict[str, str]:
    """Of a subprocess with 8 devices, or with those of `forced`."""
    forced = FORCED if forced is None else forced
    return {**os.environ, **forced, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {forced['XLA_FLAGS']}"}


@functools.cache
def stage_of(name: str) -> BaseStage:
    """A stage of the toy; `sac` is discovery with that learner, which replays from its first iteration on."""
    if name != "sac":
        return toy.stage(name)
    config = toy.config()
    sizes = {"num_envs": 8, "decisions": 4, "updates": 4, "batch_size": 16, "capacity": 128, "warmup": 32}
    config.learner = plugin("learner", "sac", **sizes, critic_hidden=(8,), iterations_per_epoch=1)
    return make_stages(setup_lib.build(config), ("bc", "discover"))["discover"]


def begin(programs: Programs, name: str, runs: int):
    """(first state of R seeds of a stage on the mesh, shared arrays on it)."""
    stage, data = stage_of(name), programs.mesh.share(toy.shared(toy.setup().env_spec))
    grid = toy.grid_of("", runs)
    parent = None
    if name != "bc":
        clone = toy.stage("bc")
        parent = programs.start(
            clone, run_keys("bc", grid.seeds), clone.make_hparams(grid, clone.runs(grid)), None, data
        )
        parent = programs.mesh.fetch(parent, runs)
    hp = stage.make_hparams(grid, stage.runs(grid))
    return programs.start(stage, run_keys("tune", grid.seeds), hp, parent, data), data


def figures(name: str, runs: int, mesh: Mesh, steps: int = STEPS) -> dict[str, np.ndarray]:
    """Parameters after one step and after `steps`, metrics of both, and evaluated episodes, by name."""
    stage = stage_of(name)
    programs = Programs(stage.setup, mesh)
    state, data = begin(programs, name, runs)
    program = programs.epoch(stage, state, data, runs)
    found = {"rows": np.asarray(len(state.step))}
    for step in range(1, steps + 1):
        state, metrics = program(state, data)
        if step in (1, steps):
            leaves = jax.tree.leaves(mesh.fetch(state.params, runs))
            found |= {f"params{step}_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
            found |= {f"metrics{step}_{key}": np.asarray(value) for key, value in metrics.items()}
    rollouts, _ = programs.evaluate(stage, state, run_keys("evaluate", range(runs)))
    found |= {
        f"rollouts_{field}": getattr(rollouts, field) for field in ("success", "reward", "steps", "path")
    }
    return found


def main(name: str, runs: str, path: str, *meshes: str) -> None:
    assert jax.device_count() == 8
    arrays = {}
    for mesh in meshes:
        sizes = [int(size) for size in mesh.split("x")]
        found = figures(name, int(runs), make_mesh("vmap", *sizes))
        arrays |= {f"{mesh}/{key}": value for key, value in found.items()}
    np.savez(path, **arrays)


if __name__ == "__main__":
    with jax.debug_key_reuse(False):
        main(*sys.argv[1:])
