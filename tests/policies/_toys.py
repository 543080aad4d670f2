"""Small policies and a short training for the tests of this folder."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import Batch, PolicySpec

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)
POINT = PolicySpec(obs_dim=1, action_dim=1, chunk_len=1)


def build(name, spec=SPEC, prior="normal", **fields):
    made = functools.partial(registry.build, "prior", plugin("prior", prior), spec=spec)
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=4))
    cfg = plugin("policy", name, **{"hidden": (16, 16), **fields})
    return registry.build("policy", cfg, spec, prior=made, sampler=sampler)


def sampled_by(name):
    """A small diffusion policy with two steps of a sampler."""
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=SPEC)
    sampler = registry.build("sampler", plugin("sampler", name, steps=2))
    return registry.build(
        "policy", plugin("policy", "diffusion", hidden=(16,)), SPEC, prior=prior, sampler=sampler
    )


def on_backbone(backbone):
    """A small flow."""
    return build("flow", backbone=backbone, width=16, depth=1, heads=2, channels=(8, 16))


def zeros(spec, size=2):
    """Windows of zeros, for an `init` that does not look at data."""
    return Batch(spec.obs.dummy(size), jnp.zeros((size, *spec.chunk_shape)), jnp.ones((size, spec.chunk_len)))


def hparams(name, **values):
    cfg = plugin("policy", name, **values)
    return {field: jnp.asarray(cfg[field]) for field in registry.find("policy", name).hparams}


def batch(size=5, spec=SPEC, seed=0):
    """Random windows; the first has two recorded actions, the second none."""
    rng = np.random.default_rng(seed)
    obs = rng.uniform(-1, 1, (size, spec.obs_dim)).astype(np.float32)
    chunk = rng.uniform(-1, 1, (size, *spec.chunk_shape)).astype(np.float32)
    mask = np.ones((size, spec.chunk_len), np.float32)
    mask[0, 2:] = 0
    mask[1] = 0
    return Batch(jnp.asarray(obs), jnp.asarray(chunk), jnp.asarray(mask))


def two_points(share=0.25, size=256, spec=POINT):
    """Chunks at -.8 for `share` of the windows and at .8 for the others, whatever the observation."""
    left = jnp.arange(size) < share * size
    chunk = jnp.where(left, -0.8, 0.8)[:, None, None] * jnp.ones(spec.chunk_shape)
    return Batch(jnp.zeros((size, spec.obs_dim)), chunk, jnp.ones((size, spec.chunk_len)))


def moved(policy, data, scale=0.1, seed=0):
    """Initial variables off their zeros."""
    fresh = jax.jit(policy.init)(jax.random.key(seed), data)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda p: p + scale * rng.standard_normal(p.shape, np.float32), fresh.params)
    return fresh.replace(params=params)


def fit(policy, data, hp, steps, learning_rate=3e-3, seed=0):
    """Variables after `steps` of Adam on the whole data, with a cosine decay."""
    start = jax.jit(policy.init)(jax.random.key(seed), data)
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(lambda p: policy.loss(start.replace(params=p), key, data, hp).total())(params)
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, update), state), None

    keys = jax.random.split(jax.random.key(seed + 1), steps)
    params = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0])(start.params)
    return start.replace(params=params)


def draw(policy, variables, obs, seed=2):
    """(w, chunks) for observations [n, D]."""
    w = policy.base_distribution(variables, obs).sample(seed=jax.random.key(seed))
    return w, np.asarray(jax.jit(policy.transport)(variables, obs, w))
