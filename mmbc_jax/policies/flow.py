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
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import Field, MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, Variables
from mmbc_jax.nn.backbone import make_backbone, network_config
from mmbc_jax.ops.divergences import joint_points, minibatch_ot_pairing
from mmbc_jax.policies._common import FieldPolicy, check_base, masked_mse, straight, straight_field

TIMES = ("uniform", "beta", "logit_normal")
COUPLINGS = ("independent", "ot")


def default_config() -> ConfigDict:
    """Defaults.

    `times` is the density of t in training: `uniform`, `beta` with the two shapes `beta` (a > b leans towards
    the data), or `logit_normal` with (mean, standard deviation) `logit_normal`. `coupling` is `independent` or
    `ot`, with the traced `ot_obs_weight` as above. `skip`: the network learns what the answer for Gaussian data
    leaves.
    """
    return ConfigDict(
        {
            **network_config(),
            "skip": False,
            "times": "uniform",
            "beta": (1.5, 1.0),
            "logit_normal": (0.0, 1.0),
            "coupling": "independent",
            "ot_obs_weight": 16.0,
        }
    )


def pair_noise(x0: Array, x1: Array, obs: Array, obs_weight: Array | float) -> Array:
    """The noise in the order that minimises the cost of the optimal-transport coupling above.

    Args:
      x0: [B, H, A] noise, drawn with `obs`.
      x1: [B, H, A] data.
      obs: [B, D].
      obs_weight: >= 0.

    Returns:
      [B, H, A] a permutation of x0 along B: row i belongs to x1_i.
    """
    noise, data = (joint_points(obs, x.reshape(len(x), -1), obs_weight) for x in (x0, x1))
    return x0[minibatch_ot_pairing(data, noise)]


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
      coupling: of noise and data, one of `COUPLINGS`.
    """

    times: str = "uniform"
    time_shape: tuple[float, float] = (1.0, 1.0)
    coupling: str = "independent"

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
          hp: `ot_obs_weight` where the coupling is `ot`.

        Returns:
          per_example [B].
        """
        key_noise, key_time = jax.random.split(key)
        x1 = batch.chunk
        x0 = self.prior.distribution(variables.stats["prior"], batch.obs).sample(seed=key_noise)
        if self.coupling == "ot":
            x0 = pair_noise(x0, x1, batch.obs, hp["ot_obs_weight"])
        t = self.draw_times(key_time, x1.shape[:-2])
        weight = t[..., None, None]
        x = weight * x1 + (1.0 - weight) * x0
        velocity = self.predict(variables, batch.obs, straight)(x, t)
        error = masked_mse(velocity, x1 - x0, batch.mask)
        return Loss(error, jnp.zeros(()), {"bc/flow_mse": error.mean()}, variables.stats)

    def field(self, variables: Variables, obs: Array) -> Field:
        """The learned field for observations [..., D]; they are encoded once, here."""
        return straight_field(self.predict(variables, obs, straight))


@register("policy", default_config, hparams=("ot_obs_weight",))
def build(cfg: ConfigDict, spec: PolicySpec, *, prior: MakePrior, sampler: Sampler) -> FlowPolicy:
    """A flow-matching policy.

    Raises:
      ConfigError: an option cannot work, or the sampler is stochastic and the prior is not N(0, I).
    """
    check_choice("policy.times", cfg.times, TIMES)
    check_choice("policy.coupling", cfg.coupling, COUPLINGS)
    check_range("policy.ot_obs_weight", cfg.ot_obs_weight, 0.0)
    shapes = {"uniform": (1.0, 1.0), "beta": tuple(cfg.beta), "logit_normal": tuple(cfg.logit_normal)}
    for name in ("beta", "logit_normal"):
        if len(shapes[name]) != 2:
            raise ConfigError(f"policy.{name}", shapes[name], "two numbers")
    check_range("policy.beta", min(shapes["beta"]), 0.0, open_low=True)
    check_range("policy.logit_normal", shapes["logit_normal"][1], 0.0, open_low=True)
    base = prior(spec.chunk_shape)
    check_base(base, sampler)
    network = make_backbone(cfg, *spec.chunk_shape)
    return FlowPolicy(spec, network, base, sampler, cfg.times, shapes[cfg.times], cfg.coupling, skip=cfg.skip)
