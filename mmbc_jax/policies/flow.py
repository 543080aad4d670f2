r"""Conditional flow matching on action chunks.

x_t = t x1 + (1 - t) x0 with x1 the demonstrated chunk and x0 drawn from the prior. The network regresses
v(x_t, t, s) on x1 - x0; its minimiser E[x1 - x0 | x_t, s] moves the prior onto p(chunk | s) along dx/dt = v.

Source: Lipman et al. 2023; Liu et al. 2023 (straight paths). A Beta density over times follows Black et al.
2024, a logit-normal one Esser et al. 2024.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import Field, Prior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, Variables
from mmbc_jax.nn.field import bind_field
from mmbc_jax.policies._common import (
    BoundField,
    FieldPolicy,
    check_base,
    make_field,
    masked_mse,
    network_config,
)

TIMES = ("uniform", "beta", "logit_normal")


def default_config() -> ConfigDict:
    """Defaults.

    `times` is the density of t in training: `uniform`, `beta` with the two shapes `beta` (a > b leans towards
    the data), or `logit_normal` with (mean, standard deviation) `logit_normal`.
    """
    return ConfigDict(
        {
            **network_config(),
            "time_dim": 32,
            "times": "uniform",
            "beta": (1.5, 1.0),
            "logit_normal": (0.0, 1.0),
        }
    )


@dataclasses.dataclass(frozen=True)
class FlowPolicy(FieldPolicy):
    """Flow matching with any prior and any sampler.

    Attributes:
      spec: sizes.
      network: predicts the velocity.
      prior: distribution of x0.
      sampler: integrates the velocity from t=0 to t=1.
      times: density of t in training, one of `TIMES`.
      time_shape: the two parameters of that density; unused for `uniform`.
    """

    times: str = "uniform"
    time_shape: tuple[float, float] = (1.0, 1.0)

    def draw_times(self, key: Key, shape: tuple[int, ...]) -> Array:
        """Training times in [0, 1] of the given shape."""
        if self.times == "beta":
            return jax.random.beta(key, *self.time_shape, shape)
        if self.times == "logit_normal":
            mean, std = self.time_shape
            return jax.nn.sigmoid(mean + std * jax.random.normal(key, shape))
        return jax.random.uniform(key, shape)

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Mean squared error of the velocity at one time per example.

        `key` splits in two: the first half draws x0, the second the times.

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
        weight = t[..., None, None]
        x = weight * x1 + (1.0 - weight) * x0
        velocity = bind_field(self.network, variables.params, batch.obs)(x, t)
        error = masked_mse(velocity, x1 - x0, batch.mask)
        return Loss(error, jnp.zeros(()), {"bc/flow_mse": error.mean()}, variables.stats)

    def field(self, variables: Variables, obs: Array) -> Field:
        """The learned field for observations [..., D]; they are encoded once, here."""
        predict = bind_field(self.network, variables.params, obs)

        def denoise(x: Array, t: Array) -> tuple[Array, Array]:
            velocity = predict(x, t)
            return x + (1.0 - t) * velocity, x - t * velocity

        return BoundField(velocity=predict, denoise=denoise, path=lambda t: (t, 1.0 - t))


@register("policy", default_config)
def build(cfg: ConfigDict, spec: PolicySpec, *, prior: Prior, sampler: Sampler) -> FlowPolicy:
    """A flow-matching policy.

    Raises:
      ConfigError: an option cannot work, or the sampler is stochastic and the prior is not N(0, I).
    """
    check_choice("policy.times", cfg.times, TIMES)
    shapes = {"uniform": (1.0, 1.0), "beta": tuple(cfg.beta), "logit_normal": tuple(cfg.logit_normal)}
    for name in ("beta", "logit_normal"):
        if len(shapes[name]) != 2:
            raise ConfigError(f"policy.{name}", shapes[name], "two numbers")
    check_range("policy.beta", min(shapes["beta"]), 0.0, open_low=True)
    check_range("policy.logit_normal", shapes["logit_normal"][1], 0.0, open_low=True)
    check_base(prior, sampler, type(sampler).__name__.lower())
    return FlowPolicy(spec, make_field(cfg, spec), prior, sampler, cfg.times, shapes[cfg.times])
