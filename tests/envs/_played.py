"""How often an expert reaches each of its modes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.envs import wrappers


def reached(env, starts, noise, seed=0):
    """Share of `starts` episodes that end in each mode that was asked for, with noise on the executed actions."""
    batched = wrappers.make(env, autoreset=None)
    modes = jnp.repeat(jnp.arange(env.spec.num_modes), starts)

    @jax.jit
    def play(key):
        reset_key, scan_key = jax.random.split(key)
        first = batched.reset(jax.random.split(reset_key, len(modes)))

        def body(state, key):
            expert_key, noise_key = jax.random.split(key)
            action = jax.vmap(env.expert)(state, modes, jax.random.split(expert_key, len(modes)))
            action = action + noise * jax.random.normal(noise_key, action.shape)
            return batched.step(state, action[:, None]), None

        last = jax.lax.scan(body, first, jax.random.split(scan_key, env.spec.episode_length))[0]
        return (last.metrics["success"] > 0) & (last.info["mode"] == modes)

    return np.asarray(play(jax.random.key(seed))).reshape(env.spec.num_modes, starts).mean(1)
