"""Local Lipschitz constants of maps, from below: power iteration on Jacobian products, and secants.

The spectral norm of the Jacobian J at x is `|J| = max_v |J v| / |v|`. Power iteration on `J^T J` approaches
it, and `|J v|` at whatever unit v it has reached is a lower bound. Neither it nor a secant can certify an
upper one: a bound that needs the true constant holds only with analytic maps or certified networks.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from mmbc_jax.core.types import Array, Key, PyTree


def spectral_norm(
    f: Callable[[PyTree], PyTree], x: PyTree, key: Key, iterations: int = 20
) -> Float[Array, ""]:
    """The largest singular value of the Jacobian of f at one point, from below.

    From a random unit v: `u = J v`, `v <- J^T u / |J^T u|`, `iterations` times, then `|J v|`. The relative
    error falls like `(sigma_2 / sigma_1)^(4 iterations)`; close singular values slow the direction down but
    do no harm to the value. Each iteration costs one forward and one backward product. Euclidean norms over
    all entries of the floating leaves; other leaves (codes) are held fixed.

    Args:
      f: from a pytree to a pytree of floats; no batch axis.
      x: the point, with at least one floating leaf.
      key: for the first direction.
      iterations: >= 0.

    Returns:
      [] the estimate, never above the true value beyond rounding.

    Raises:
      ValueError: x has no floating leaf.
    """
    leaves, structure = jax.tree.flatten(x)
    floating = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]
    if not any(floating):
        raise ValueError("x has no floating leaf to differentiate in")
    point, unravel = ravel_pytree([leaf for leaf, moves in zip(leaves, floating, strict=True) if moves])

    def flat(v: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        moving = iter(unravel(v))
        merged = [next(moving) if moves else leaf for leaf, moves in zip(leaves, floating, strict=True)]
        image: Array = ravel_pytree(f(jax.tree.unflatten(structure, merged)))[0]
        return image

    _, forward = jax.linearize(flat, point)
    backward = jax.linear_transpose(forward, point)

    def improve(v: Array, _: None) -> tuple[Array, None]:
        (pulled,) = backward(forward(v))
        return _unit(pulled), None

    v, _ = jax.lax.scan(improve, _unit(jax.random.normal(key, point.shape, point.dtype)), length=iterations)
    value: Array = jnp.linalg.norm(forward(v))
    return value


def local_lipschitz(
    f: Callable[[PyTree], PyTree], x: PyTree, key: Key, iterations: int = 20
) -> Float[Array, " n"]:
    """`spectral_norm` at n points.

    Args:
      f: from one point (a pytree) to a pytree of floats.
      x: pytree of [n, ...], the points.
      key: for the first directions.
      iterations: of the power method.

    Returns:
      [n] lower bounds on the local Lipschitz constant; their maximum is one on the global constant.
    """
    keys = jax.random.split(key, jax.tree.leaves(x)[0].shape[0])
    return jax.vmap(lambda point, k: spectral_norm(f, point, k, iterations))(x, keys)


def secants(f: Callable[[PyTree], PyTree], x: PyTree, y: PyTree) -> Float[Array, " n"]:
    """`|f(x) - f(y)| / |x - y|` of n pairs, each a lower bound on the Lipschitz constant between them.

    Args:
      f: from one point (a pytree of floats) to a pytree of floats.
      x: pytree of [n, ...].
      y: pytree of [n, ...].

    Returns:
      [n] the slopes; 0 where the points coincide.
    """

    def slope(a: PyTree, b: PyTree) -> Float[Array, ""]:
        run = _distance(a, b)
        return jnp.where(run > 0, _distance(f(a), f(b)) / jnp.where(run > 0, run, 1.0), 0.0)

    return jax.vmap(slope)(x, y)


def _unit(v: Float[Array, " d"]) -> Float[Array, " d"]:
    """v / |v|, and 0 for 0 (a constant map)."""
    length = jnp.linalg.norm(v)
    return jnp.where(length > 0, v / jnp.where(length > 0, length, 1.0), 0.0)


def _distance(a: PyTree, b: PyTree) -> Float[Array, ""]:
    difference: Array = ravel_pytree(a)[0] - ravel_pytree(b)[0]
    distance: Array = jnp.linalg.norm(difference)
    return distance
