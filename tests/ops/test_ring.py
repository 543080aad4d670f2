"""The ring against a Python deque, and what it must keep: types, uniformity, its place in memory."""

from __future__ import annotations

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.ops import ring as rings
from tests.toys.products import spared

EXAMPLE = {
    "image": jax.ShapeDtypeStruct((2, 2), jnp.uint8),
    "id": jax.ShapeDtypeStruct((), jnp.int32),
    "nested": (jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((), jnp.bool_)),
}


def rows(ids):
    """Rows whose every leaf tells the same id."""
    ids = jnp.asarray(ids, jnp.int32)
    return {
        "image": jnp.broadcast_to((ids % 256).astype(jnp.uint8)[:, None, None], (len(ids), 2, 2)),
        "id": ids,
        "nested": (0.5 * jnp.broadcast_to(ids[:, None], (len(ids), 3)), ids % 2 == 1),
    }


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert [x.dtype for x in jax.tree.leaves(found)] == [x.dtype for x in jax.tree.leaves(expected)]


def oldest_first(ring):
    """What a ring holds, rolled so that the oldest row comes first."""
    size, cursor = int(rings.size(ring)), int(ring.cursor)
    start = cursor if size == rings.capacity(ring) else 0
    return jax.tree.map(lambda x: np.roll(np.asarray(x), -start, axis=0)[:size], ring.storage)


@pytest.mark.parametrize("capacity", [1, 7, 10])
@spared("7")
def test_wraps_as_a_deque(capacity):
    rng = np.random.default_rng(capacity)
    ring, kept, following = rings.init(EXAMPLE, capacity), deque(maxlen=capacity), 0
    assert int(rings.size(ring)) == 0
    add = jax.jit(rings.add)
    for count in [*rng.integers(1, capacity + 1, 30), capacity, 1]:
        ids = range(following, following + count)
        following += count
        ring, _ = add(ring, rows(list(ids))), kept.extend(ids)
        assert int(rings.size(ring)) == len(kept)
        assert_same(oldest_first(ring), rows(list(kept)))
    assert following > 3 * capacity  # it did wrap


def test_a_loop_adds_as_single_calls_do():
    batches = [rows(range(3 * i, 3 * i + 3)) for i in range(5)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    looped, _ = jax.lax.scan(lambda r, b: (rings.add(r, b), None), rings.init(EXAMPLE, 7), stacked)
    single = rings.init(EXAMPLE, 7)
    for batch in batches:
        single = rings.add(single, batch)
    assert_same(looped, single)


def test_draws_are_uniform_over_what_is_filled():
    """7 of 10 rows filled, n = 21000 draws: each count within 5 sqrt(n p (1 - p)) of n p = 3000, that is 254."""
    ring = rings.add(rings.init(EXAMPLE, 10), rows(range(100, 107)))
    drawn = rings.sample(ring, jax.random.key(0), 21_000)
    count = np.bincount(np.asarray(drawn["id"]) - 100, minlength=7)
    assert count.shape == (7,)  # none from the empty part, whose id is 0
    assert np.abs(count - 3000).max() < 5 * np.sqrt(21_000 * (1 / 7) * (6 / 7))


def test_draws_are_uniform_after_wrapping():
    """10 rows held after 23 added, n = 30000: each within 5 sqrt(n .1 .9) = 260 of 3000."""
    ring = rings.init(EXAMPLE, 10)
    for start, stop in ((0, 9), (9, 16), (16, 23)):
        ring = rings.add(ring, rows(range(start, stop)))
    count = np.bincount(np.asarray(rings.sample(ring, jax.random.key(1), 30_000)["id"]) - 13, minlength=10)
    assert np.abs(count - 3000).max() < 5 * np.sqrt(30_000 * 0.1 * 0.9)


@pytest.mark.heavy
def test_a_drawn_row_is_whole():
    ring = rings.add(rings.init(EXAMPLE, 300), rows(range(290)))
    drawn = rings.sample(ring, jax.random.key(2), 64)
    assert len(np.unique(drawn["id"])) > 32
    assert_same(drawn, rows(drawn["id"]))


def test_an_empty_ring_gives_zeros():
    drawn = rings.sample(rings.init(EXAMPLE, 4), jax.random.key(3), 5)
    assert_same(drawn, rows(np.zeros(5, int)))


@pytest.mark.heavy
def test_runs_side_by_side_are_runs_alone():
    """Under vmap each run has a cursor of its own: run 0 starts empty, run 1 two rows ahead."""
    alone = [rings.init(EXAMPLE, 5), rings.add(rings.init(EXAMPLE, 5), rows([7, 8]))]
    together = jax.tree.map(lambda *x: jnp.stack(x), *alone)
    keys = jax.random.split(jax.random.key(4), 2)
    for start in (10, 20):
        batches = [rows(range(start + 4 * run, start + 4 * run + 4)) for run in range(2)]
        alone = [rings.add(ring, batch) for ring, batch in zip(alone, batches, strict=True)]
        together = jax.vmap(rings.add)(together, jax.tree.map(lambda *x: jnp.stack(x), *batches))
    drawn = jax.vmap(lambda ring, key: rings.sample(ring, key, 6))(together, keys)
    for run, key in enumerate(jax.random.split(jax.random.key(4), 2)):
        assert_same(jax.tree.map(lambda x, run=run: x[run], together), alone[run])
        assert_same(jax.tree.map(lambda x, run=run: x[run], drawn), rings.sample(alone[run], key, 6))


@pytest.mark.parametrize("loop", [False, True])
def test_a_donated_ring_is_written_in_place(loop):
    """What the program needs besides its arguments and results is far below one ring."""
    ring = rings.init(EXAMPLE, 10_000)
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(ring))
    assert total > 150_000

    def step(ring, key):
        ring = rings.add(ring, rows(range(30)))
        return ring, rings.sample(ring, key, 20)

    def steps(ring, key):
        return jax.lax.scan(step, ring, jax.random.split(key, 3)) if loop else step(ring, key)

    program = jax.jit(steps, donate_argnums=0).lower(ring, jax.random.key(5)).compile()
    memory = program.memory_analysis()
    assert memory.alias_size_in_bytes == total
    assert memory.temp_size_in_bytes < total / 4
    program(ring, jax.random.key(5))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(ring))


@pytest.mark.parametrize("capacity", [0, -1, 2**30 + 1])
def test_capacity_out_of_range(capacity):
    with pytest.raises(ValueError, match="capacity"):
        rings.init({}, capacity)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: {"id": b["id"]}, "a batch"),
        (lambda b: {**b, "id": b["id"].astype(jnp.float32)}, r"float32\[3\] where int32\[3"),
        (lambda b: {**b, "image": b["image"][:2]}, r"uint8\[2, 2, 2\] where uint8\[3"),
        (lambda b: {**b, "image": b["image"][:, 0]}, r"uint8\[3, 2\] where uint8\[3"),
        (lambda b: jax.tree.map(lambda x: jnp.concatenate([x, x]), b), "6 rows at once into a ring of 5"),
        (lambda b: jax.tree.map(lambda x: x[:0], b), "0 rows at once"),
    ],
)
def test_a_batch_that_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        rings.add(rings.init(EXAMPLE, 5), change(rows(range(3))))
