"""`scripts/spread_in_play.py`: what is played, against closed forms for a clone that is Gaussian."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.priors.normal import gaussian_noise

FILE = Path(__file__).parents[2] / "scripts" / "spread_in_play.py"
SPEC = PolicySpec(1, 2, 3, ObsSpec.vector(1))
B, K = 4096, 8
FACTOR = np.array([[1.0, 0.0], [2.0, 0.5]])  # of the actions of one step: covariance FACTOR FACTOR^T


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("spread_in_play", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Clone:
    """N(s, FACTOR FACTOR^T) in every step."""

    def base_distribution(self, variables, obs):
        return gaussian_noise(obs.shape[:-1], (3, 2))

    def transport(self, variables, obs, w):
        return obs[..., None] + w @ jnp.asarray(FACTOR.T, jnp.float32)


class Regression:
    """s + 5."""

    spec = SPEC

    def transport(self, variables, obs, w):
        assert w.shape == (len(obs), 0)
        return jnp.broadcast_to(obs[..., None] + 5.0, (*obs.shape[:-1], 3, 2))


@pytest.mark.parametrize(
    ("name", "shift", "share"),  # of the covariance of the clone
    [
        ("draws", 0.0, 1.0),
        ("likeliest", 0.0, 0.0),
        ("mean", 0.0, 1.0 / K),
        ("regression", 5.0, 0.0),
        ("regression, deviations", 5.0, 1.0),
        ("regression, gaussian", 5.0, 1.0),
    ],
)
def test_mean_and_covariance_of_what_is_played(script, name, shift, share):
    """Of 3 x 4096 rows: 4 standard errors of a mean are .074, of an entry of the covariance .22."""
    obs = jnp.linspace(-1.0, 1.0, B)[:, None]
    answer = script.answers(Clone(), Regression(), K)[name]
    # in parts: "gaussian" mixes every draw of a part into every row of it
    parts = zip(jax.random.split(jax.random.key(4), 8), jnp.split(obs, 8), strict=True)
    rows = np.concatenate([np.asarray(answer({}, {}, k, x) - x[..., None]).reshape(-1, 2) for k, x in parts])
    np.testing.assert_allclose(rows.mean(0), [shift, shift], atol=0.074)
    np.testing.assert_allclose(np.cov(rows.T), share * FACTOR @ FACTOR.T, atol=0.22 * share + 1e-6)
