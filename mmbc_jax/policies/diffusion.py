r"""Denoising diffusion on action chunks, with time running from noise (t=0) to data (t=1).

x_t = alpha_t x1 + sigma_t x0 on the variance-preserving cosine path

  alpha_t = cos(p_t), sigma_t = sin(p_t), p_t = (1 - t) arccos(`min_alpha`),

so alpha^2 + sigma^2 = 1. The network regresses one of

  noise: x0,   data: x1,   v: sigma_t x1 - alpha_t x0,

each of which determines the others given x_t. From the noise, x1 = (x - sigma x0) / alpha is singular at
alpha=0: that is why the noisiest level keeps `min_alpha` of the data, and why the noise prediction loses
accuracy there; v is well conditioned at both ends and is the default, which makes samplers of two steps work.

Source: Ho et al. 2020; Nichol and Dhariwal 2021 (cosine); Salimans and Ho 2022 (v).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field, MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, Variables
from mmbc_jax.nn.backbone import make_backbone
from mmbc_jax.ops.leading_axes import over_chunk
from mmbc_jax.policies._common import BoundField, FieldOptions, FieldPolicy, check_noise, extent, masked_mse

PREDICTIONS = ("noise", "data", "v")
MIN_SIGMA = 1e-3  # below it the noise cannot be told from a chunk; samplers do not evaluate there


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionOptions(FieldOptions):
    """Options of diffusion.

    `train_steps` levels are t = 0, 1/K, .., (K-1)/K; a sampler may use other times, the network interpolates.
    """

    prediction: str = option("v", "what the network regresses", choices=PREDICTIONS)
    train_steps: int = option(20, "noise levels seen in training; 0 for all of [0, 1)", low=0, high=100_000)
    min_alpha: float = option(0.02, "share of the data at the noisiest level", low=0.0, high=0.5)
    clip: float = option(
        1.0,
        "bound of the estimated data in denoising, in units of the data's own range, or of [-1, 1] where that is "
        "wider; 0 for none",
        low=0.0,
    )

    def check(self) -> None:
        """Raises ConfigError where options do not go together."""
        super().check()
        if self.prediction == "noise" and self.min_alpha < 1e-3:
            raise self.error("min_alpha", f"at least 0.001 for {self.section}.prediction = 'noise'")


def cosine_path(t: Array, min_alpha: float) -> tuple[Array, Array]:
    """(alpha, sigma) at times t [...] of the path above; alpha(0) = min_alpha, alpha(1) = 1."""
    # measured from the data's end, where sigma is then exactly 0
    angle = math.acos(min_alpha) * (1.0 - t)
    return jnp.cos(angle), jnp.sin(angle)


def to_target(prediction: str, x1: Array, x0: Array, alpha: Array, sigma: Array) -> Array:
    """What the network regresses: the noise, the data, or v = sigma x1 - alpha x0."""
    if prediction == "noise":
        return x0
    return x1 if prediction == "data" else sigma * x1 - alpha * x0


def from_output(prediction: str, output: Array, x: Array, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """(data, noise) from the network's output at x = alpha * data + sigma * noise; inverse of `to_target`."""
    if prediction == "noise":
        return (x - sigma * output) / alpha, output
    if prediction == "data":
        return output, (x - alpha * output) / jnp.maximum(sigma, MIN_SIGMA)
    return alpha * x + sigma * output, sigma * x - alpha * output


@dataclasses.dataclass(frozen=True)
class DiffusionPolicy(FieldPolicy):
    """Diffusion with any sampler; a prior other than N(0, I) needs a deterministic one. Attributes: `FieldPolicy`."""

    options: DiffusionOptions

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """As of every field, with the range that estimates are clipped at."""
        variables = super().init(key, sample_batch)
        if self.options.clip == 0.0:
            return variables
        return variables.replace(stats={**variables.stats, "bound": self.options.clip * extent(sample_batch)})

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Mean squared error of the prediction at one noise level per example.

        `key` splits in two: the first half draws x0, the second the levels.

        Args:
          variables: of this policy.
          key: randomness of x0 and t.
          batch: obs [B], chunk [B, H, A], mask [B, H].
          hp: unused; nothing here is traced.

        Returns:
          per_example [B].
        """
        key_noise, key_time = jax.random.split(key)
        x1 = batch.chunk
        x0 = self.prior.distribution(variables.stats["prior"], batch.obs).sample(seed=key_noise)
        t = self.draw_times(key_time, x1.shape[:-2])
        alpha, sigma = cosine_path(t[..., None, None], self.options.min_alpha)
        x = alpha * x1 + sigma * x0
        output = self.predict(variables, batch.obs, self._coefficients)(x, t)
        error = masked_mse(output, to_target(self.options.prediction, x1, x0, alpha, sigma), batch.mask)
        return Loss(error, jnp.zeros(()), {"bc/diffusion_mse": error.mean()}, variables.stats)

    def _coefficients(self, t: Array) -> tuple[Array, Array, Array, Array]:
        """(alpha, sigma), and the coefficients of data and noise in what the network regresses."""
        alpha, sigma = cosine_path(t, self.options.min_alpha)
        one, zero = jnp.ones_like(t), jnp.zeros_like(t)
        data, noise = {"noise": (zero, one), "data": (one, zero), "v": (sigma, -alpha)}[
            self.options.prediction
        ]
        return alpha, sigma, data, noise

    def draw_times(self, key: Key, shape: tuple[int, ...]) -> Array:
        """Training times in [0, 1) of the given shape."""
        if self.options.train_steps == 0:
            return jax.random.uniform(key, shape)
        return jax.random.randint(key, shape, 0, self.options.train_steps) / self.options.train_steps

    def field(self, variables: Variables, obs: Obs) -> Field:
        """The learned field for observations, which are encoded once, here."""
        predict = self.predict(variables, obs, self._coefficients)
        min_alpha, bound = self.options.min_alpha, variables.stats.get("bound")
        rate = math.acos(min_alpha)  # -dp/dt

        def denoise(x: Array, t: Array) -> tuple[Array, Array]:
            alpha, sigma = cosine_path(over_chunk(t), min_alpha)
            data, noise = from_output(self.options.prediction, predict(x, t), x, alpha, sigma)
            if bound is not None:
                data = jnp.clip(data, -bound, bound)
                noise = (x - alpha * data) / jnp.maximum(sigma, MIN_SIGMA)
            return data, noise

        def velocity(x: Array, t: Array) -> Array:
            alpha, sigma = cosine_path(over_chunk(t), min_alpha)
            data, noise = denoise(x, t)
            return rate * (sigma * data - alpha * noise)

        return BoundField(velocity=velocity, denoise=denoise, path=lambda t: cosine_path(t, min_alpha))


@register("policy", DiffusionOptions, needs_prior="fixed", needs_sampler=True)
def build(
    options: DiffusionOptions, spec: PolicySpec, *, prior: MakePrior, sampler: Sampler
) -> DiffusionPolicy:
    """A diffusion policy.

    Raises:
      ConfigError: the base is not fixed, or the sampler is stochastic and the prior is not N(0, I).
    """
    base = prior(spec.chunk_shape)
    check_noise(base, sampler)
    return DiffusionPolicy(spec, options, make_backbone(options, spec, spec.action_dim), base, sampler)
