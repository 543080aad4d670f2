r"""Implicit behavioural cloning: an energy on (observation, chunk), sampled by Langevin dynamics.

p(chunk | s) is proportional to exp(-E(s, chunk)). The energy is trained to pick the demonstrated chunk x_0 out
of N negatives (InfoNCE),

  loss_b = -log [exp(-E(s_b, x_b0)) / sum_{i=0..N} exp(-E(s_b, x_bi))].

Half of the negatives are uniform in the box |x| <= 1.1 (times the data's own range r, entry by entry, where that
exceeds [-1, 1]): they lower the energy of no region by neglect. The others
are demonstrated chunks plus noise whose scale is drawn log-uniformly between `min_perturbation` and
`max_perturbation`, moved on by `refine_steps` of the dynamics below under the present energy, which passes no
gradient through them. They sit where the sampler gets stuck: without them the energy is right about which chunk
is better and wrong about the way there, and in eight dimensions Langevin dynamics misses even a single mode.
Where an action was not recorded all candidates share the stored one, so that it cannot tell them apart: the
energy at the end of an episode is defined by its recorded actions only.

As a pair: w = (x0 uniform in [-r, r], path of `steps` standard normals) and transport is

  x_{i+1} = clip(x_i - m tanh(eta_i grad E(s, x_i) / m) + sqrt(2 T eta_i) path_i, -1.1 r, 1.1 r),

m = `max_move`, T = `temperature`, with eta falling geometrically from `first_step` to `last_step`.
The bound on a move keeps the dynamics stable on the walls of a well, and tanh keeps it differentiable in w.
So short a chain seldom crosses between wells: each start falls into the one whose basin it is in, all modes are
sampled, but their shares are those of the basins rather than of the data. InfoNCE does not shape the energy
where it is high already, so a start may also end on a plateau there: a tenth to a fifth did so between two
points on a line. Attention and the U-Net make this worse: after 400 steps on one chunk of eight numbers the samples
of the MLP lie on it and those of a transformer .8 (rms) away, although its energy picks that chunk.

Source: Florence et al. 2022 (IBC); van den Oord et al. 2018 (InfoNCE); Welling and Teh 2011 (step sizes).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import NetworkOptions, make_chunk_encoder, observe
from mmbc_jax.policies._common import extent
from mmbc_jax.priors.normal import gaussian_noise

BOX = 1.1  # a tenth beyond the actions, so that the wells at the bounds have a wall on either side


@dataclasses.dataclass(frozen=True, kw_only=True)
class IBCOptions(NetworkOptions):
    """Options of the energy and of its sampler, see above."""

    negatives: int = option(64, "per example, an even number", low=2)
    refine_steps: int = option(10, "of the perturbed half of them; 0 for none", low=0, high=10_000)
    min_perturbation: float = option(
        0.05, "smallest standard deviation, in normalised units", low=0.0, open_low=True, traced=True
    )
    max_perturbation: float = option(1.0, "largest standard deviation", traced=True)
    steps: int = option(25, "of the sampler", low=1, high=10_000)
    first_step: float = option(0.1, "first eta of the sampler")
    last_step: float = option(3e-4, "last eta of the sampler", low=0.0, open_low=True)
    max_move: float = option(
        0.2, "bound of the gradient part of a step, per coordinate", low=0.0, open_low=True
    )
    temperature: float = option(1.0, "T; 0 descends the energy without noise", low=0.0)

    def check(self) -> None:
        """Raises ConfigError where options do not go together."""
        super().check()
        if self.negatives % 2:
            raise self.error("negatives", "an even number: half uniform, half perturbed")
        for low, high in (("min_perturbation", "max_perturbation"), ("last_step", "first_step")):
            if not getattr(self, high) >= getattr(self, low):
                raise self.error(high, f"at least {self.section}.{low} = {getattr(self, low)}")


def info_nce(energy: Array) -> Array:
    """-log softmax(-E)_0: [...] from energies [1 + N, ...] of which the first is the positive's."""
    return energy[0] + jax.nn.logsumexp(-energy, 0)


@dataclasses.dataclass(frozen=True)
class IBCPolicy:
    """An energy and its Langevin sampler.

    Attributes:
      spec: sizes and observations.
      options: of the policy; N is `negatives`.
      network: from (chunk, observation) to the energy [..., 1].
    """

    spec: PolicySpec
    options: IBCOptions
    network: nn.Module

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of the network, and r among the statistics."""
        chunk, obs = jnp.zeros((1, *self.spec.chunk_shape)), self.spec.obs.dummy(1)
        return Variables(self.network.init(key, chunk, obs)["params"], {"range": extent(sample_batch)})

    def energy(self, variables: Variables, features: Array, chunk: Array) -> Array:
        """E(s, chunk): [...] for features [..., F] of observations and chunk [..., H, A], of equal leading axes."""
        network: Any = self.network
        found = network.apply({"params": variables.params}, chunk, features, method=network.read)
        return jnp.asarray(found)[..., 0]

    def candidates(
        self, variables: Variables, features: Array, key: Key, batch: Batch, hp: dict[str, Array]
    ) -> Array:
        """[1 + N, B, H, A]: the demonstrated chunks and their negatives, in the box; constants."""
        key_uniform, key_scale, key_noise, key_path = jax.random.split(key, 4)
        chunk, half, refine_steps = batch.chunk, self.options.negatives // 2, self.options.refine_steps
        box = BOX * variables.stats["range"]
        uniform = jax.random.uniform(key_uniform, (half, *chunk.shape), minval=-box, maxval=box)
        low, high = jnp.log(hp["min_perturbation"]), jnp.log(hp["max_perturbation"])
        share = jax.random.uniform(key_scale, (half, chunk.shape[0], 1, 1))
        noise = jnp.exp(low + share * (high - low)) * jax.random.normal(key_noise, uniform.shape)
        near = jnp.clip(chunk + noise, -box, box)
        if refine_steps:
            path = jax.random.normal(key_path, (refine_steps, *near.shape))
            features = jnp.broadcast_to(features, (half, *features.shape))
            near = jax.lax.stop_gradient(self.langevin(variables, features, near, path))
        negatives = jnp.where(batch.mask[..., None] > 0, jnp.concatenate([uniform, near]), chunk)
        return jnp.concatenate([chunk[None], negatives])

    def langevin(self, variables: Variables, features: Array, x: Array, path: Array) -> Array:
        """The dynamics above from x [..., H, A] along path [n, ..., H, A], for features [..., F] of observations."""
        slope = jax.grad(lambda x: self.energy(variables, features, x).sum())
        box = BOX * variables.stats["range"]
        bound, heat = self.options.max_move, self.options.temperature
        etas = jnp.geomspace(self.options.first_step, self.options.last_step, len(path))

        def step(x: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
            eta, noise = item
            move = bound * jnp.tanh(eta * slope(x) / bound)
            return jnp.clip(x - move + jnp.sqrt(2.0 * heat * eta) * noise, -box, box), None

        return jax.lax.scan(step, x, (etas, path))[0]

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """InfoNCE per example.

        Args:
          variables: of this policy.
          key: draws the negatives.
          batch: obs [B], chunk [B, H, A], mask [B, H].
          hp: `min_perturbation` and `max_perturbation`.

        Returns:
          per_example [B], 0 where nothing was recorded.
        """
        features = observe(self.network, variables.params, batch.obs)
        candidates = self.candidates(variables, features, key, batch, hp)
        energy = self.energy(
            variables, jnp.broadcast_to(features, (len(candidates), *features.shape)), candidates
        )
        nce = info_nce(energy) * (batch.mask.sum(-1) > 0)
        hit = (jnp.argmin(energy, 0) == 0).mean()
        metrics = {"bc/info_nce": nce.mean(), "bc/positive_first": hit}
        return Loss(nce, jnp.zeros(()), metrics, variables.stats)

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """w = {"x0": [..., H, A] uniform in [-r, r], "path": [..., steps, H, A] ~ N(0, I)}."""
        batch, event = self.spec.obs.batch_shape(obs), self.spec.chunk_shape
        end = jnp.broadcast_to(variables.stats["range"], (*batch, *event))
        x0 = distrax.Independent(distrax.Uniform(-end, end), 2)
        path = gaussian_noise(batch, (self.options.steps, *event))
        return distrax.Joint({"path": path, "x0": x0})

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """Chunk [..., H, A] at the end of the dynamics, for obs [...] and w of `base_distribution`."""
        features = observe(self.network, variables.params, obs)
        return self.langevin(variables, features, w["x0"], jnp.moveaxis(w["path"], -3, 0))


@register("policy", IBCOptions, needs_prior="none", needs_sampler=False)
def build(
    options: IBCOptions, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> IBCPolicy:
    """An energy-based policy; `prior` and `sampler` are accepted as by every policy and have no part in it."""
    return IBCPolicy(spec, options, make_chunk_encoder(options, spec, 1))
