from __future__ import annotations

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.most_likely import most_likely


def key():
    return jax.random.key(0)


def normal(mean):
    return distrax.Independent(distrax.Normal(mean, jnp.ones_like(mean)), 1)


def test_of_simple_distributions():
    mean = jnp.array([[1.0, -2.0], [0.5, 0.0]])
    np.testing.assert_array_equal(most_likely(normal(mean), key()), mean)
    logits = jnp.array([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    np.testing.assert_array_equal(most_likely(distrax.Categorical(logits=logits), key()), [1, 0])
    box = distrax.Independent(distrax.Uniform(-jnp.ones((2, 3)), 3.0 * jnp.ones((2, 3))), 1)
    np.testing.assert_array_equal(most_likely(box, key()), np.ones((2, 3)))


def test_a_mixture_gives_the_mean_of_its_heaviest_component():
    means = jnp.array([[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], [[4.0, 4.0], [5.0, 5.0], [6.0, 6.0]]])
    weights = distrax.Categorical(logits=jnp.array([[0.0, 2.0, 1.0], [0.0, 0.0, 1.0]]))
    mixture = distrax.MixtureSameFamily(weights, normal(means))
    np.testing.assert_array_equal(most_likely(mixture, key()), [[2.0, 2.0], [6.0, 6.0]])


def test_a_joint_distribution_part_by_part():
    joint = distrax.Joint(
        {"component": distrax.Categorical(logits=jnp.array([0.0, 1.0])), "x0": normal(jnp.ones(3))}
    )
    found = most_likely(joint, key())
    assert int(found["component"]) == 1
    np.testing.assert_array_equal(found["x0"], np.ones(3))


def test_what_does_not_know_its_mode_is_asked_for_draws():
    """Of 64 draws of N(0, 1) the likeliest is near 0: all farther than .2 have probability .84^64 = 1.5e-5."""

    class Unknown:
        def sample(self, *, seed, sample_shape=()):
            return jax.random.normal(seed, (*sample_shape, 5))

        def log_prob(self, value):
            return -0.5 * value**2

    found = most_likely(Unknown(), key())
    assert found.shape == (5,)
    assert np.abs(found).max() < 0.2
    np.testing.assert_array_equal(found, most_likely(Unknown(), key()))
