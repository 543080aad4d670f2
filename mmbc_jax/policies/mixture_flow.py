r"""Flow matching from a learned, observation-conditioned mixture: modes need no sharp transport.

One Gaussian pushed through a map of bounded slope cannot reach many separated modes without mass on the
bridges between them (Gaussian isoperimetry, see `ops.capacity_bounds`). Here the base itself has the modes:

  k ~ Categorical(pi(s)),  x0 ~ N(0, temperature^2 I),  y = m_k(s) + sigma * psi(x0; s, k),  chunk = c y.

`y` is the chunk in units c of its own spread. The mixture is
trained by tempered likelihood (below). The flow psi transports the residual
u = (y - m_k) / sigma of a component drawn from the posterior p(k | y, s), by flow matching from N(0, I):
what is left to it is the shape of one mode. Its velocity is

  v(x, t) = (2 t - 1) / (t^2 + (1 - t)^2) x + network(x, t, s, k),

where the first term alone moves N(0, I) onto N(0, I): a mode that is Gaussian already leaves nothing to
learn, and nothing to overfit, and few steps are exact.

Why it needs no K: components start at k-means centres (so each separated mode owns some, if there are more
components than modes) and a component that has nothing to explain loses its weight. The spread sigma [H A] is
shared by all components: one on a single datum gains nothing by shrinking, so surplus components do no harm.

**Tempering.** In n = H A dimensions a component that sits on a single datum is sqrt(n) spreads from the mean of
its mode, and its likelihood there beats the mode's by exp(n / 2): every surplus component would memorise a
trajectory, noise and all. With T = n / `SHARPNESS` and SHARPNESS = 4,

  loss = -(T / n) log sum_k pi_k N(y; m_k, sigma^2)^(1/T),

two components whose means are delta spreads apart (root mean square over the entries) differ by 2 delta^2 in
log-odds: those of one mode (delta <= 1) share its data and agree on its mean, separated modes (delta of a few) stay
apart. For one component the minimiser is that of T = 1.

Means are m_k(s) = c_k + A s + sum_r h_r(s) M_kr with a few features h: the centres carry the modes, the linear
map (at first the least-squares one) shifts all of them with the observation, and the features move each
on its own. Images move the features alone: s in A s is the vector part of an observation. In training the networks
see that vector with noise of `obs_noise`, which sets the scale below which two observations are the same, or the
features would tell single demonstrations apart by where they start.
With h_0 = 1, M_k0 = c_k and y less A s the distances expand to matrix products,

  |y - m_k|^2 = |y|^2 - 2 sum_r h_r <y, M_kr> + sum_rq h_r h_q <M_kr, M_kq>,

which cost a fraction of the differences [B, C, H A] themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import NetworkOptions, bind, init_backbone, make_backbone
from mmbc_jax.ops.kmeans import kmeans
from mmbc_jax.ops.picked import rows
from mmbc_jax.policies._common import (
    gaussian_answer,
    masked_mse,
    name_of,
    observed_vector,
    straight,
    straight_field,
)
from mmbc_jax.policies._mixture_base import MIN_STD, MixtureBase, least_squares, mixture_mean
from mmbc_jax.priors.normal import gaussian_noise

SHARPNESS = 4.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureFlowOptions(NetworkOptions):
    """Options of the mixture and of the flow.

    Below a `temperature` of 1 the noise inside a mode shrinks, and with it what a Gaussian tail does at the edge of a
    narrow passage, while the modes keep their weights.
    """

    num_components: int = option(128, "capacity; more than there are modes", low=1)
    rank: int = option(4, "features that move the means with the observation; 0 for none", low=0)
    obs_noise: float = option(
        0.03, "standard deviation of the noise on observed vectors in training, which span 2", low=0.0
    )
    temperature: float = option(
        1.0, "standard deviation of x0 when sampling", low=0.0, high=2.0, open_low=True
    )
    base_hidden: tuple[int, ...] = option((256, 256), "widths of the mixture's network", low=1)
    embed_dim: int = option(32, "size of a component's embedding, for the flow", low=1)
    base_weight: float = option(1.0, "of the mixture's loss", low=0.0, open_low=True)


@dataclasses.dataclass(frozen=True)
class MixtureFlowPolicy:
    """See the module docstring.

    Attributes:
      spec: sizes and observations.
      options: of the policy.
      base: network of the mixture.
      network: velocity of the residual flow.
      sampler: integrates the residual; one evaluation of the base comes on top of its own.
    """

    spec: PolicySpec
    options: MixtureFlowOptions
    base: MixtureBase
    network: nn.Module
    sampler: Sampler

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Centres by k-means, the linear map by least squares, the spread from what they leave of the sample.

        The scale of y is a statistic.
        """
        key_base, key_network, key_means = jax.random.split(key, 3)
        obs, vector = self.spec.obs.dummy(1), observed_vector(self.spec, sample_batch.obs)
        flat = sample_batch.chunk.reshape(len(sample_batch.chunk), -1)
        scale = jnp.maximum(flat.std(), 1e-6)
        centres, owner = kmeans(key_means, flat / scale, self.base.num_components)
        centres, linear = least_squares(vector, flat / scale, centres, owner)
        rest = flat / scale - centres[owner] - vector @ linear
        spread = jnp.sqrt(jnp.square(rest).mean(0))
        base = self.base.init(key_base, obs)["params"]
        base |= {"centres": centres, "linear": linear, "log_std": jnp.log(jnp.maximum(spread, MIN_STD))}
        x = jnp.zeros((1, *self.spec.chunk_shape))
        extra = jnp.zeros((1, self.base.embed_dim))
        network = init_backbone(self.network, key_network, obs, x, jnp.zeros(()), extra)
        return Variables({"base": base, "flow": network}, {"scale": scale})

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Tempered mixture likelihood per entry plus the residual's flow-matching error.

        `key` splits in four: component, noise, time and the noise on observations.

        Args:
          variables: of this policy.
          key: randomness.
          batch: obs [B], chunk [B, H, A], mask [B, H].
          hp: unused; nothing here is traced.

        Returns:
          per_example [B].
        """
        key_component, key_noise, key_time, key_obs = jax.random.split(key, 4)
        obs = self._noisy(key_obs, batch.obs)
        mixture = self._mixture(variables, obs)
        y = batch.chunk.reshape(len(batch.chunk), -1) / variables.stats["scale"]
        y -= observed_vector(self.spec, batch.obs) @ mixture["linear"]
        recorded = jnp.maximum(batch.mask.sum(-1, keepdims=True), 1.0) * self.spec.action_dim
        heat = recorded / SHARPNESS
        log_prob = self._log_prob(mixture, y, batch.mask)
        joint = jax.nn.log_softmax(mixture["logits"]) + log_prob / heat
        nll = -(heat / recorded)[..., 0] * jax.nn.logsumexp(joint, axis=-1)
        component = jax.random.categorical(key_component, jax.lax.stop_gradient(joint))
        frozen = jax.lax.stop_gradient(mixture)
        mean, std = mixture_mean(frozen, component), jnp.exp(frozen["log_std"])
        u1 = ((jax.lax.stop_gradient(y) - mean) / std).reshape(batch.chunk.shape)
        u0 = jax.random.normal(key_noise, u1.shape)
        t = jax.random.uniform(key_time, u1.shape[:-2])
        weight = t[..., None, None]
        extra = rows(mixture["embedding"], component)
        velocity = self._velocity(variables, obs, extra)(weight * u1 + (1.0 - weight) * u0, t)
        error = masked_mse(velocity, u1 - u0, batch.mask)
        used = jnp.exp(distrax.Categorical(logits=mixture["logits"]).entropy()).mean()
        metrics = {"bc/base_nll": nll.mean(), "bc/flow_mse": error.mean(), "bc/components_used": used}
        total = self.options.base_weight * nll + error
        return Loss(total, jnp.zeros(()), metrics, variables.stats)

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """The joint of {"component": [...], "x0": [..., H, A]}."""
        mixture = self._mixture(variables, obs)
        batch = self.spec.obs.batch_shape(obs)
        noise = gaussian_noise(batch, self.spec.chunk_shape, self.options.temperature)
        return distrax.Joint({"component": distrax.Categorical(logits=mixture["logits"]), "x0": noise})

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """Chunk [..., H, A]: the residual by integrating the flow, placed at its component."""
        mixture = self._mixture(variables, obs)
        extra = mixture["embedding"][w["component"]]
        field = straight_field(self._velocity(variables, obs, extra))
        u = self.sampler.integrate(field, w["x0"], None)
        flat = u.reshape(*u.shape[:-2], -1)
        y = (
            mixture_mean(mixture, w["component"])
            + observed_vector(self.spec, obs) @ mixture["linear"]
            + jnp.exp(mixture["log_std"]) * flat
        )
        return (y * variables.stats["scale"]).reshape(u.shape)

    def _noisy(self, key: Key, obs: Obs) -> Obs:
        """Observations whose vectors have noise of `obs_noise` on them; images are left alone."""
        noise = jax.random.normal(key, observed_vector(self.spec, obs).shape)
        named, at = self.spec.obs.named(obs), 0
        for name, entry in self.spec.obs.entries:
            if entry.kind == "vector":
                own = noise[..., at : at + entry.shape[0]]
                named[name] = named[name] + self.options.obs_noise * own
                at += entry.shape[0]
        return self.spec.obs.joined(named)

    def _velocity(self, variables: Variables, obs: Obs, extra: Array) -> Callable[[Array, Array], Array]:
        network = bind(self.network, variables.params["flow"], obs, extra)
        return lambda x, t: (
            network(x, t) + gaussian_answer(x, 0.0, 1.0, *straight(jnp.asarray(t)[..., None, None]))
        )

    def _mixture(self, variables: Variables, obs: Obs) -> Any:
        return self.base.apply({"params": variables.params["base"]}, obs)

    def _log_prob(self, mixture: Any, y: Array, mask: Array) -> Array:
        """[B, C] log N(y; m_k, sigma^2) over the recorded entries."""
        weight = jnp.repeat(mask, self.spec.action_dim, axis=-1)
        inverse, h = jnp.exp(-mixture["log_std"]), mixture["features"]
        y, bases = y * inverse, mixture["bases"] * inverse
        # Full precision: distances are small differences of large squares.
        product = partial(jnp.einsum, precision="highest")
        cross = product("bs,rcs->brc", y * weight, bases)
        inner = product("bs,rqcs->brqc", weight, bases[:, None] * bases)
        square = jnp.square(y * weight).sum(-1, keepdims=True)
        square += jnp.einsum("br,bq,brqc->bc", h, h, inner) - 2.0 * jnp.einsum("br,brc->bc", h, cross)
        constant = ((mixture["log_std"] + 0.5 * jnp.log(2.0 * jnp.pi)) * weight).sum(-1, keepdims=True)
        return -0.5 * square - constant


@register("policy", MixtureFlowOptions, needs_prior="none", needs_sampler=True)
def build(
    options: MixtureFlowOptions, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler
) -> MixtureFlowPolicy:
    """A mixture-base flow; `prior` has no part in it, as the base is learned.

    Raises:
      ConfigError: the sampler is stochastic.
    """
    if sampler.stochastic:
        raise ConfigError("sampler.name", name_of(sampler), "a deterministic sampler")
    size = spec.chunk_size
    widths = (options.num_components, size, options.base_hidden, options.rank, options.embed_dim)
    base = MixtureBase(options.obs_encoder(spec), *widths)
    return MixtureFlowPolicy(spec, options, base, make_backbone(options, spec, spec.action_dim), sampler)
