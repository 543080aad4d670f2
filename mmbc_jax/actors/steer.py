r"""Noise steering: a Gaussian over the reference policy's noise, given the observation and a discrete mode.

pi_W(w | s, z) of `_noise_head`,    chunk = transport(s, w) of the frozen reference

With `box` = c > 0 that Gaussian is squashed into a box, w = c tanh(w' / c) with w' as above: noise that lies where
the reference was trained, since values that are learned off-policy mean nothing elsewhere. For c of 3 or more the
start is nearly the same; the box is centred at 0.

A base that mixes components has its modes in them, where no noise reaches. With `components=commanded` z chooses
among them, too (see `_components`).

Source: the steering policy of Behavioral Mode Discovery (arXiv 2605.11387); noise-space RL of DSRL
(Wagenmaker et al. 2025).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.actors._components import Components
from mmbc_jax.actors._density import normal_log_prob, squashed_entropy
from mmbc_jax.actors._noise_head import HeadOptions, NoiseHead, divergence_from_base, required
from mmbc_jax.actors._steerable import check_steerable
from mmbc_jax.core.most_likely import most_likely
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree, Variables
from mmbc_jax.ops import soft_policy as sac
from mmbc_jax.ops.capped import capped


@dataclasses.dataclass(frozen=True, kw_only=True)
class SteerOptions(HeadOptions):
    """The steering actor."""

    box: float = option(0.0, "half-width of the box that the noise is squashed into; 0 for none", low=0.0)
    components: str = option(
        "base",
        "who chooses the component of a base that mixes some, as that of mixture_flow: the base, or z",
        choices=("base", "commanded"),
    )


@dataclasses.dataclass(frozen=True)
class SteerActor:
    """The steering actor; its action is the initial noise, W = H A numbers.

    Attributes:
      options: its options.
      spec: sizes and observations.
      policy: the reference.
      num_modes: Z.
      head: the Gaussian over the noise; its parameters are the actor's.
      components: the commanded choice of a component; None where the base chooses, or has none.
    """

    options: SteerOptions
    spec: PolicySpec
    policy: Policy
    num_modes: int
    head: NoiseHead
    components: Components | None = None

    @property
    def action_size(self) -> int:
        """W."""
        return self.head.size

    @property
    def box(self) -> float:
        """Half-width of the box of the noise; 0 for none."""
        return self.options.box

    @property
    def has_head(self) -> bool:
        """True: it is nothing else."""
        return True

    def headless(self) -> None:
        """Nothing is left but the reference; see `core.commanding.HasHead`."""

    def init(self, key: Key, reference: Variables | None) -> PyTree:
        """Parameters at which the mixture over z behaves as the reference."""
        key_base, key_mix, key_net, key_freq = jax.random.split(key, 4)
        own: dict[str, PyTree] = {}
        if self.components is not None:
            key_net, key_components = jax.random.split(key_net)
            own["components"] = self.components.init(key_components, self.spec.obs.dummy(1))
        return own | self.head.init(key_base, key_mix, key_net, key_freq, required(reference))

    def _moments(self, params: PyTree, obs: Obs, z: Array) -> tuple[Array, Array]:
        """(mean, log standard deviation) of the noise before squashing, in units of the box; each [..., W]."""
        mean, log_std = self.head.moments(params, obs, z)
        return (mean / self.box, log_std - math.log(self.box)) if self.box else (mean, log_std)

    def act(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, PyTree]:
        """Draws noise and transports it.

        Args:
          params, reference: of this actor, and of the policy, frozen.
          key: for w, and for the noise path of a stochastic sampler.
          obs: normalised.
          z: [...] int32 in [0, Z).

        Returns:
          (chunk [..., H, A], {"x0": [..., W] the noise before squashing, in units of the box, "log_prob": [...]};
          where components are commanded also "component" [...] and "component_log_prob" [...]).
        """
        key_noise, key_path = jax.random.split(key)
        mean, log_std = self._moments(params, obs, z)
        x0 = mean + jnp.exp(capped(log_std)) * jax.random.normal(key_noise, mean.shape)
        info = {"x0": x0, "log_prob": normal_log_prob(x0, mean, log_std).sum(-1)}
        if self.components is not None:
            key_path, key_component = jax.random.split(key_path)
            base = self.policy.base_distribution(required(reference), obs)
            info |= self.components.draw(params["components"], base, key_component, obs, z)
        action = sac.squash(x0, self.box)
        return _transported(self.policy, reference, _drawn(key_path), obs, action, info), info

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of the mean noise, and of the likeliest component and noise path."""
        x0, given = sac.squash(self._moments(params, obs, z)[0], self.box), {}
        if self.components is not None:
            base = self.policy.base_distribution(required(reference), obs)
            given["component"] = self.components.likeliest(params["components"], base, obs, z)
        return _transported(self.policy, reference, lambda base: most_likely(base, key), obs, x0, given)

    def sample(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, Array]:
        """(noise [..., W], its log density [...]), differentiable in `params`; the reference is not asked.

        Raises:
          ConfigError: z commands components, through which nothing differentiates.
        """
        if self.components is not None:
            raise self.options.error("components", "base: this learner differentiates actions")
        mean, log_std = self._moments(params, obs, z)
        return sac.sample(key, mean, log_std, self.box)

    def chunk(self, reference: Variables | None, key: Key, obs: Obs, action: Array) -> Array:
        """Chunk [..., H, A] into which the reference transports a noise [..., W]; `key` is for a noise path."""
        return _transported(self.policy, reference, _drawn(key), obs, action, {})

    def log_ratio(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[..., 1] log pi_W(w | s, z) under `params` minus that at the time of acting; squashing cancels.

        [..., 2] where components are commanded: the same of the component comes second.
        """
        mean, log_std = self._moments(params, obs, z)
        noise = normal_log_prob(info["x0"], mean, log_std).sum(-1) - info["log_prob"]
        if self.components is None:
            return noise[..., None]
        base = self.policy.base_distribution(required(reference), obs)
        return jnp.stack([noise, self.components.log_ratio(params["components"], base, obs, z, info)], -1)

    def divergence(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[...] KL(pi_W(. | s, z) || base) in nats, of the noise before squashing; components do not count."""
        return divergence_from_base(params, *self.head.moments(params, obs, z))

    def entropy(self, params: PyTree, reference: Variables | None, obs: Obs, z: Array) -> Array:
        """[...] entropy of pi_W(. | s, z) in nats: sum_i (log sigma_i + log(2 pi e) / 2), plus that of squashing.

        And of the component, where it is commanded.
        """
        entropy = squashed_entropy(*self._moments(params, obs, z), self.box)
        if self.components is None:
            return entropy
        base = self.policy.base_distribution(required(reference), obs)
        return entropy + self.components.entropy(params["components"], base, obs, z)


def _transported(
    policy: Policy,
    reference: Variables | None,
    pick: Callable[[Any], Any],
    obs: Obs,
    action: Array,
    given: PyTree,
) -> Array:
    """Chunk [..., H, A] of a noise [..., W]; `pick` chooses what else the base has, `given` a component."""
    shaped = policy.spec.shaped(action)
    reference = required(reference)
    w: Any = pick(policy.base_distribution(reference, obs))
    w = {**w, "x0": shaped} if isinstance(w, dict) else shaped
    if "component" in given:
        w = {**w, "component": given["component"]}
    return policy.transport(reference, obs, w)


def _drawn(key: Key) -> Callable[[Any], Any]:
    return lambda base: base.sample(seed=key)


@register("actor", SteerOptions)
def build(options: SteerOptions, *, spec: PolicySpec, policy: Policy | None, num_modes: int) -> SteerActor:
    """A steering actor on `policy`.

    Raises:
      ConfigError: there is no policy, or it has no continuous noise to steer.
    """
    if policy is None:
        raise options.error(
            "name",
            "an actor that needs no clone, such as gaussian: there is nothing to steer without bc or start_from",
        )
    count = check_steerable(options, options.components == "commanded", spec, policy)
    commanded = options.components == "commanded"
    components = Components(options.network(spec, count), num_modes, count) if commanded else None
    return SteerActor(
        options, spec, policy, num_modes, NoiseHead.of(options, spec, policy, num_modes), components
    )
