"""Which commands are split, by hand and against a search over all cuts in NumPy; how often one Gaussian is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.ops import splitting
from mmbc_jax.ops.splitting import PLACES, Paths

halves = jax.jit(splitting.halves)
divided = jax.jit(splitting.divided, static_argnums=2)
many = jax.jit(jax.vmap(lambda x: splitting.halves(x)[0]))


def searched(x):
    """(gap, upper side) by an eigenvector of LAPACK and every cut."""
    centred = np.asarray(x, np.float64) - np.mean(x, 0)
    score = np.linalg.svd(centred, full_matrices=False)[0][:, 0]
    ordered, found = np.sort(score), []
    for below in range(PLACES // 8, PLACES - PLACES // 8 + 1):
        low, high = ordered[:below], ordered[below:]
        within = np.square(low - low.mean()).sum() + np.square(high - high.mean()).sum()
        found.append((within, (high.mean() - low.mean()) / np.sqrt(within / (PLACES - 2)), ordered[below]))
    _, gap, cut = min(found)
    return gap, score >= cut


def two(rng, apart, share=0.4, size=5):
    """(points of two Gaussians, which is which)."""
    second = rng.permutation(np.arange(PLACES) < share * PLACES)
    x = rng.standard_normal((PLACES, size))
    x[:, 0] += apart * second
    return x.astype(np.float32), second


def test_the_gap_is_that_of_the_best_cut():
    rng = np.random.default_rng(0)
    for apart in (5.0, 8.0, 20.0):
        x, second = two(rng, apart)
        gap, upper = halves(x)
        expected, _ = searched(x)
        assert float(gap) == pytest.approx(expected, rel=1e-3)
        upper = np.asarray(upper)
        assert (upper == second).all() or (upper == ~second).all()


def test_paths_that_are_all_the_same_have_no_gap():
    assert float(halves(jnp.ones((PLACES, 3)))[0]) < 1.0


@pytest.mark.parametrize("size", [1, 4, 32])
def test_one_gaussian_passes_the_threshold_once_in_a_thousand(size):
    """Of 2,000 samples at most 6 above 4.5, 5 standard deviations of a Poisson count of 2 at .1 % and less."""
    x = np.random.default_rng(size).standard_normal((2000, PLACES, size)).astype(np.float32)
    gap = np.asarray(many(x))
    assert (gap > 4.5).sum() <= 6
    assert 0.0005 < (gap > 4.0).mean() < 0.02
    assert np.median(gap) == pytest.approx(2.85, abs=0.1)


def test_what_has_no_valley_seldom_passes_and_two_modes_do():
    """A uniform, whose halves are 3.46 apart, in 4.5 % of samples; two modes six deviations apart in 98 %."""
    rng = np.random.default_rng(1)
    uniform = np.asarray(many(rng.uniform(size=(2000, PLACES, 1)).astype(np.float32)))
    assert 0.03 < (uniform > 4.5).mean() < 0.06
    modes = np.stack([two(rng, 6.0, 0.3, 1)[0] for _ in range(500)])
    assert (np.asarray(many(modes)) > 4.5).mean() > 0.95


def test_the_last_paths_of_each_command_are_kept_in_a_ring():
    """Against lists; more paths of a command in one call than there are places, too."""
    rng = np.random.default_rng(2)
    paths, lists = splitting.empty(3, 2), [[], [], []]
    keep = jax.jit(splitting.kept)
    for count in (10, 200, 7, 90):
        z, ended = rng.choice(3, count, p=[0.7, 0.25, 0.05]), rng.uniform(size=count) < 0.7
        new = rng.standard_normal((count, 2)).astype(np.float32)
        paths = keep(paths, jnp.asarray(z), jnp.asarray(new), jnp.asarray(ended))
        for one, row, end in zip(z, new, ended, strict=True):
            if end:
                lists[one].append(row)
    np.testing.assert_array_equal(paths.number, [len(rows) for rows in lists])
    for held, rows in zip(np.asarray(paths.points), lists, strict=True):
        places = [i % PLACES for i in range(len(rows))][-PLACES:]
        np.testing.assert_array_equal(held[places], np.array(rows[-PLACES:]).reshape(-1, 2))


def paths_of(*each, number=PLACES):
    return Paths(jnp.asarray(np.stack(each)), jnp.full((len(each),), number, jnp.int32))


def around(rng, x, y=0.0):
    return (rng.standard_normal((PLACES, 2)) * 0.1 + [x, y]).astype(np.float32)


def test_the_smaller_half_goes_to_the_free_command_that_was_nearest_to_it():
    """0 has 20 paths at (0, 0) and 12 at (5, 0); free are 1 far off, 2 near the twelve, and 4, which never was."""
    rng = np.random.default_rng(3)
    both = np.concatenate([around(rng, 0.0)[:20], around(rng, 5.0)[:12]])
    paths = paths_of(both, around(rng, -9.0), around(rng, 5.5), around(rng, 3.0, 7.0), around(rng, 0.0))
    paths = paths._replace(number=paths.number.at[4].set(0))
    alive = jnp.array([1.0, 0.0, 0.0, 1.0, 0.0])
    found = divided(alive, paths, 4.5)
    assert (bool(found.happened), int(found.donor), int(found.heir)) == (True, 0, 2)
    np.testing.assert_array_equal(found.alive, [1, 0, 1, 1, 0])
    np.testing.assert_array_equal(splitting.begun(paths, found).number, [0, 32, 0, 32, 0])
    alone = divided(alive.at[2].set(1.0).at[1].set(1.0), paths, 4.5)
    assert (bool(alone.happened), int(alone.heir)) == (True, 4)


def test_nothing_is_split_without_a_gap_a_free_command_or_enough_paths():
    rng = np.random.default_rng(4)
    both = np.concatenate([around(rng, 0.0)[:16], around(rng, 5.0)[:16]])
    alive = jnp.array([1.0, 0.0])
    cases = [
        (alive, paths_of(around(rng, 0.0), around(rng, 5.0))),
        (jnp.ones(2), paths_of(both, around(rng, 5.0))),
        (alive, paths_of(both, around(rng, 5.0), number=PLACES - 1)),
        (alive[::-1], paths_of(both, around(rng, 5.0))),  # who is no more is not split
    ]
    for there, paths in cases:
        found = divided(there, paths, 4.5)
        assert not found.happened
        np.testing.assert_array_equal(found.alive, there)
        np.testing.assert_array_equal(splitting.begun(paths, found).number, paths.number)
