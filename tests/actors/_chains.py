"""What the tests of the chain actors share: actors on a flow between Gaussians, and its formulas in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import PolicySpec
from tests.toys.gaussian_flow import GaussianFlow

MEAN, STD = 0.3, 0.5


def build(name, modes=1, chunk=(1, 1), **fields):
    """(actor on data N(MEAN, STD^2) in every number, reference variables)."""
    spec = PolicySpec(2, chunk[1], chunk[0])
    policy = GaussianFlow(spec, MEAN, STD)
    cfg = plugin("actor", name, **{"hidden": (8,), **fields})
    return registry.build("actor", cfg, spec=spec, policy=policy, num_modes=modes), policy.variables()


def fresh(actor, reference):
    return jax.jit(actor.init)(jax.random.key(0), reference)


def moved(params, seed=0, by=0.2):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: p + jnp.asarray(by * rng.standard_normal(p.shape), jnp.float32), params)


def observations(rows):
    return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (rows, 2)), jnp.float32)


def estimates(params, obs, x, t):
    """(velocity, data, noise) at x [B, H, A] and the time t of the trained copy of the policy."""
    own = {name: np.asarray(value, np.float64) for name, value in params["policy"].items()}
    mean = own["bias"] + np.einsum("bd,dha->bha", np.asarray(obs, np.float64), own["weight"])
    std = np.exp(own["log_std"])
    v = mean + (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2) * (x - t * mean)
    return v, x + (1 - t) * v, x - t * v


def log_normal(x, mean, std):
    return stats.norm.logpdf(np.asarray(x, np.float64), mean, std)
