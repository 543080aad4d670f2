from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.nn.embedding import fourier_features, time_embedding


def test_time_embedding_matches_hand_computed_values():
    # dim 4: frequencies 1 and 100, so e(.5) = [sin .5, sin 50, cos .5, cos 50]
    expected = [np.sin(0.5), np.sin(50.0), np.cos(0.5), np.cos(50.0)]
    np.testing.assert_allclose(time_embedding(jnp.array(0.5), 4), expected, atol=2e-5)


def test_time_embedding_tells_times_apart_and_keeps_leading_dims():
    t = jnp.linspace(0, 1, 101)
    features = np.asarray(time_embedding(t, 32))
    assert features.shape == (101, 32)
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1) + 10 * np.eye(101)
    assert distance.min() > 0.1
    assert time_embedding(jnp.zeros((2, 3)), 8).shape == (2, 3, 8)


@pytest.mark.parametrize("octaves", [0, 1, 3])
def test_fourier_features_against_numpy(octaves):
    obs = np.random.default_rng(0).uniform(-1, 1, (2, 5, 3)).astype(np.float32)
    angles = np.stack([obs * np.pi * 2**k for k in range(octaves)], -1) if octaves else np.zeros((2, 5, 3, 0))
    angles = angles.reshape(2, 5, -1)
    expected = np.concatenate([obs, np.sin(angles), np.cos(angles)], -1)
    result = fourier_features(jnp.asarray(obs), octaves)
    assert result.shape == (2, 5, 3 * (1 + 2 * octaves))
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_fourier_features_have_the_documented_finest_period():
    obs, octaves = jnp.array([[0.1]]), 3
    period = 2.0 ** (2 - octaves)
    here, there = fourier_features(obs, octaves)[0], fourier_features(obs + period, octaves)[0]
    # columns: obs | sin k=0..2 | cos k=0..2; the finest octave repeats, the coarsest does not
    np.testing.assert_allclose(here[jnp.array([3, 6])], there[jnp.array([3, 6])], atol=1e-5)
    assert abs(here[1] - there[1]) > 0.1


def test_features_are_differentiable():
    gradient = jax.grad(lambda o: fourier_features(o, 4).sum())(jnp.zeros(2))
    # d/do at 0: 1 + sum_k pi 2^k = 1 + 15 pi
    np.testing.assert_allclose(gradient, 1 + 15 * np.pi, rtol=1e-5)
