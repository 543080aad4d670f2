"""`python -m tests.runs._placing`: what a mesh of 8 forced devices does without any training; prints `done`."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.sharding import spread
from mmbc_jax.core.state import TrainState
from mmbc_jax.runs.epoch import make_epoch, over_runs
from mmbc_jax.runs.mesh import Mesh, make_mesh


def fails(call, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        call()


def sizes() -> None:
    """Which devices each configuration takes."""
    found = {
        ("vmap",): (1, 1),
        ("map",): (1, 1),
        ("shard",): (8, 1),
        ("shard", 0, 2): (4, 2),
        ("shard", 3): (3, 1),
        ("vmap", 0, 4): (1, 4),
        ("map", 2, 2): (2, 2),
        ("auto", 0, 1, 12): (8, 1),
        ("auto", 0, 1, 3): (3, 1),
        ("auto", 0, 2, 64): (4, 2),
        ("auto", 2, 1, 64): (2, 1),
        ("auto", 0, 1, 1): (1, 1),
    }
    for arguments, expected in found.items():
        mesh = make_mesh(*arguments)
        assert (mesh.runs, mesh.batch) == expected, arguments
        assert (mesh.devices is None) == (expected == (1, 1))
        assert mesh.mode == ("shard" if arguments[0] == "auto" and mesh.devices else arguments[0])
    fails(lambda: make_mesh("vmap", 9), "mesh.runs")
    fails(lambda: make_mesh("vmap", 3, 4), "at most 2, for 4 of 8 devices each")
    fails(lambda: make_mesh("vmap", 0, 9), "1 to 8, the number of devices")


def state(runs: int) -> TrainState:
    tree = {"w": jnp.arange(runs * 3.0).reshape(runs, 3)}
    return TrainState(
        step=jnp.arange(runs),
        key=jax.random.split(jax.random.key(0), runs),
        params=tree,
        opt_state={},
        ema={},
        stats=None,
        env_state={"env": jnp.ones((runs, 8, 2)), "odd": jnp.ones((runs, 7)), "count": jnp.ones(runs)},
        hparams={},
    )


def places() -> None:
    """Where leaves lie, which rows they have, and that the caller's arrays outlive a donation."""
    mesh, whole = make_mesh("vmap", 4, 2), state(6)
    placed = mesh.place(whole)
    runs, both = PartitionSpec("runs"), PartitionSpec("runs", "batch")
    assert placed.params["w"].sharding.spec == runs
    specs = {name: leaf.sharding.spec for name, leaf in placed.env_state.items()}
    assert specs == {"env": both, "odd": runs, "count": runs}
    np.testing.assert_array_equal(placed.step, [0, 1, 2, 3, 4, 5, 0, 0])
    again = mesh.place(placed)
    assert all(a is b for a, b in zip(jax.tree.leaves(placed), jax.tree.leaves(again), strict=True))
    jax.block_until_ready(jax.jit(lambda tree: tree, donate_argnums=0)(placed))
    back = mesh.fetch(mesh.place(whole), 6)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(back), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(plain(a), plain(b))
    shared = mesh.share({"rows": np.ones((5, 2))})
    assert shared["rows"].is_fully_replicated
    assert len(shared["rows"].sharding.device_set) == 8
    assert mesh.share(shared)["rows"] is shared["rows"]


def plain(leaf):
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def spreads() -> None:
    """Rows of a batch lie where the mesh says, and a mesh of other devices in the same process gets its own."""

    def mean_square(run, shared):
        rows = spread(jax.random.normal(run, (6, 2)) + shared)
        return jnp.square(rows).mean()

    keys = jax.random.split(jax.random.key(1), 4)
    expected = jax.vmap(mean_square, in_axes=(0, None))(keys, 1.0)
    for mesh in (make_mesh("vmap", 4, 2), make_mesh("map", 2, 3), make_mesh("vmap", 4), Mesh()):
        lifted = jax.jit(over_runs(mean_square, mesh))
        arguments = (mesh.place(keys), mesh.share(jnp.float32(1.0)))
        np.testing.assert_allclose(lifted(*arguments), expected, rtol=1e-6)
        text = lifted.lower(*arguments).as_text()
        assert bool(re.search(r'sharding_constraint .*"batch"', text)) == (mesh.batch > 1), text
        talks = "all-reduce" in lifted.lower(*arguments).compile().as_text()
        assert talks == (mesh.batch > 1)  # runs never speak to each other
    lifted = over_runs(mean_square, make_mesh("vmap", 1, 4))
    fails(lambda: jax.eval_shape(lifted, keys, 1.0), "mesh.batch = 4 is not allowed: a divisor of the 6 rows")


def loops() -> None:
    """A loop that runs until all have ended does not make the devices of other runs wait."""

    def until(run, shared):
        end = jax.lax.while_loop(lambda x: x < shared, lambda x: x + run["rate"], run["x"])
        return {**run, "x": end}, {"x": end}

    mesh = make_mesh("shard")
    tree = {"x": jnp.zeros(12), "rate": jnp.arange(1.0, 13.0)}
    final, _ = (run := jax.jit(make_epoch(until, 1, 1, mesh, {})))(
        mesh.place(tree), mesh.share(jnp.float32(6.0))
    )
    np.testing.assert_array_equal(mesh.fetch(final, 12)["x"], [6, 6, 6, 8, 10, 6, 7, 8, 9, 10, 11, 12])
    text = run.lower(mesh.place(tree), mesh.share(jnp.float32(6.0))).compile().as_text()
    assert not [word for word in ("all-reduce", "all-gather", "collective-permute") if word in text]


if __name__ == "__main__":
    assert jax.device_count() == 8
    sizes()
    places()
    spreads()
    loops()
    print("done")
