"""`python -m tests.runs._sharded STAGE FILE`: trains the toy with one run on each device."""

from __future__ import annotations

import sys

import jax
import numpy as np

from tests.toys import cloning as _toy
from tests.runs.test_epoch import trained


def main(name: str, path: str) -> None:
    kept = trained(name, "shard")
    state, shared = _toy.start(name)
    after, _ = _toy.epoch(name, "shard")(state, shared)
    arrays = {f"{when}_{i}": leaf for when, leaves in enumerate(kept) for i, leaf in enumerate(leaves)}
    np.savez(path, devices=jax.device_count(), shards=len(after.step.addressable_shards), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
