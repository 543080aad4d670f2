r"""Mean flow: a flow whose network predicts the average velocity over an interval, for one or two steps.

On the path x_t = t x1 + (1 - t) x0 with velocity field v, the average velocity from t to a later time e is

  u(x_t, t, e) = 1/(e - t) int_t^e v(x_tau, tau) dtau,   so that   x_e = x_t + (e - t) u(x_t, t, e)

exactly, whatever the step. Differentiating (e - t) u along the path at fixed e gives the mean flow identity

  u = v + (e - t) du/dt,   du/dt = v . grad_x u + d_t u,

and u is regressed on its right side, held constant, with x1 - x0 for v: the right side is linear in v, so the
minimiser is that of the marginal field. At e = t it is flow matching. The published form has the data at t = 0
and averages backwards, hence its opposite sign. The network predicts an end point y,

  u(x, t, e) = (y(x, t, e) - x) / (1.1 - t),

because u itself is as wide as the noise and y only as the data: in one step the noise is then gone however
rough the network, where a network for u must learn its negative. The loss per example is

  D / stop_gradient(D + 0.01)^p,   D the mean squared error over the recorded actions, p = `adaptive`.

The paper advises p = 1 for images. On few dimensions p > 0 regresses towards the median instead of the mean of
v, and rare modes lose mass: of a mode of weight 1/4 p = 0.5 keeps 1/10 and p = 1 nearly nothing.

As a pair: w = x0 from the prior, and `transport` makes `steps` equal steps of the identity above; the
configured sampler has no part in it.

Source: Geng et al. 2025 (Mean Flows for One-step Generative Modeling).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import MakePrior, Prior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import NetworkOptions, bind_features, init_backbone, make_backbone, observe
from mmbc_jax.nn.embedding import MAX_TIME_FREQUENCY, time_embedding
from mmbc_jax.policies._common import check_fixed, masked_mse

ADAPTIVE_FLOOR = 0.01
END = 1.1  # of the division by the time left, a tenth past the data so that it stays finite
MAX_FREQUENCY = 4.0  # rad per unit of generation time


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanFlowOptions(NetworkOptions):
    """Options of mean flow."""

    steps: int = option(1, "equal steps in sampling", low=1, high=16)
    interval_fraction: float = option(
        0.5, "share of examples with e > t; the others are flow matching", low=0.0, high=1.0, traced=True
    )
    adaptive: float = option(0.0, "power p of the loss", low=0.0, high=1.0, traced=True)
    logit_normal: tuple[float, ...] = option(
        (0.0, 1.0),
        "mean and standard deviation of the logit of both times, before they are ordered",
        length=2,
    )

    def check(self) -> None:
        """Raises ConfigError where options do not go together."""
        super().check()
        if not self.logit_normal[1] > 0.0:
            raise self.error("logit_normal", "a standard deviation above 0")


def mean_velocity_target(
    u: Callable[[Array, Array], Array], x: Array, t: Array, end: Array, v: Array
) -> tuple[Array, Array]:
    """The average velocity and the right side of the mean flow identity.

    Args:
      u: (x [..., H, A], t [...]) to the average velocity from t to `end`, `end` held fixed inside.
      x: [..., H, A] point on the path.
      t: [...] time.
      end: [...] >= t.
      v: [..., H, A] velocity at (x, t).

    Returns:
      (u(x, t), v + (end - t) du/dt), each [..., H, A]; the second passes no gradient on.
    """
    value, rate = jax.jvp(u, (x, t), (v, jnp.ones_like(t)))
    return value, jax.lax.stop_gradient(v + (end - t)[..., None, None] * rate)


def interval_features(t: Array, end: Array, dim: int) -> Array:
    """[..., 2 dim] slow sines and cosines of t [...] and of end - t.

    The frequencies end at `MAX_FREQUENCY`, far below those that a backbone uses for its own time: du/dt, a part
    of the target, grows with them, and at 100 rad training diverges.
    """
    slow = MAX_FREQUENCY / MAX_TIME_FREQUENCY
    return jnp.concatenate([time_embedding(slow * t, dim), time_embedding(slow * (end - t), dim)], -1)


@dataclasses.dataclass(frozen=True)
class MeanFlowPolicy:
    """Average velocities with any fixed continuous prior.

    Attributes:
      spec: sizes and observations.
      options: of the policy; `time_dim` is the size of the features of each of the two times.
      network: predicts the end point y from x; both times are further conditions.
      prior: distribution of x0.
    """

    spec: PolicySpec
    options: MeanFlowOptions
    network: nn.Module
    prior: Prior

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of the network; those of the prior are statistics, as the loss does not train them."""
        key_network, key_prior = jax.random.split(key)
        chunk, obs = jnp.zeros((1, *self.spec.chunk_shape)), self.spec.obs.dummy(1)
        times = interval_features(jnp.zeros(1), jnp.zeros(1), self.options.time_dim)
        params = init_backbone(self.network, key_network, obs, chunk, None, times)
        return Variables(params=params, stats={"prior": self.prior.init(key_prior)})

    def velocity(self, variables: Variables, obs: Obs) -> Callable[[Array, Array, Array], Array]:
        """u as a function of (x [..., H, A], t, end), times [] or [...]; observations are encoded once, here."""
        params, batch = variables.params, self.spec.obs.batch_shape(obs)
        features = observe(self.network, params, obs)

        def at(x: Array, t: Array, end: Array) -> Array:
            t, end = (jnp.broadcast_to(time, batch) for time in (t, end))
            times = interval_features(t, end, self.options.time_dim)
            y = bind_features(self.network, params, features, times)(x)
            return (y - x) / (END - t[..., None, None])

        return at

    def draw_times(self, key: Key, shape: tuple[int, ...], fraction: Array) -> tuple[Array, Array]:
        """(t, end) of the given shape with t <= end, equal for all but `fraction` of them."""
        key_time, key_interval = jax.random.split(key)
        mean, std = self.options.logit_normal
        first, second = jax.nn.sigmoid(mean + std * jax.random.normal(key_time, (2, *shape)))
        second = jnp.where(jax.random.uniform(key_interval, shape) < fraction, second, first)
        return jnp.minimum(first, second), jnp.maximum(first, second)

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Weighted squared error of the mean flow identity at one interval per example.

        `key` splits in two: the first half draws x0, the second the times.

        Args:
          variables: of this policy.
          key: randomness of x0 and of the times.
          batch: obs [B], chunk [B, H, A], mask [B, H].
          hp: `interval_fraction` and `adaptive`.

        Returns:
          per_example [B].
        """
        key_noise, key_time = jax.random.split(key)
        x1 = batch.chunk
        x0 = self.prior.distribution(variables.stats["prior"], batch.obs).sample(seed=key_noise)
        t, end = self.draw_times(key_time, x1.shape[:-2], hp["interval_fraction"])
        x = t[..., None, None] * x1 + (1.0 - t[..., None, None]) * x0
        velocity = self.velocity(variables, batch.obs)
        value, target = mean_velocity_target(lambda x, t: velocity(x, t, end), x, t, end, x1 - x0)
        error = masked_mse(value, target, batch.mask)
        weight = jax.lax.stop_gradient(error + ADAPTIVE_FLOOR) ** -hp["adaptive"]
        return Loss(weight * error, jnp.zeros(()), {"bc/mean_flow_mse": error.mean()}, variables.stats)

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """The prior of x0 [..., H, A]."""
        return self.prior.distribution(variables.stats["prior"], obs)

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """Chunk [..., H, A] by `steps` exact jumps from w [..., H, A], for obs [...]."""
        velocity, steps = self.velocity(variables, obs), self.options.steps
        x, step = w, 1.0 / steps
        for i in range(steps):
            t = jnp.asarray(i * step)
            x = x + step * velocity(x, t, t + step)
        return x


@register("policy", MeanFlowOptions, needs_prior="fixed", needs_sampler=False)
def build(
    options: MeanFlowOptions, spec: PolicySpec, *, prior: MakePrior, sampler: Sampler | None = None
) -> MeanFlowPolicy:
    """A mean-flow policy; `sampler` is accepted as by every policy and has no part in it.

    Raises:
      ConfigError: the prior is not fixed and continuous.
    """
    base = prior(spec.chunk_shape)
    check_fixed(base)
    return MeanFlowPolicy(spec, options, make_backbone(options, spec, spec.action_dim), base)
