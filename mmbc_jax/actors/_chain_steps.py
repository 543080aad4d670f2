"""The steps of a chain from noise to chunk: how they are walked, and how likely the walked ones are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from mmbc_jax.actors._density import normal_log_prob
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.protocols import Field
from mmbc_jax.core.types import Array, Key, PyTree

Move = Callable[[Field, Array, Array, Array, Array], tuple[Array, PyTree]]
"""One step, of field, x, t, s and its noise: the next point, and what is remembered of the step."""


class Transition(Protocol):
    """One step of a chain, from time t [] to s []."""

    def init(self, key: Key) -> PyTree:
        """Parameters of its own; an empty dict for none."""
        ...

    def mean(self, field: Field, x: Array, t: Array, s: Array) -> Array:
        """[..., H, A] of x [..., H, A]."""
        ...

    def std(self, params: PyTree, field: Field, obs: Obs, t: Array, s: Array) -> tuple[Array, Array]:
        """(standard deviation that is drawn with, that of the density), broadcastable to [..., H, A]."""
        ...

    def play(self, field: Field, x: Array, t: Array, s: Array) -> tuple[Array, Array]:
        """(mean, standard deviation) when nothing is to be explored."""
        ...


@dataclasses.dataclass(frozen=True)
class ChainSteps:
    """K steps on an even grid of times, of which the last K_ft are remembered.

    Attributes:
      transition: of one step.
      number: K.
      trained: K_ft, at most K.
    """

    transition: Transition
    number: int
    trained: int

    def explored(
        self, own: PyTree, fields: tuple[Field, Field], obs: Obs, x: Array, noise: Array
    ) -> tuple[Array, Array, Array]:
        """A chain from x [..., H, A] with `noise` [K, ..., H, A].

        Args:
          own: parameters of the transition.
          fields: of the steps before the remembered ones, and of these.
          obs: normalised.
          x, noise: as above.

        Returns:
          (end [..., H, A], points [..., K_ft + 1, H, A], log densities of the entries of the steps between
          [..., K_ft, H, A]).
        """

        def step(field: Field, x: Array, t: Array, s: Array, eps: Array) -> tuple[Array, tuple[Array, Array]]:
            mean = self.transition.mean(field, x, t, s)
            drawn, density = self.transition.std(own, field, obs, t, s)
            after = mean + drawn * eps
            return after, (after, entries(after, mean, density))

        end, before, (points, each) = self._walk(fields, x, noise, step)
        points = jnp.concatenate([before[None], points])
        return end, jnp.moveaxis(points, 0, -3), jnp.moveaxis(each, 0, -3)

    def played(self, fields: tuple[Field, Field], x: Array, noise: Array) -> Array:
        """[..., H, A] the end of a chain whose steps do not explore."""

        def step(field: Field, x: Array, t: Array, s: Array, eps: Array) -> tuple[Array, None]:
            mean, std = self.transition.play(field, x, t, s)
            return mean + std * eps, None

        return self._walk(fields, x, noise, step)[0]

    def log_densities(self, own: PyTree, field: Field, obs: Obs, points: Array) -> Array:
        """[..., K_ft, H, A] of the entries of the steps between points [..., K_ft + 1, H, A]."""
        return entries(points[..., 1:, :, :], *self.moments(own, field, obs, points))

    def moments(self, own: PyTree, field: Field, obs: Obs, points: Array) -> tuple[Array, Array]:
        """(means [..., K_ft, H, A], standard deviations of the density) of the steps from all points but the last."""

        def moments(x: Array, t: Array, s: Array) -> tuple[Array, Array]:
            mean = self.transition.mean(field, x, t, s)
            return mean, jnp.broadcast_to(self.transition.std(own, field, obs, t, s)[1], mean.shape)

        before = jnp.moveaxis(points[..., :-1, :, :], -3, 0)
        found = jax.vmap(moments)(before, *self._remembered())
        return jax.tree.map(lambda of: jnp.moveaxis(of, 0, -3), found)

    def stds(self, own: PyTree, field: Field, obs: Obs, shape: tuple[int, ...]) -> Array:
        """[K_ft, *shape] standard deviations of the density of the remembered steps."""

        def std(t: Array, s: Array) -> Array:
            return jnp.broadcast_to(self.transition.std(own, field, obs, t, s)[1], shape)

        return jax.vmap(std)(*self._remembered())

    def _remembered(self) -> tuple[Array, Array]:
        t, s = self._times()
        return t[self.number - self.trained :], s[self.number - self.trained :]

    def _times(self) -> tuple[Array, Array]:
        """([K] t_i, [K] t_{i+1}): one grid for drawing and for densities."""
        times = jnp.linspace(0.0, 1.0, self.number + 1)
        return times[:-1], times[1:]

    def _walk(
        self, fields: tuple[Field, Field], x: Array, noise: Array, move: Move
    ) -> tuple[Array, Array, PyTree]:
        """(end of a chain from x, its first remembered point, what `move` said from there on)."""
        inputs, split = (*self._times(), noise), self.number - self.trained

        def walk(field: Field, x: Array, part: slice) -> tuple[Array, PyTree]:
            def step(x: Array, item: tuple[Array, Array, Array]) -> tuple[Array, PyTree]:
                return move(field, x, *item)

            return jax.lax.scan(step, x, jax.tree.map(lambda of: of[part], inputs))

        before = walk(fields[0], x, slice(0, split))[0] if split else x
        end, said = walk(fields[1], before, slice(split, None))
        return end, before, said


def entries(x: Array, mean: Array, std: Array) -> Array:
    """log N(x; mean, std^2) of each entry."""
    return normal_log_prob(x, mean, jnp.log(std))
