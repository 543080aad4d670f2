"""What the policies share: masked errors, checks of the base, and everything around a sampled field."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import distrax
import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field, MakePrior, Prior, Sampler
from mmbc_jax.core.types import Array, Batch, Key, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import NetworkOptions, bind, init_backbone
from mmbc_jax.ops.leading_axes import over_chunk
from mmbc_jax.priors.normal import gaussian_noise

Array4 = tuple[Array, Array, Array, Array]
LEAST_SPREAD = 1e-4  # of normalised actions, which span 2: below, differences are rounding of float32
_HALF_NORMAL = 0.6745 * 2**0.5  # median |x - y| of two draws of N(0, 1)


def masked_mean(error: Array, mask: Array) -> Array:
    """Mean per example over the recorded actions.

    e_b = sum_{h,a} m_bh e_bha / (A sum_h m_bh); 0 where nothing was recorded.

    Args:
      error: [B, H, A].
      mask: [B, H] of 0 and 1.

    Returns:
      [B].
    """
    total = (error * mask[..., None]).sum((-2, -1))
    return total / (jnp.maximum(mask.sum(-1), 1.0) * error.shape[-1])


def masked_mse(prediction: Array, target: Array, mask: Array) -> Array:
    """[B] `masked_mean` of the squared error of predictions [B, H, A]."""
    return masked_mean(jnp.square(prediction - target), mask)


def masked_l1(prediction: Array, target: Array, mask: Array) -> Array:
    """[B] `masked_mean` of the absolute error of predictions [B, H, A]."""
    return masked_mean(jnp.abs(prediction - target), mask)


def extent(sample: Batch) -> Array:
    """[H, A] the largest magnitude of each entry of the data's chunks, at least 1: the range that -1 and 1 bound."""
    chunks = sample.chunk if sample.every is None else sample.every
    return jnp.maximum(jnp.abs(chunks).max(0), 1.0)


def data_spread(chunks: Array) -> Array:
    """[H, A] the data's own spread: what is left between a chunk and the demonstration most like it.

    With n(b) the chunk nearest to chunk b, over all entries together,

      spread_ha = median_b |x_bha - x_n(b)ha| / (.6745 sqrt(2)),   not below `LEAST_SPREAD`:

    the standard deviation where both are one mode with Gaussian noise. It needs no labels and no number of modes.
    A nearest neighbour is nearer than a random one, so this errs towards less: by little for long chunks, by much
    for single numbers. It is meant for floors, which must not exceed the spread.

    Args:
      chunks: [B, H, A], distinct windows.
    """
    flat = chunks.reshape(len(chunks), -1)
    square = jnp.square(flat).sum(-1)
    # full precision: distances are small differences of large squares
    distance = square[:, None] + square - 2.0 * jnp.einsum("ai,bi->ab", flat, flat, precision="highest")
    nearest = jnp.where(jnp.eye(len(flat), dtype=bool), jnp.inf, distance).argmin(-1)
    return jnp.maximum(jnp.median(jnp.abs(chunks - chunks[nearest]), axis=0) / _HALF_NORMAL, LEAST_SPREAD)


def observed_vector(spec: PolicySpec, obs: Obs) -> Array:
    """[..., D] the vectors of an observation, [..., 0] where it has only images."""
    return spec.obs.flat(obs) if spec.obs.size else jnp.zeros((*spec.obs.batch_shape(obs), 0))


def name_of(plugin: Any) -> str:
    """The name under which a prior or a sampler was configured; empty where it does not say."""
    return getattr(plugin, "name", "")


def check_fixed(prior: Prior) -> None:
    """Raises ConfigError where a prior cannot be the fixed base of a field."""
    if prior.trainable or prior.discrete:
        raise ConfigError(
            "prior.name",
            name_of(prior),
            "a fixed, continuous base (normal or mixture): this policy does not train its base; "
            "policy.name = 'mixture_flow' does",
        )


def check_noise(prior: Prior, sampler: Sampler) -> None:
    """`check_fixed`, and raises ConfigError where the prior does not suit the sampler."""
    check_fixed(prior)
    if sampler.stochastic and not prior.gaussian:
        raise ConfigError(
            "sampler.name",
            name_of(sampler),
            "a deterministic sampler, or prior.name = 'normal': its noise assumes x0 ~ N(0, I)",
        )


def chosen_prior(make: MakePrior | None, event: tuple[int, ...]) -> Prior | None:
    """The configured prior over `event`; None for N(0, I), the default, which leaves a policy its own."""
    prior = None if make is None else make(event)
    return None if prior is None or prior.gaussian else prior


def check_codes(prior: Prior, num_codes: int, field: str) -> None:
    """Raises ConfigError unless a prior is one over `num_codes` codes, the number that `field` states."""
    if not prior.discrete:
        raise ConfigError(
            "prior.name",
            name_of(prior),
            "categorical, or normal for the policy's own distribution over its codes",
        )
    if (codes := getattr(prior, "num_codes", num_codes)) != num_codes:
        raise ConfigError("prior.num_codes", codes, f"{field} = {num_codes}")


def sampler_base(prior: Prior, sampler: Sampler, params: PyTree, spec: PolicySpec, obs: Obs) -> Any:
    """Base distribution of everything random in a sample.

    Args:
      prior: of x0.
      sampler: a stochastic one adds an independent standard normal path.
      params: of the prior.
      spec: of the policy.
      obs: with leading axes [...].

    Returns:
      The prior of x0 [..., H, A] alone, or the joint of {"x0": [..., H, A], "path": [..., steps, H, A]}.
    """
    x0 = prior.distribution(params, obs)
    if not sampler.stochastic:
        return x0
    path = gaussian_noise(spec.obs.batch_shape(obs), sampler.noise_shape(spec.chunk_shape))
    return distrax.Joint({"path": path, "x0": x0})


def split_noise(sampler: Sampler, w: PyTree) -> tuple[Array, Array | None]:
    """(x0, noise path or None) of a sample of `sampler_base`."""
    return (w["x0"], w["path"]) if sampler.stochastic else (w, None)


def gaussian_answer(
    x: Array, mean: Array | float, std: Array | float, alpha: Array, sigma: Array, a: Array, b: Array
) -> Array:
    """E[a x1 + b x0 | x = alpha x1 + sigma x0] for x1 ~ N(mean, std^2) and x0 ~ N(0, 1), entry by entry.

    = a mean + (a alpha std^2 + b sigma) / (alpha^2 std^2 + sigma^2) (x - alpha mean), by the conditional mean of
    jointly Gaussian variables; all arguments broadcast.
    """
    slope = (a * alpha * std**2 + b * sigma) / (jnp.square(alpha * std) + sigma**2)
    return a * mean + slope * (x - alpha * mean)


@flax.struct.dataclass
class BoundField:
    """A field for fixed observations, made of functions; see `core.protocols.Field`.

    Attributes:
      velocity: (x [..., H, A], t [] or [...]) to dx/dt.
      denoise: (x, t) to (data estimate, noise estimate).
      path: t to (alpha, sigma).
    """

    velocity: Callable[[Array, Array], Array] = flax.struct.field(pytree_node=False)
    denoise: Callable[[Array, Array], tuple[Array, Array]] = flax.struct.field(pytree_node=False)
    path: Callable[[Array], tuple[Array, Array]] = flax.struct.field(pytree_node=False)


def straight(t: Array) -> Array4:
    """(alpha, sigma) of x_t = t x1 + (1 - t) x0, and the coefficients of data and noise in its velocity."""
    one = jnp.ones_like(t)
    return t, 1.0 - t, one, -one


def straight_field(velocity: Callable[[Array, Array], Array]) -> BoundField:
    """The field of that path from its velocity: E[x1 | x] = x + (1 - t) v and E[x0 | x] = x - t v."""

    def denoise(x: Array, t: Array) -> tuple[Array, Array]:
        v = velocity(x, t)
        t = over_chunk(t)
        return x + (1.0 - t) * v, x - t * v

    return BoundField(velocity=velocity, denoise=denoise, path=lambda t: (t, 1.0 - t))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldOptions(NetworkOptions):
    """Options of every policy that samples a field.

    With `skip` the answer for Gaussian data (`gaussian_answer`) is added to the network's; mean and spread of the
    data are statistics.
    """

    skip: bool = option(False, "the network learns what the answer for Gaussian data leaves")


@dataclasses.dataclass(frozen=True)
class FieldPolicy(abc.ABC):
    """A policy that samples by integrating a learned field; what is left to it are the field and the loss.

    Attributes:
      spec: sizes and observations.
      options: of the policy.
      network: behind the field.
      prior: distribution of x0.
      sampler: from t=0 to t=1.
    """

    spec: PolicySpec
    options: FieldOptions
    network: nn.Module
    prior: Prior
    sampler: Sampler

    @property
    def capabilities(self) -> frozenset[str]:
        """`field`, and `chain` where the sampler can tell the points that it visits."""
        return frozenset({"field"} | ({"chain"} if callable(getattr(self.sampler, "trace", None)) else set()))

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of the network; those of the prior are statistics, as the loss does not train them."""
        key_network, key_prior = jax.random.split(key)
        chunk = jnp.zeros((1, *self.spec.chunk_shape))
        params = init_backbone(self.network, key_network, self.spec.obs.dummy(1), chunk, jnp.zeros(()))
        stats: dict[str, Any] = {"prior": self.prior.init(key_prior)}
        if self.options.skip:
            stats |= {"mean": sample_batch.chunk.mean(0), "std": jnp.maximum(sample_batch.chunk.std(0), 1e-3)}
        return Variables(params=params, stats=stats)

    def predict(
        self, variables: Variables, obs: Obs, path: Callable[[Array], Array4]
    ) -> Callable[[Array, Array], Array]:
        """The network's answer, with the skip where there is one, as a function of (x, t).

        Args:
          variables: of the policy.
          obs: with leading axes [...].
          path: t [] or [...] to (alpha, sigma, a, b), each broadcastable to [..., H, A]: x_t = alpha x1 + sigma
            x0, and a x1 + b x0 is what the network regresses.
        """
        network = bind(self.network, variables.params, obs)
        if not self.options.skip:
            return network
        mean, std = variables.stats["mean"], variables.stats["std"]
        return lambda x, t: (
            network(x, t) + gaussian_answer(x, mean, std, *path(jnp.asarray(t)[..., None, None]))
        )

    @abc.abstractmethod
    def field(self, variables: Variables, obs: Obs) -> Field:
        """The learned field for observations, which are encoded once, here."""

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """The prior of x0, joined by the noise path where the sampler is stochastic."""
        return sampler_base(self.prior, self.sampler, variables.stats["prior"], self.spec, obs)

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """Chunk [..., H, A] by integrating the field from x0, for obs [...] and w of `base_distribution`."""
        x0, noise = split_noise(self.sampler, w)
        return self.sampler.integrate(self.field(variables, obs), x0, noise)

    def chain(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """[N + 1, ..., H, A] the points that the sampler visits: x0 first, the chunk of `transport` last."""
        x0, noise = split_noise(self.sampler, w)
        sampler: Any = self.sampler
        return sampler.trace(self.field(variables, obs), x0, noise)
