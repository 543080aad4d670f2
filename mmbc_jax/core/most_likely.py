"""The likeliest value of a base distribution, for acting without chance."""

from __future__ import annotations

from typing import Any

import distrax
import jax
import jax.numpy as jnp

from mmbc_jax.core.types import Key, PyTree

_DRAWS = 64


def most_likely(distribution: Any, key: Key) -> PyTree:
    """argmax_w p(w), or nearly.

    Of a joint distribution part by part; of a mixture the mode of its heaviest component, which is the mixture's own
    where components do not overlap; of a uniform its middle. A distribution that does not know its mode is asked
    for the likeliest of 64 draws.

    Args:
      distribution: over w, with leading axes [...]; from distrax, or with `sample` and `log_prob`.
      key: of the draws.

    Returns:
      w [...], as from `sample`.
    """
    if isinstance(distribution, distrax.Joint):
        parts = distribution.distributions
        leaves, tree = jax.tree.flatten(parts, is_leaf=lambda part: hasattr(part, "log_prob"))
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(tree, [most_likely(part, k) for part, k in zip(leaves, keys, strict=True)])
    if isinstance(distribution, distrax.MixtureSameFamily):
        return _heaviest(distribution, key)
    if isinstance(distribution, distrax.Independent) and isinstance(
        distribution.distribution, distrax.Uniform
    ):
        return distribution.distribution.mean()
    try:
        return distribution.mode()
    except (NotImplementedError, AttributeError):
        draws = distribution.sample(seed=key, sample_shape=(_DRAWS,))
        best = jnp.argmax(distribution.log_prob(draws), axis=0)
        return jax.tree.map(lambda leaf: _picked_first(leaf, best), draws)


def _heaviest(mixture: distrax.MixtureSameFamily, key: Key) -> PyTree:
    modes = most_likely(mixture.components_distribution, key)
    component = jnp.argmax(mixture.mixture_distribution.logits, axis=-1)
    return _picked_first(jnp.moveaxis(modes, component.ndim, 0), component)


def _picked_first(values: Any, index: Any) -> Any:
    """values[index[...], ...] of values [n, ..., event] and index [...]."""
    index = index.reshape(1, *index.shape, *(1,) * (values.ndim - 1 - index.ndim))
    return jnp.take_along_axis(values, index, axis=0)[0]
