"""A small classifier of the mode from a latent, fitted on half of the items and asked about the others."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmbc_jax.core.types import Array, Key
from mmbc_jax.nn.mlp import MLP

_HIDDEN, _STEPS, _RATE, _DECAY = (64,), 300, 1e-2, 1e-2
# Mixed into every answer, so that one confident mistake does not decide the cross-entropy.
_DOUBT = 0.02


def held_out_log_probs(
    key: Key, features: np.ndarray, label: np.ndarray, num_modes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fits on every other item, in random order, and answers for the rest.

    Args:
      key: of the split and of the initial weights.
      features: [m, n, F], m views of each of n >= 4 items; an item's views stay in one half.
      label: [n] int in [0, num_modes).
      num_modes: K.

    Returns:
      (log q [m n/2, K] normalised, labels [m n/2]) of the held-out half.
    """
    key_split, key_fit = jax.random.split(key)
    order = np.asarray(jax.random.permutation(key_split, len(label)))
    half = len(label) // 2
    fitted, asked = order[:half], order[half:]
    scale = features[:, fitted].std(axis=(0, 1))
    # A constant feature, or a code that the first half lacks, says nothing.
    unit = np.where(scale > 1e-8, 1.0 / np.maximum(scale, 1e-8), 0.0)
    scaled = ((features - features[:, fitted].mean(axis=(0, 1))) * unit).astype(np.float32)
    views = len(features)
    flat = (scaled[:, fitted].reshape(-1, scaled.shape[-1]), np.tile(label[fitted], views))
    held = scaled[:, asked].reshape(-1, scaled.shape[-1])
    found = _fit_and_ask(key_fit, *map(jnp.asarray, (*flat, held)), num_modes=num_modes)
    return np.asarray(found), np.tile(label[asked], views)


@functools.partial(jax.jit, static_argnames="num_modes")
def _fit_and_ask(key: Key, x: Array, y: Array, held: Array, num_modes: int) -> Array:
    network = MLP(_HIDDEN, num_modes, zero_last=True)
    optimiser = optax.adamw(_RATE, weight_decay=_DECAY)
    params = network.init(key, x)

    def loss(p: dict) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(network.apply(p, x), y).mean()

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        p, state = carry
        updates, state = optimiser.update(jax.grad(loss)(p), state, p)
        return (optax.apply_updates(p, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), length=_STEPS)
    share = jnp.bincount(y, length=num_modes) / len(y)
    doubt = _DOUBT * (share + 1.0 / num_modes) / 2
    logits = jnp.asarray(network.apply(params, held))
    return jnp.log((1.0 - _DOUBT) * jax.nn.softmax(logits) + doubt)
