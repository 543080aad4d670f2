r"""Conditional flow matching on action chunks.

x_t = t x1 + (1 - t) x0 with x1 the demonstrated chunk and x0 drawn from the prior. The network regresses
v(x_t, t, s) on x1 - x0; its minimiser E[x1 - x0 | x_t, s] moves the prior onto p(chunk | s) along dx/dt = v.

`coupling` says which x0 meets which x1 within a batch. Drawn independently, paths cross and the field bends;
`ot` permutes the noise so that the sum of |x0_i - x1_i|^2 + `ot_obs_weight` |s_i' - s_i|^2 is (nearly) smallest,
s_i' being the observation that noise i was drawn with. Paths are then straighter, and few Euler steps do.
With weight 0 it is the unconditional coupling, which is biased where the observation matters: the noise that an
observation meets in training is no longer the prior but the part of it nearest to that observation's chunks, so
that in sampling the field is asked where it was not trained. The weight removes the bias: as it grows noise
stays among equal observations, and where no two are equal the coupling becomes independent again.
Padded actions take part in the cost as they are stored.

Source: Lipman et al. 2023; Liu et al. 2023 (straight paths). A Beta density over times follows Black et al.
2024, a logit-normal one Esser et al. 2024. Couplings: Tong et al. 2024; Cheng and Schwing 2025 (the bias, and
the weighted cost).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field, MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, Variables
from mmbc_jax.nn.backbone import make_backbone
from mmbc_jax.ops.divergences import joint_points, minibatch_ot_pairing
from mmbc_jax.policies._common import (
    FieldOptions,
    FieldPolicy,
    check_noise,
    masked_mse,
    observed_vector,
    straight,
    straight_field,
)

TIMES = ("uniform", "beta", "logit_normal")
COUPLINGS = ("independent", "ot")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowOptions(FieldOptions):
    """Options of flow matching."""

    times: str = option("uniform", "density of t in training", choices=TIMES)
    beta: tuple[float, ...] = option(
        (1.5, 1.0),
        "shapes (a, b) of the Beta density; a > b leans towards the data",
        length=2,
        low=0.0,
        open_low=True,
    )
    logit_normal: tuple[float, ...] = option(
        (0.0, 1.0), "mean and standard deviation of the logit of t", length=2
    )
    coupling: str = option("independent", "of noise and data within a batch", choices=COUPLINGS)
    ot_obs_weight: float = option(
        16.0, "of squared distances between observed vectors in the cost of coupling ot", low=0.0, traced=True
    )

    def check(self) -> None:
        """Raises ConfigError where options do not go together."""
        super().check()
        if not self.logit_normal[1] > 0.0:
            raise self.error("logit_normal", "a standard deviation above 0")


def pair_noise(x0: Array, x1: Array, obs: Array, obs_weight: Array | float) -> Array:
    """The noise in the order that minimises the cost of the optimal-transport coupling above.

    Args:
      x0: [B, H, A] noise, drawn with `obs`.
      x1: [B, H, A] data.
      obs: [B, D] observed vectors.
      obs_weight: >= 0.

    Returns:
      [B, H, A] a permutation of x0 along B: row i belongs to x1_i.
    """
    noise, data = (joint_points(obs, x.reshape(len(x), -1), obs_weight) for x in (x0, x1))
    return x0[minibatch_ot_pairing(data, noise)]


@dataclasses.dataclass(frozen=True)
class FlowPolicy(FieldPolicy):
    """Flow matching with any fixed prior and any sampler; see `FieldPolicy` for the attributes."""

    options: FlowOptions

    def draw_times(self, key: Key, shape: tuple[int, ...]) -> Array:
        """Training times in [0, 1] of the given shape."""
        if self.options.times == "beta":
            a, b = self.options.beta
            return jax.random.beta(key, a, b, shape)
        if self.options.times == "logit_normal":
            mean, std = self.options.logit_normal
            return jax.nn.sigmoid(mean + std * jax.random.normal(key, shape))
        return jax.random.uniform(key, shape)

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Mean squared error of the velocity at one time per example.

        `key` splits in two: the first half draws x0, the second the times.

        Args:
          variables: of this policy.
          key: randomness of x0 and t.
          batch: obs [B], chunk [B, H, A], mask [B, H].
          hp: `ot_obs_weight` where the coupling is `ot`.

        Returns:
          per_example [B].
        """
        key_noise, key_time = jax.random.split(key)
        x1 = batch.chunk
        x0 = self.prior.distribution(variables.stats["prior"], batch.obs).sample(seed=key_noise)
        if self.options.coupling == "ot":
            x0 = pair_noise(x0, x1, observed_vector(self.spec, batch.obs), hp["ot_obs_weight"])
        t = self.draw_times(key_time, x1.shape[:-2])
        weight = t[..., None, None]
        x = weight * x1 + (1.0 - weight) * x0
        velocity = self.predict(variables, batch.obs, straight)(x, t)
        error = masked_mse(velocity, x1 - x0, batch.mask)
        return Loss(error, jnp.zeros(()), {"bc/flow_mse": error.mean()}, variables.stats)

    def field(self, variables: Variables, obs: Obs) -> Field:
        """The learned field for observations, which are encoded once, here."""
        return straight_field(self.predict(variables, obs, straight))


@register("policy", FlowOptions, needs_prior="fixed", needs_sampler=True)
def build(options: FlowOptions, spec: PolicySpec, *, prior: MakePrior, sampler: Sampler) -> FlowPolicy:
    """A flow-matching policy.

    Raises:
      ConfigError: the base is not fixed, the sampler is stochastic and the prior is not N(0, I), or observations
        are to be compared and hold only images.
    """
    if options.coupling == "ot" and options.ot_obs_weight > 0.0 and not spec.obs.size:
        raise ConfigError(
            "env.observe",
            "image",
            f"state or both, or {options.section}.ot_obs_weight = 0: the coupling compares observed vectors",
        )
    base = prior(spec.chunk_shape)
    check_noise(base, sampler)
    return FlowPolicy(spec, options, make_backbone(options, spec, spec.action_dim), base, sampler)
