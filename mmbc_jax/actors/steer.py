r"""Noise steering: a Gaussian over the reference policy's noise, given the observation and a discrete mode.

pi_W(w | s, z) = N(m + b mu(s, z), diag(b sigma_z)^2),    chunk = transport(s, w) of the frozen reference
mu(s, z) = C_z psi(s) + MLP(s, z)

(m, b) are the mean and scale of the reference's base. psi holds random Fourier features with |psi(s)| = 1,
and C_z has independent N(0, 1 - sigma_0^2) entries. So at the start every z asks for another smooth field
of noise, while the mixture over z is the base itself: N(0, (1 - sigma_0^2) + sigma_0^2) = N(0, 1). The
reference's behaviour is thus kept in aggregate and already split by z; training sharpens the split. With one mode the
start is exactly the base.

With `box` = c > 0 that Gaussian is squashed into a box, w = c tanh(w' / c) with w' as above: noise that lies where
the reference was trained, since values that are learned off-policy mean nothing elsewhere. For c of 3 or more the
start is nearly the same; the box is centred at 0.

A base that mixes components has its modes in them, where no noise reaches. With `components=commanded` z chooses
among them, too (see `_components`).

Source: the steering policy of Behavioral Mode Discovery (arXiv 2605.11387); noise-space RL of DSRL
(Wagenmaker et al. 2025). The initialisation is ours.
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
from mmbc_jax.actors._steerable import check_steerable, x0_of
from mmbc_jax.core.most_likely import most_likely
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree, Variables
from mmbc_jax.nn.embedding import continuous
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.ops import soft_policy as sac
from mmbc_jax.ops.capped import capped
from mmbc_jax.ops.picked import rows

_BASE_SAMPLES = 4096  # for the base's mean and scale; the error of either is about 1/64


@dataclasses.dataclass(frozen=True, kw_only=True)
class SteerOptions(Options):
    """The steering actor."""

    hidden: tuple[int, ...] = option((128, 128), "widths of the hidden layers", low=1)
    activation: str = option("silu", "between the layers", choices=tuple(ACTIVATIONS))
    fourier_octaves: int = option(4, "of the observation's features", low=0, high=16)
    init_std: float = option(
        0.3, "sigma_0 for two modes or more, in units of the base", low=0.0, high=1.0, open_low=True
    )
    init_features: int = option(8, "frequencies in psi", low=1)
    init_frequency: float = option(
        1.5, "their standard deviation, in rad per unit of normalised observation", low=0.0
    )
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
      network: (observation, one-hot z) to mu.
      components: the commanded choice of a component; None where the base chooses, or has none.
    """

    options: SteerOptions
    spec: PolicySpec
    policy: Policy
    num_modes: int
    network: EncodedMLP
    components: Components | None = None

    @property
    def action_size(self) -> int:
        """W."""
        return self.spec.chunk_len * self.spec.action_dim

    def init(self, key: Key, reference: Variables | None) -> PyTree:
        """Parameters at which the mixture over z behaves as the reference."""
        key_base, key_mix, key_net, key_freq = jax.random.split(key, 4)
        options, reference = self.options, _given(reference)
        samples = self._base_samples(key_base, reference)
        std = options.init_std if self.num_modes > 1 else 1.0
        shape = (self.num_modes, 2 * options.init_features, self.action_size)
        obs, z = self.spec.obs.dummy(1), jnp.zeros((1,), jnp.int32)
        frequencies = (self._vectors(obs).shape[-1], options.init_features)
        own: dict[str, PyTree] = {}
        if self.components is not None:
            key_net, key_components = jax.random.split(key_net)
            own["components"] = self.components.init(key_components, obs)
        return own | {
            "base_mean": samples.mean(0),
            "base_std": samples.std(0),
            "frequency": options.init_frequency * jax.random.normal(key_freq, frequencies),
            "mix": math.sqrt(1.0 - std**2) * jax.random.normal(key_mix, shape),
            "network": self.network.init(key_net, obs, jax.nn.one_hot(z, self.num_modes)),
            "log_std": jnp.full((self.num_modes, self.action_size), math.log(std), jnp.float32),
        }

    def _base_samples(self, key: Key, reference: Variables) -> Array:
        """[n, W] draws of the base at the observation 0."""
        if self.spec.obs.images:  # encoded once, not n times
            one = self.policy.base_distribution(reference, self.spec.obs.dummy(1))
            drawn = one.sample(seed=key, sample_shape=(_BASE_SAMPLES,))
        else:
            base = self.policy.base_distribution(reference, self.spec.obs.dummy(_BASE_SAMPLES))
            drawn = base.sample(seed=key)
        return x0_of(drawn).reshape(_BASE_SAMPLES, -1)

    def _vectors(self, obs: Obs) -> Array:
        """[..., D'] the vector entries of an observation without jumps; D' is 0 where there are only images."""
        named = self.spec.obs.named(obs)
        parts = [continuous(named[name], e) for name, e in self.spec.obs.entries if e.kind == "vector"]
        empty = jnp.zeros((*self.spec.obs.batch_shape(obs), 0))
        return parts[0] if len(parts) == 1 else jnp.concatenate([empty, *parts], -1)

    def _moments(self, params: PyTree, obs: Obs, z: Array) -> tuple[Array, Array]:
        """(mean, log standard deviation) of the noise before squashing, in units of the box; each [..., W]."""
        angle = self._vectors(obs) @ jax.lax.stop_gradient(params["frequency"])
        psi = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1) / math.sqrt(self.options.init_features)
        field = jnp.einsum("...f,...fw->...w", psi, rows(params["mix"], z))
        mean = field + self.network.apply(params["network"], obs, jax.nn.one_hot(z, self.num_modes))
        base_mean = jax.lax.stop_gradient(params["base_mean"])
        base_std = jax.lax.stop_gradient(params["base_std"])
        mean, log_std = base_mean + base_std * mean, jnp.log(base_std) + rows(params["log_std"], z)
        box = self.options.box
        return (mean / box, log_std - math.log(box)) if box else (mean, log_std)

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
            base = self.policy.base_distribution(_given(reference), obs)
            info |= self.components.draw(params["components"], base, key_component, obs, z)
        action = sac.squash(x0, self.options.box)
        return _transported(self.policy, reference, _drawn(key_path), obs, action, info), info

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of the mean noise, and of the likeliest component and noise path."""
        x0, given = sac.squash(self._moments(params, obs, z)[0], self.options.box), {}
        if self.components is not None:
            base = self.policy.base_distribution(_given(reference), obs)
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
        return sac.sample(key, mean, log_std, self.options.box)

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
        base = self.policy.base_distribution(_given(reference), obs)
        return jnp.stack([noise, self.components.log_ratio(params["components"], base, obs, z, info)], -1)

    def entropy(self, params: PyTree, reference: Variables | None, obs: Obs, z: Array) -> Array:
        """[...] entropy of pi_W(. | s, z) in nats: sum_i (log sigma_i + log(2 pi e) / 2), plus that of squashing.

        And of the component, where it is commanded.
        """
        entropy = squashed_entropy(*self._moments(params, obs, z), self.options.box)
        if self.components is None:
            return entropy
        base = self.policy.base_distribution(_given(reference), obs)
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
    shaped = action.reshape(*action.shape[:-1], *policy.spec.chunk_shape)
    reference = _given(reference)
    w: Any = pick(policy.base_distribution(reference, obs))
    w = {**w, "x0": shaped} if isinstance(w, dict) else shaped
    if "component" in given:
        w = {**w, "component": given["component"]}
    return policy.transport(reference, obs, w)


def _drawn(key: Key) -> Callable[[Any], Any]:
    return lambda base: base.sample(seed=key)


def _given(reference: Variables | None) -> Variables:
    if reference is None:
        raise ValueError("steering needs the variables of its reference policy")
    return reference


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

    def network(size: int) -> EncodedMLP:
        mlp = MLP(options.hidden, size, activation=options.activation, zero_last=True)
        return EncodedMLP(ObsEncoder(spec.obs, options.fourier_octaves), mlp)

    components = Components(network(count), num_modes, count) if options.components == "commanded" else None
    size = spec.chunk_len * spec.action_dim
    return SteerActor(options, spec, policy, num_modes, network(size), components)
