"""Two modes at one state, and a training loop, shared by the tests of latent policies."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import Batch, PolicySpec

SPEC = PolicySpec(obs_dim=2, action_dim=1, chunk_len=3)


def make(name, prior="normal", **fields):
    """A small policy of that name, with a small prior."""
    section = plugin("prior", prior)
    if "hidden" in section:
        section.hidden = (16,)
    cfg = plugin("policy", name, **{"hidden": (32, 32), "fourier_octaves": 1, **fields})
    return registry.build(
        "policy", cfg, SPEC, prior=functools.partial(registry.build, "prior", section, spec=SPEC)
    )


def hparams(name, **values):
    """The traced scalars of a policy at their defaults, or as given."""
    cfg = plugin("policy", name)
    names = registry.find("policy", name).hparams
    return {field: jnp.asarray(values.get(field, cfg[field]), jnp.float32) for field in names}


def two_modes(size=64):
    """Every observation twice, once with a chunk at -.6 and once with one at .6."""
    obs = jnp.repeat(jax.random.uniform(jax.random.key(20), (size // 2, 2), minval=-1, maxval=1), 2, 0)
    chunk = jnp.where(jnp.arange(size) % 2 == 0, -0.6, 0.6)[:, None, None] * jnp.ones((size, 3, 1))
    return Batch(obs, chunk, jnp.ones((size, 3)))


def random_batch(size=8):
    """Chunks without any structure."""
    key_obs, key_chunk = jax.random.split(jax.random.key(21))
    obs = jax.random.uniform(key_obs, (size, 2), minval=-1, maxval=1)
    return Batch(obs, jax.random.uniform(key_chunk, (size, 3, 1), minval=-1, maxval=1), jnp.ones((size, 3)))


@functools.cache
def initialiser(policy):
    """The compiled `init`, once for equal policies."""
    return jax.jit(policy.init)


def moved(policy, data, scale=0.1):
    """Initial variables with parameters off their zeros."""
    fresh = initialiser(policy)(jax.random.key(0), data)
    rng = np.random.default_rng(0)
    shift = jax.tree.map(lambda p: p + scale * rng.standard_normal(p.shape, np.float32), fresh.params)
    return fresh.replace(params=shift)


def train(policy, data, hp, steps=300, rate=5e-3):
    """(variables after training, metrics of the last step)."""
    start = initialiser(policy)(jax.random.key(0), data)
    optimiser = optax.adam(rate)

    def objective(params, stats, key):
        loss = policy.loss(start.replace(params=params, stats=stats), key, data, hp)
        return loss.total(), loss

    def step(carry, key):
        v, state = carry
        gradient, loss = jax.grad(objective, has_aux=True)(v.params, v.stats, key)
        update, state = optimiser.update(gradient, state)
        return (
            v.replace(params=optax.apply_updates(v.params, update), stats=loss.stats),
            state,
        ), loss.metrics

    run = jax.jit(lambda v, keys: jax.lax.scan(step, (v, optimiser.init(v.params)), keys))
    (end, _), metrics = run(start, jax.random.split(jax.random.key(1), steps))
    return end, {name: float(values[-1]) for name, values in metrics.items()}


def draw(policy, v, count=400, seed=2):
    """[count, H, A] chunks sampled at random observations."""
    key_obs, key_w = jax.random.split(jax.random.key(seed))
    obs = jax.random.uniform(key_obs, (count, 2), minval=-1, maxval=1)

    @jax.jit
    def sample(key):
        return policy.transport(v, obs, policy.base_distribution(v, obs).sample(seed=key))

    return np.asarray(sample(key_w))


def mode_shares(chunk, tolerance=0.2):
    """(share near -.6, share near .6) of chunks [n, 3, 1]."""
    return tuple(float(np.mean(np.abs(chunk - centre).max((1, 2)) < tolerance)) for centre in (-0.6, 0.6))
