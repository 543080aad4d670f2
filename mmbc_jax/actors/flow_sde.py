r"""Fine-tuning of a flow by noise in its steps (ReinFlow, Flow-GRPO), which gives the chunk a density.

x_{i+1} = x_i + v(x_i, t_i, s) / K + sigma_i e_i

noise=learned: sigma = exp(a network of (s, t)), between `std_low` and `std_high`, trained beside the field and thrown
away when played. noise=fixed: sigma = `std_high`. Both widen what the flow makes. noise=sde: Euler-Maruyama on the
equation with the flow's own marginals for every a = `sde_scale`, with n the estimate of the noise,

  x_{i+1} = x_i + [v - (g^2 / 2) n / sigma_t] / K + g e_i / sqrt(K),   g = a sqrt((1 - t) / t),

t of the next step standing for the first one's 0. Played, the steps are Euler's.

semantics=exact: each step has its likelihood ratio. semantics=reinflow: one for the chain, the log density divided by
(K + 1) H A and clamped to [-1, 1]. semantics=flow_grpo: one for each step, the mean over its numbers.

Source: Zhang et al. 2025 (ReinFlow, arXiv 2505.22094); Liu et al. 2025 (Flow-GRPO, arXiv 2505.05470). One grid of
times serves drawing and densities here; in ReinFlow's code these use two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from mmbc_jax.actors._chain import ChainActor, ChainOptions
from mmbc_jax.actors._chain_steps import ChainSteps
from mmbc_jax.actors._tuned_field import tuned_field
from mmbc_jax.core.acting import Surrogate
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field, Policy
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.nn.embedding import time_embedding
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder

_TIME = 16  # features of the generation time


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowSDEOptions(ChainOptions):
    """A noisy flow as a policy."""

    steps: int = option(4, "from noise to chunk, evenly spaced in time", low=1, high=1000)
    trained: int = option(4, "of the steps, the last ones; the reference takes the others", low=1, high=1000)
    noise: str = option("learned", "of a step; see the text", choices=("learned", "fixed", "sde"))
    std_low: float = option(
        0.08,
        "least standard deviation of learned noise, in units of the policy's chunk",
        low=0.0,
        open_low=True,
    )
    std_high: float = option(0.16, "largest, and that of fixed noise", low=0.0, open_low=True)
    std_hidden: tuple[int, ...] = option((64, 64), "widths of the noise's network", low=1)
    sde_scale: float = option(0.7, "a, of the SDE's noise", low=0.0, open_low=True)
    semantics: str = option("exact", "of the ratio; see the text", choices=("exact", "reinflow", "flow_grpo"))

    def check(self) -> None:
        """Raises ConfigError where options do not go together."""
        super().check()
        if self.std_low > self.std_high:
            raise self.error("std_low", f"at most std_high = {self.std_high}")


@dataclasses.dataclass(frozen=True)
class Noisy:
    """Euler's steps with noise; see `_chain_steps.Transition`.

    Attributes:
      options: of the actor.
      spec: sizes and observations.
      network: (observation, features of time) to the place of log sigma^2 between its bounds; None if not learned.
    """

    options: FlowSDEOptions
    spec: PolicySpec
    network: EncodedMLP | None

    def init(self, key: Key) -> PyTree:
        """Of the network, where there is one; sigma then starts in the middle of its range, in the logarithm."""
        if self.network is None:
            return {}
        return self.network.init(key, self.spec.obs.dummy(1), jnp.zeros((1, _TIME)))

    def mean(self, field: Field, x: Array, t: Array, s: Array) -> Array:
        """Of Euler's step, or of Euler-Maruyama's."""
        if self.options.noise != "sde":
            return x + (s - t) * field.velocity(x, t)
        start, sigma = field.denoise(x, t)[1], field.path(t)[1]
        drift = field.velocity(x, t) - 0.5 * self._diffusion(t, s) ** 2 * start / sigma
        return x + (s - t) * drift

    def _diffusion(self, t: Array, s: Array) -> Array:
        """g."""
        return self.options.sde_scale * jnp.sqrt((1.0 - t) / jnp.where(t > 0.0, t, s))

    def std(self, params: PyTree, field: Field, obs: Obs, t: Array, s: Array) -> tuple[Array, Array]:
        """sigma, twice."""
        options = self.options
        if options.noise == "sde":
            std = self._diffusion(t, s) * jnp.sqrt(s - t)
        elif self.network is None:
            std = jnp.full((), options.std_high)
        else:
            batch = self.spec.obs.batch_shape(obs)
            time = jnp.broadcast_to(time_embedding(t, _TIME), (*batch, _TIME))
            place = 0.5 * (jnp.tanh(self.network.apply(params, obs, time)) + 1.0)
            low, high = jnp.log(options.std_low), jnp.log(options.std_high)
            std = jnp.exp(low + (high - low) * place).reshape(*batch, *self.spec.chunk_shape)
        return std, std

    def play(self, field: Field, x: Array, t: Array, s: Array) -> tuple[Array, Array]:
        """Euler's step."""
        return x + (s - t) * field.velocity(x, t), jnp.zeros(())


def factors(semantics: str) -> Callable[[Array], Array]:
    """[..., K, H, A] log densities of entries to the log of what is called a probability, [..., K] or [..., 1]."""

    def exact(each: Array) -> Array:
        return each.sum((-2, -1))

    def reinflow(each: Array) -> Array:
        steps, length, actions = each.shape[-3:]
        whole = each.sum((-3, -2, -1)) / ((steps + 1) * length * actions)
        return jnp.clip(whole, -1.0, 1.0)[..., None]

    def flow_grpo(each: Array) -> Array:
        return each.mean((-2, -1))

    return {"exact": exact, "reinflow": reinflow, "flow_grpo": flow_grpo}[semantics]


@register("actor", FlowSDEOptions)
def build(options: FlowSDEOptions, *, spec: PolicySpec, policy: Policy | None, num_modes: int) -> ChainActor:
    """An actor that adds noise to a flow.

    Raises:
      ConfigError: there is no policy, or it integrates no field.
    """
    network = None
    if options.noise == "learned":
        size = spec.chunk_size
        mlp = MLP(options.std_hidden, size, activation="tanh", zero_last=True)
        network = EncodedMLP(ObsEncoder(spec.obs, 0), mlp)
    return ChainActor(
        num_modes=num_modes,
        tuned=tuned_field(options, spec, policy, num_modes),
        steps=ChainSteps(Noisy(options, spec, network), options.steps, options.trained),
        factors=factors(options.semantics),
        surrogate=Surrogate(),
    )
