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
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import Field, MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, Variables
from mmbc_jax.nn.backbone import make_backbone, network_config
from mmbc_jax.policies._common import (
    BoundField,
    FieldPolicy,
    check_base,
    masked_mse,
)

PREDICTIONS = ("noise", "data", "v")
MIN_SIGMA = 1e-3  # below it the noise cannot be told from a chunk; samplers do not evaluate there


def default_config() -> ConfigDict:
    """Defaults.

    `train_steps`: number of noise levels t = 0, 1/K, .., (K-1)/K seen in training, 0 for all of [0, 1); a
    sampler may use other times, the network interpolates. `clip`: bound of the estimated data in denoising,
    0 for none. `skip`: the network learns what the answer for Gaussian data leaves.
    """
    return ConfigDict(
        {
            **network_config(),
            "skip": False,
            "prediction": "v",
            "train_steps": 20,
            "min_alpha": 0.02,
            "clip": 1.0,
        }
    )


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
    """Diffusion with any sampler; a prior other than N(0, I) needs a deterministic one.

    Attributes:
      spec: sizes.
      network: predicts `prediction`.
      prior: distribution of x0.
      sampler: from t=0 to t=1.
      prediction: one of `PREDICTIONS`.
      train_steps: noise levels in training; 0 for continuous times.
      min_alpha: alpha at t=0.
      clip: bound of the estimated data; 0 for none.
    """

    prediction: str
    train_steps: int
    min_alpha: float
    clip: float

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Mean squared error of the prediction at one noise level per example.

        `key` splits in two: the first half draws x0, the second the levels.

        Args:
          variables: of this policy.
          key: randomness of x0 and t.
          batch: obs [B, D], chunk [B, H, A], mask [B, H].
          hp: unused; nothing here is traced.

        Returns:
          per_example [B].
        """
        key_noise, key_time = jax.random.split(key)
        x1 = batch.chunk
        x0 = self.prior.distribution(variables.stats["prior"], batch.obs).sample(seed=key_noise)
        t = self.draw_times(key_time, x1.shape[:-2])
        alpha, sigma = cosine_path(t[..., None, None], self.min_alpha)
        x = alpha * x1 + sigma * x0
        output = self.predict(variables, batch.obs, self._coefficients)(x, t)
        error = masked_mse(output, to_target(self.prediction, x1, x0, alpha, sigma), batch.mask)
        return Loss(error, jnp.zeros(()), {"bc/diffusion_mse": error.mean()}, variables.stats)

    def _coefficients(self, t: Array) -> tuple[Array, Array, Array, Array]:
        """(alpha, sigma), and the coefficients of data and noise in what the network regresses."""
        alpha, sigma = cosine_path(t, self.min_alpha)
        one, zero = jnp.ones_like(t), jnp.zeros_like(t)
        data, noise = {"noise": (zero, one), "data": (one, zero), "v": (sigma, -alpha)}[self.prediction]
        return alpha, sigma, data, noise

    def draw_times(self, key: Key, shape: tuple[int, ...]) -> Array:
        """Training times in [0, 1) of the given shape."""
        if self.train_steps == 0:
            return jax.random.uniform(key, shape)
        return jax.random.randint(key, shape, 0, self.train_steps) / self.train_steps

    def field(self, variables: Variables, obs: Array) -> Field:
        """The learned field for observations [..., D]; they are encoded once, here."""
        predict = self.predict(variables, obs, self._coefficients)
        rate = math.acos(self.min_alpha)  # -dp/dt

        def denoise(x: Array, t: Array) -> tuple[Array, Array]:
            alpha, sigma = cosine_path(t, self.min_alpha)
            data, noise = from_output(self.prediction, predict(x, t), x, alpha, sigma)
            if self.clip > 0.0:
                data = jnp.clip(data, -self.clip, self.clip)
                noise = (x - alpha * data) / jnp.maximum(sigma, MIN_SIGMA)
            return data, noise

        def velocity(x: Array, t: Array) -> Array:
            alpha, sigma = cosine_path(t, self.min_alpha)
            data, noise = denoise(x, t)
            return rate * (sigma * data - alpha * noise)

        return BoundField(velocity=velocity, denoise=denoise, path=lambda t: cosine_path(t, self.min_alpha))


@register("policy", default_config)
def build(cfg: ConfigDict, spec: PolicySpec, *, prior: MakePrior, sampler: Sampler) -> DiffusionPolicy:
    """A diffusion policy.

    Raises:
      ConfigError: an option cannot work, or the sampler is stochastic and the prior is not N(0, I).
    """
    check_choice("policy.prediction", cfg.prediction, PREDICTIONS)
    check_range("policy.train_steps", cfg.train_steps, 0)
    check_range("policy.clip", cfg.clip, 0.0)
    check_range("policy.min_alpha", cfg.min_alpha, 0.0, 0.5)
    if cfg.prediction == "noise" and cfg.min_alpha < 1e-3:
        raise ConfigError("policy.min_alpha", cfg.min_alpha, "at least 0.001 for policy.prediction = 'noise'")
    base = prior(spec.chunk_shape)
    check_base(base, sampler)
    network = make_backbone(cfg, *spec.chunk_shape)
    return DiffusionPolicy(
        spec, network, base, sampler, cfg.prediction, cfg.train_steps, cfg.min_alpha, cfg.clip, skip=cfg.skip
    )
