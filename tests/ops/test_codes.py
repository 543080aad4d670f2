"""Which commands become one, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.ops import codes

# q(j | paths of i): 0 and 1 share their paths, 2 is apart, 3 was hardly seen
SEEN = jnp.array([[4.0, 4.0, 0.0, 0.0], [3.0, 5.0, 0.0, 0.0], [0.1, 0.1, 7.8, 0.0], [0.0, 0.0, 0.5, 0.5]])
COUNT = jnp.array([8.0, 8.0, 8.0, 1.0])


def test_confusion_is_the_smaller_of_both_directions():
    """c_01 / c_00 = 1 and c_10 / c_11 = 3 / 5; c_23 / c_22 = 0."""
    found = codes.confusion(SEEN)
    assert float(found[0, 1]) == float(found[1, 0])
    np.testing.assert_allclose(found[0, 1], 0.6, rtol=1e-6)
    np.testing.assert_allclose(found[2, 3], 0.0)


def test_a_crowd_on_one_path_is_as_confused_as_a_pair():
    np.testing.assert_allclose(codes.confusion(jnp.full((9, 9), 1 / 9)), 1.0, rtol=1e-6)


def test_the_lower_number_stays_and_what_was_hardly_seen_is_not_judged():
    alive = jnp.ones(4)
    np.testing.assert_array_equal(codes.merged(alive, SEEN, COUNT, 0.5, 8.0), [1, 0, 1, 1])
    np.testing.assert_array_equal(codes.merged(alive, SEEN, COUNT, 0.7, 8.0), [1, 1, 1, 1])
    np.testing.assert_array_equal(codes.merged(alive.at[0].set(0), SEEN, COUNT, 0.5, 8.0), [0, 1, 1, 1])


def test_a_chain_of_neighbours_merges_step_by_step():
    """0-1 and 1-2 are confused, 0-2 is not: 1 goes into 0, and 2 stays until it is confused with one that stays."""
    seen = jnp.array([[1.0, 0.6, 0.1], [0.6, 1.0, 0.6], [0.1, 0.6, 1.0]])
    np.testing.assert_array_equal(codes.merged(jnp.ones(3), seen, jnp.full(3, 9.0), 0.5, 8.0), [1, 0, 1])


def test_nothing_is_judged_before_anything_was_seen():
    np.testing.assert_array_equal(codes.merged(jnp.ones(3), jnp.zeros((3, 3)), jnp.zeros(3), 0.5, 1.0), 1)


def test_only_those_there_are_get_drawn_and_each_as_often():
    """10,000 draws of 3: each within 5 standard deviations, 5 sqrt(1e4 2 / 9) = 236, of a third."""
    alive = jnp.array([0.0, 1.0, 1.0, 0.0, 1.0])
    drawn = np.bincount(codes.draw(jax.random.key(0), alive, (10_000,)), minlength=5)
    assert drawn[0] == drawn[3] == 0
    assert (np.abs(drawn[[1, 2, 4]] - 10_000 / 3) < 236).all()
    np.testing.assert_array_equal(codes.evenly(alive, 7), [1, 2, 4, 1, 2, 4, 1])


def test_q_among_those_there_are_is_a_distribution_over_them():
    """Of (1/2, 1/4, 1/4) without the first: (1/2, 1/2)."""
    log_q = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    found = codes.among(log_q, jnp.array([0.0, 1.0, 1.0]))
    np.testing.assert_allclose(np.exp(np.asarray(found, np.float64)), [0.0, 0.5, 0.5], atol=1e-7)


def test_against_all_says_what_q_says_beyond_p():
    """q = (1/2, 1/4, 1/4) without the first is (1/2, 1/2): log 2 below 1, p is 1/2, so log q - log p = 0 for both.

    One command that is left alone says nothing: log 1 - log 1 = 0.
    """
    log_q = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    two = codes.against_all(log_q, jnp.array([0.0, 1.0, 1.0]))[1:] + jnp.log(3.0)
    one = codes.against_all(log_q, jnp.array([1.0, 0.0, 0.0]))[0] + jnp.log(3.0)
    np.testing.assert_allclose([*two, one], 0.0, atol=1e-6)
