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

import jax
import jax.numpy as jnp

from mmbc_jax.actors._chain_steps import ChainSteps
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


@dataclasses.dataclass(frozen=True)
class ChainActor(OnTunedField):
    """See the module docstring.

    Attributes:
      num_modes: Z.
      tuned: the trained field.
      steps: of the chain.
      factors: log probabilities of the entries [..., K_ft, H, A] to those of the factors [..., R'].
      surrogate: of the factors, x_0's among them.
    """

    num_modes: int
    steps: ChainSteps
    factors: Callable[[Array], Array]
    surrogate: Surrogate

    def init(self, key: Key, reference: Variables | None) -> PyTree:
        """Parameters at which the chain is the reference's."""
        key_field, key_step = jax.random.split(key)
        own = self.steps.transition.init(key_step)
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
        noise = jax.random.normal(key_path, (self.steps.number, *x.shape))
        fields = self._fields(field, reference, obs)
        end, points, each = self.steps.explored(params.get("step", {}), fields, obs, x, noise)
        info |= {"points": points, "log_prob": self.factors(each)}
        return out(end), info

    def log_ratio(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[..., R] log ratios of x_0, where a head draws it, and of the chain."""
        field = self.tuned.field(params, reference, obs, z)[0]
        each = self.steps.log_densities(params.get("step", {}), field, obs, info["points"])
        chain = self.factors(each) - info["log_prob"]
        return jnp.concatenate([*self.tuned.start.log_ratios(params, obs, z, info), chain], -1)

    def divergence(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[...] KL of x_0 and of the steps to the reference's, at the points that were visited, in nats.

        Of a step it is |m - m_ref|^2 / (2 sigma^2): the reference is given the chain's own standard deviation.
        """
        field = self.tuned.field(params, reference, obs, z)[0]
        own, frozen = params.get("step", {}), self.tuned.frozen(reference, obs)
        means, stds = self.steps.moments(own, field, obs, info["points"])
        wanted = self.steps.moments(own, frozen, obs, info["points"])[0]
        steps = 0.5 * jnp.square((means - wanted) / stds).sum((-3, -2, -1))
        return steps + self.tuned.start.divergence(params, obs, z)

    def entropy(self, params: PyTree, reference: Variables | None, obs: Obs, z: Array) -> Array:
        """[...] nats of x_0, where a head draws it, and of the trained steps, given the points before them."""
        shape = (*z.shape, *self.tuned.policy.spec.chunk_shape)
        stds = self.steps.stds(params.get("step", {}), self.tuned.frozen(reference, obs), obs, shape)
        steps = (jnp.log(stds) + _ENTROPY).sum((-2, -1)).sum(0)
        return steps + self.tuned.start.entropy(params, obs, z)

    def play(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] from a drawn x_0, by steps that do not explore."""
        key_start, key_path = jax.random.split(key)
        x = x0_of(self.tuned.start.draw(params, reference, key_start, obs, z)[0])
        noise = jax.random.normal(key_path, (self.steps.number, *x.shape))
        return self._played(params, reference, obs, z, x, noise)

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] from the likeliest x_0, by the means of the steps."""
        x = x0_of(self.tuned.start.likeliest(params, reference, key, obs, z))
        return self._played(params, reference, obs, z, x, jnp.zeros((self.steps.number, *x.shape)))

    def _played(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, x: Array, noise: Array
    ) -> Array:
        field, out = self.tuned.field(params, reference, obs, z)
        return out(self.steps.played(self._fields(field, reference, obs), x, noise))

    def imitation(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """[...] nats: -log density of the trained steps on a chain that the reference walks, from noise of its base.

        The reference's steps have this chain's own standard deviations. What z does to x_0 is left alone: asked to
        imitate the base under every z, a head would forget z. See `core.acting.HasImitation`.
        """
        key_start, key_path = jax.random.split(key)
        x = x0_of(self.tuned.start.headless().draw(params, reference, key_start, obs, z)[0])
        noise = jax.random.normal(key_path, (self.steps.number, *x.shape))
        own, frozen = params.get("step", {}), self.tuned.frozen(reference, obs)
        points = jax.lax.stop_gradient(self.steps.explored(own, (frozen, frozen), obs, x, noise)[1])
        field = self.tuned.field(params, reference, obs, z)[0]
        return -self.factors(self.steps.log_densities(own, field, obs, points)).sum(-1)

    def _fields(self, field: Field, reference: Variables | None, obs: Obs) -> tuple[Field, Field]:
        """Those of the steps before the trained ones, and of these."""
        return (self.tuned.frozen(reference, obs) if self.steps.trained < self.steps.number else field), field
