"""`python -m tests.runs._processes INDEX COUNT PORT FOLDER RUNS BATCH FIRST LAST`: one of COUNT processes that train.

Trains stage `bc` of the toy with `R` seeds from the checkpoint after FIRST steps (0: from nothing) to LAST, and saves
that to FOLDER. Prints what a test can ask of it, as a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import jax

from mmbc_jax.runs.checkpoint import StageCheckpoints
from mmbc_jax.runs.mesh import Mesh, connect, make_mesh
from mmbc_jax.runs.programs import Programs
from tests.runs._sharded import begin
from tests.toys import cloning as toy

R = 6


def joined(index: int, count: int, port: int) -> dict[str, str]:
    """The environment variables by which process `index` of `count` finds the others."""
    if count == 1:
        return {}
    return {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(index),
    }


def train(folder: Path, mesh: Mesh, first: int, last: int) -> list[list[float]]:
    """Steps `first` to `last`; returns the loss of each run in every step."""
    programs, stage = Programs(toy.setup(), mesh), toy.stage("bc")
    checkpoints = StageCheckpoints(folder, keep=9, mesh=mesh)
    state, data = begin(programs, "bc", R)
    if first:
        template = jax.eval_shape(lambda tree: tree, mesh.fetch(state, R))
        state = checkpoints.restore(first, template)
    program, losses = programs.epoch(stage, state, data, R), []
    for _ in range(first, last):
        state, metrics = program(state, data)
        losses.append([float(loss) for loss in jax.device_get(metrics["bc/loss"])[:, 0]])
    checkpoints.save(last, state, {"epoch": last}, R)
    checkpoints.close()
    return losses


def main(
    index: str, count: str, port: str, folder: str, runs: str, batch: str, first: str, last: str
) -> None:
    os.environ |= joined(int(index), int(count), int(port))
    connect()
    mesh = make_mesh("vmap", int(runs), int(batch))
    order = Path(folder).with_suffix(".order")
    with mesh.writer_first():
        seen = order.exists()
        order.touch()
    facts = {
        "processes": jax.process_count(),
        "devices": jax.device_count(),
        "writer": mesh.is_writer,
        "order_seen": seen,
        "any": mesh.any_process(int(index) == 1),
        "none": mesh.any_process(False),
        "losses": train(Path(folder), mesh, int(first), int(last)),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    with jax.debug_key_reuse(False):
        main(*sys.argv[1:])
