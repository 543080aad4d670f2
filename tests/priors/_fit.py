"""Training a prior by its loss, as a policy would."""

from __future__ import annotations

import jax
import optax


def fit(prior, obs, w, *, steps, rate, key=0):
    """Parameters after `steps` of Adam on the mean loss of w [n, ...] at obs [n, D], the loss's key held fixed."""
    optimiser = optax.adam(rate)

    def step(carry, _):
        params, state = carry
        gradient = jax.grad(lambda p: prior.loss(p, jax.random.key(key), obs, w).mean())(params)
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, update), state), None

    start = jax.jit(prior.init)(jax.random.key(0))
    return jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), None, length=steps)[0][0])(start)
