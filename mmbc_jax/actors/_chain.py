r"""A chain of Gaussian steps from noise to chunk as the policy, so that its probability is known in closed form.

x_{i+1} ~ N(m_i(x_i, s), diag(sigma_i)^2),  i = 0 .. K-1, at the times t_i = i / K

of which the last K_ft steps use the trained field and are remembered; those before use the reference's and are part
of the environment. The probability of a decision given its first remembered point has K_ft factors, one for each
step, preceded by that of x_0 where a steering head drew it.

Source: Ren et al. 2024 (DPPO); Black et al. 2024 (DDPO).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mmbc_jax.actors._density import normal_log_prob
from mmbc_jax.actors._noise_head import x0_of
from mmbc_jax.actors._tuned_field import OnTunedField, TunedFieldOptions
from mmbc_jax.core.acting import Surrogate
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field
from mmbc_jax.core.types import Array, Key, PyTree, Variables

_ENTROPY = 0.5 * jnp.log(2.0 * jnp.pi * jnp.e)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainOptions(TunedFieldOptions):
    """Options of every actor that is a chain."""

    trained: int = option(5, "of the steps, the last ones; the reference takes the others", low=1, high=1000)

    def check(self) -> None:
        """Raises ConfigError where more steps are trained than there are."""
        super().check()
        if self.trained > self.steps:
            raise self.error("trained", f"at most steps = {self.steps}")


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
class ChainActor(OnTunedField):
    """See the module docstring.

    Attributes:
      num_modes: Z.
      tuned: the trained field.
      transition: of the chain.
      steps: K.
      trained: K_ft, at most K.
      factors: log probabilities of the entries [..., K_ft, H, A] to those of the factors [..., R'].
      surrogate: of the factors, x_0's among them.
    """

    num_modes: int
    transition: Transition
    steps: int
    trained: int
    factors: Callable[[Array], Array]
    surrogate: Surrogate

    def init(self, key: Key, reference: Variables | None) -> PyTree:
        """Parameters at which the chain is the reference's."""
        key_field, key_step = jax.random.split(key)
        own = self.transition.init(key_step)
        return self.tuned.init(key_field, reference) | ({"step": own} if own else {})

    def act(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, PyTree]:
        """Draws a chain.

        Args:
          params, reference: of this actor, and of the policy, frozen.
          key: for x_0 and the steps.
          obs: normalised.
          z: [...] int32 in [0, Z).

        Returns:
          (chunk [..., H, A], {"points": [..., K_ft + 1, H, A], "log_prob": [..., R']}, and of `StartNoise.draw`).
        """
        key_start, key_path = jax.random.split(key)
        w, info = self.tuned.start.draw(params, reference, key_start, obs, z)
        x = x0_of(w)
        field, out = self.tuned.field(params, reference, obs, z)
        noise = jax.random.normal(key_path, (self.steps, *x.shape))
        end, before, (points, each) = self._walk(
            self._fields(field, reference, obs), x, noise, self._explore(params, obs)
        )
        points = jnp.moveaxis(jnp.concatenate([before[None], points]), 0, -3)
        info |= {"points": points, "log_prob": self.factors(jnp.moveaxis(each, 0, -3))}
        return out(end), info

    def log_ratio(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[..., R] log ratios of x_0, where a head draws it, and of the chain."""
        field = self.tuned.field(params, reference, obs, z)[0]
        means, stds = self._moments(params, field, obs, info)
        each = _entries(_after(info), means, stds)
        chain = self.factors(each) - info["log_prob"]
        return jnp.concatenate([*self.tuned.start.log_ratios(params, obs, z, info), chain], -1)

    def divergence(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[...] KL of x_0 and of the steps to the reference's, at the points that were visited, in nats.

        Of a step it is |m - m_ref|^2 / (2 sigma^2): the reference is given the chain's own standard deviation.
        """
        field = self.tuned.field(params, reference, obs, z)[0]
        means, stds = self._moments(params, field, obs, info)
        wanted = self._moments(params, self.tuned.frozen(reference, obs), obs, info)[0]
        steps = 0.5 * jnp.square((means - wanted) / stds).sum((-3, -2, -1))
        return steps + self.tuned.start.divergence(params, obs, z)

    def _moments(self, params: PyTree, field: Field, obs: Obs, info: PyTree) -> tuple[Array, Array]:
        """(means [..., K_ft, H, A], standard deviations of the density) at the remembered points."""
        own = params.get("step", {})
        t, s = (times[self.steps - self.trained :] for times in _times(self.steps))

        def moments(x: Array, t: Array, s: Array) -> tuple[Array, Array]:
            mean = self.transition.mean(field, x, t, s)
            std = self.transition.std(own, field, obs, t, s)[1]
            return mean, jnp.broadcast_to(std, mean.shape)

        before = jnp.moveaxis(info["points"][..., :-1, :, :], -3, 0)
        return jax.tree.map(lambda of: jnp.moveaxis(of, 0, -3), jax.vmap(moments)(before, t, s))

    def entropy(self, params: PyTree, reference: Variables | None, obs: Obs, z: Array) -> Array:
        """[...] nats of x_0, where a head draws it, and of the trained steps, given the points before them."""
        field = self.tuned.frozen(reference, obs)
        own, batch = params.get("step", {}), z.shape
        t, s = (times[self.steps - self.trained :] for times in _times(self.steps))

        def entropy(t: Array, s: Array) -> Array:
            std = self.transition.std(own, field, obs, t, s)[1]
            std = jnp.broadcast_to(std, (*batch, *self.tuned.policy.spec.chunk_shape))
            return (jnp.log(std) + _ENTROPY).sum((-2, -1))

        return jax.vmap(entropy)(t, s).sum(0) + self.tuned.start.entropy(params, obs, z)

    def play(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] from a drawn x_0, by steps that do not explore."""
        key_start, key_path = jax.random.split(key)
        x = x0_of(self.tuned.start.draw(params, reference, key_start, obs, z)[0])
        noise = jax.random.normal(key_path, (self.steps, *x.shape))
        return self._played(params, reference, obs, z, x, noise)

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] from the likeliest x_0, by the means of the steps."""
        x = x0_of(self.tuned.start.likeliest(params, reference, key, obs, z))
        return self._played(params, reference, obs, z, x, jnp.zeros((self.steps, *x.shape)))

    def _played(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, x: Array, noise: Array
    ) -> Array:
        field, out = self.tuned.field(params, reference, obs, z)

        def step(field: Field, x: Array, t: Array, s: Array, eps: Array) -> tuple[Array, None]:
            mean, std = self.transition.play(field, x, t, s)
            return mean + std * eps, None

        return out(self._walk(self._fields(field, reference, obs), x, noise, step)[0])

    def imitation(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """[...] nats: -log density of the trained steps on a chain that the reference walks, from noise of its base.

        The reference's steps have this chain's own standard deviations. What z does to x_0 is left alone: asked to
        imitate the base under every z, a head would forget z. See `core.acting.HasImitation`.
        """
        key_start, key_path = jax.random.split(key)
        x = x0_of(self.tuned.start.headless().draw(params, reference, key_start, obs, z)[0])
        noise = jax.random.normal(key_path, (self.steps, *x.shape))
        frozen = self.tuned.frozen(reference, obs)
        walked = self._walk((frozen, frozen), x, noise, self._explore(params, obs))
        points = jnp.moveaxis(jnp.concatenate([walked[1][None], walked[2][0]]), 0, -3)
        info = {"points": jax.lax.stop_gradient(points)}
        field = self.tuned.field(params, reference, obs, z)[0]
        return -self.factors(_entries(_after(info), *self._moments(params, field, obs, info))).sum(-1)

    def _fields(self, field: Field, reference: Variables | None, obs: Obs) -> tuple[Field, Field]:
        """Those of the steps before the trained ones, and of these."""
        return (self.tuned.frozen(reference, obs) if self.trained < self.steps else field), field

    def _explore(self, params: PyTree, obs: Obs) -> Move:
        own = params.get("step", {})

        def step(field: Field, x: Array, t: Array, s: Array, eps: Array) -> tuple[Array, tuple[Array, Array]]:
            mean = self.transition.mean(field, x, t, s)
            drawn, density = self.transition.std(own, field, obs, t, s)
            after = mean + drawn * eps
            return after, (after, _entries(after, mean, density))

        return step

    def _walk(
        self, fields: tuple[Field, Field], x: Array, noise: Array, move: Move
    ) -> tuple[Array, Array, PyTree]:
        """(end of a chain from x by `noise` [K, ..., H, A], its first trained point, what `move` said since)."""
        inputs, split = (*_times(self.steps), noise), self.steps - self.trained

        def walk(field: Field, x: Array, part: slice) -> tuple[Array, PyTree]:
            def step(x: Array, item: tuple[Array, Array, Array]) -> tuple[Array, PyTree]:
                return move(field, x, *item)

            return jax.lax.scan(step, x, jax.tree.map(lambda of: of[part], inputs))

        before = walk(fields[0], x, slice(0, split))[0] if split else x
        end, said = walk(fields[1], before, slice(split, None))
        return end, before, said


def _times(steps: int) -> tuple[Array, Array]:
    """([K] t_i, [K] t_{i+1}): one grid for drawing and for densities."""
    times = jnp.linspace(0.0, 1.0, steps + 1)
    return times[:-1], times[1:]


def _after(info: PyTree) -> Array:
    """[..., K_ft, H, A] the points that the steps led to."""
    return info["points"][..., 1:, :, :]


def _entries(x: Array, mean: Array, std: Array | Any) -> Array:
    """log N(x; mean, std^2) of each entry."""
    return normal_log_prob(x, mean, jnp.log(std))
