r"""Fine-tuning of the denoising chain (DPPO): every step of the sampler is an action of a Markov decision process.

The steps are those of ancestral sampling (`ddpm`) or of DDIM with noise (`ddim`, `eta`), their standard deviation not
below `min_std`. The last `trained` of them use a trained copy of the reference's network, the others the reference's.
All share the advantage of the decision, weighted with `gamma_denoise`^(steps that follow), so that the last weighs 1.

semantics=exact: each step has its likelihood ratio, over all numbers of the chunk.
semantics=published: as in the authors' code, of each number the log density is clamped to [-5, 2], and of these the
mean is taken; what is called a ratio is then a geometric mean, W = H A times milder. The authors average over the
executed steps, here it is over the chunk: the same where all of it is executed, else milder by that share.

Ancestral sampling forgets x_0 within a step or two, and with it what a steering head asked for; so DDIM is the
default, its noise the floor alone. Played, the floor is gone: `ddpm` keeps the sampler's own noise, `ddim` none.

Source: Ren et al. 2024 (DPPO, arXiv 2409.00588).
"""

from __future__ import annotations

import dataclasses
import math

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
from mmbc_jax.ops.ancestral import ancestral_coefficients

PUBLISHED_CLAMP = (-5.0, 2.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoiseOptions(ChainOptions):
    """The denoising chain as a policy."""

    chain: str = option("ddim", "the sampler", choices=("ddpm", "ddim"))
    eta: float = option(0.0, "noise of ddim as a fraction of the ancestral posterior's", low=0.0, high=1.0)
    min_std: float = option(
        0.1,
        "least standard deviation of a step in exploring, in units of the policy's chunk",
        low=0.0,
        open_low=True,
    )
    density_min_std: float = option(
        0.1, "the same in the density, at least `min_std` for it to be one", low=0.0, open_low=True
    )
    gamma_denoise: float = option(
        0.99, "discount of a step's advantage by each that follows", low=0.0, high=1.0, open_low=True
    )
    clip_start: float = option(
        1.0,
        "clip of the first trained step as a share of the last's; between, it grows",
        low=0.0,
        high=1.0,
        open_low=True,
    )
    clip_rate: float = option(3.0, "of that growth, which is exponential", low=0.0, open_low=True)
    semantics: str = option("exact", "of the ratio; see the text", choices=("exact", "published"))

    def surrogate(self, head: bool) -> Surrogate:
        """Weights and clips of the factors; that of the noise counts as a step before the first."""
        last = self.trained - 1
        weight = [self.gamma_denoise ** (last - i) for i in range(self.trained)]
        clip = [self._clip(i / last if last else 1.0) for i in range(self.trained)]
        if head:
            weight, clip = [self.gamma_denoise**self.trained, *weight], [clip[0], *clip]
        return Surrogate(tuple(weight), tuple(clip))

    def _clip(self, t: float) -> float:
        """start + (1 - start) (e^(rate t) - 1) / (e^rate - 1), with t from 0 at the first trained step to 1."""
        grown = math.expm1(self.clip_rate * t) / math.expm1(self.clip_rate)
        return self.clip_start + (1.0 - self.clip_start) * grown


@dataclasses.dataclass(frozen=True)
class Denoising:
    """The steps; see `_chain_steps.Transition`.

    Attributes:
      options: of the actor.
    """

    options: DenoiseOptions

    def init(self, key: Key) -> PyTree:
        """Nothing."""
        return {}

    def _coefficients(self, field: Field, t: Array, s: Array) -> tuple[Array, Array, Array]:
        return ancestral_coefficients(field.path(t), field.path(s))

    def mean(self, field: Field, x: Array, t: Array, s: Array) -> Array:
        """Of the exploring chain."""
        return self._mean(field, x, t, s, self.options.eta)

    def _mean(self, field: Field, x: Array, t: Array, s: Array, eta: float) -> Array:
        data, noise = field.denoise(x, t)
        keep, pull, std = self._coefficients(field, t, s)
        if self.options.chain == "ddpm":
            return keep * x + pull * data
        alpha, sigma = field.path(s)
        return alpha * data + jnp.sqrt(jnp.maximum(sigma**2 - (eta * std) ** 2, 0.0)) * noise

    def std(self, params: PyTree, field: Field, obs: Obs, t: Array, s: Array) -> tuple[Array, Array]:
        """The sampler's, with the two floors."""
        std = self._coefficients(field, t, s)[2] * (self.options.eta if self.options.chain == "ddim" else 1.0)
        return jnp.maximum(std, self.options.min_std), jnp.maximum(std, self.options.density_min_std)

    def play(self, field: Field, x: Array, t: Array, s: Array) -> tuple[Array, Array]:
        """Ancestral sampling, or DDIM without noise."""
        std = self._coefficients(field, t, s)[2]
        return self._mean(field, x, t, s, 0.0), std if self.options.chain == "ddpm" else jnp.zeros(())


def exact(each: Array) -> Array:
    """[..., K] the log likelihood of each step from those of its entries [..., K, H, A]."""
    return each.sum((-2, -1))


def published(each: Array) -> Array:
    """[..., K] the mean over a step's entries of the clamped log density."""
    return jnp.clip(each, *PUBLISHED_CLAMP).mean((-2, -1))


@register("actor", DenoiseOptions)
def build(options: DenoiseOptions, *, spec: PolicySpec, policy: Policy | None, num_modes: int) -> ChainActor:
    """An actor that denoises.

    Raises:
      ConfigError: there is no policy, or it integrates no field.
    """
    tuned = tuned_field(options, spec, policy, num_modes)
    return ChainActor(
        num_modes=num_modes,
        tuned=tuned,
        steps=ChainSteps(Denoising(options), options.steps, options.trained),
        factors=exact if options.semantics == "exact" else published,
        surrogate=options.surrogate(tuned.start.head is not None),
    )
