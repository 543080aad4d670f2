r"""Implicit behavioural cloning: an energy on (observation, chunk), sampled by Langevin dynamics.

p(chunk | s) is proportional to exp(-E(s, chunk)). The energy is trained to pick the demonstrated chunk x_0 out
of N negatives (InfoNCE),

  loss_b = -log [exp(-E(s_b, x_b0)) / sum_{i=0..N} exp(-E(s_b, x_bi))].

Half of the negatives are uniform in the box |x| <= 1.1: they lower the energy of no region by neglect. The others
are demonstrated chunks plus noise whose scale is drawn log-uniformly between `min_perturbation` and
`max_perturbation`, moved on by `refine_steps` of the dynamics below under the present energy, which passes no
gradient through them. They sit where the sampler gets stuck: without them the energy is right about which chunk
is better and wrong about the way there, and in eight dimensions Langevin dynamics misses even a single mode.
Where an action was not recorded all candidates share the stored one, so that it cannot tell them apart: the
energy at the end of an episode is defined by its recorded actions only.

As a pair: w = (x0 uniform in [-1, 1], path of `steps` standard normals) and transport is

  x_{i+1} = clip(x_i - m tanh(eta_i grad E(s, x_i) / m) + sqrt(2 T eta_i) path_i, -1.1, 1.1),

m = `max_move`, T = `temperature`, with eta falling geometrically from `first_step` to `last_step`.
The bound on a move keeps the dynamics stable on the walls of a well, and tanh keeps it differentiable in w.
So short a chain seldom crosses between wells: each start falls into the one whose basin it is in, all modes are
sampled, but their shares are those of the basins rather than of the data. InfoNCE does not shape the energy
where it is high already, so a start may also end on a plateau there: a tenth to a fifth did so between two
points on a line.

Source: Florence et al. 2022 (IBC); van den Oord et al. 2018 (InfoNCE); Welling and Teh 2011 (step sizes).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import make_chunk_encoder, network_config
from mmbc_jax.priors.normal import gaussian_noise

BOX = 1.1  # a tenth beyond the actions, so that the wells at the bounds have a wall on either side


def default_config() -> ConfigDict:
    """Defaults.

    `negatives` per example, an even number; `refine_steps` of half of them, 0 for none. Traced:
    `min_perturbation` and `max_perturbation`, standard deviations in normalised units. The others belong to
    the sampler, see above.
    """
    return ConfigDict(
        {
            **network_config(),
            "negatives": 64,
            "refine_steps": 10,
            "min_perturbation": 0.05,
            "max_perturbation": 1.0,
            "steps": 25,
            "first_step": 0.1,
            "last_step": 3e-4,
            "max_move": 0.2,
            "temperature": 1.0,
        }
    )


def info_nce(energy: Array) -> Array:
    """-log softmax(-E)_0: [...] from energies [1 + N, ...] of which the first is the positive's."""
    return energy[0] + jax.nn.logsumexp(-energy, 0)


@dataclasses.dataclass(frozen=True)
class IBCPolicy:
    """An energy and its Langevin sampler.

    Attributes:
      spec: sizes.
      network: from (chunk, observation) to the energy [..., 1].
      negatives: N.
      refine_steps: of the perturbed negatives.
      steps: of the sampler.
      first_step: its first eta.
      last_step: its last eta.
      max_move: bound of the gradient part of a step, per coordinate.
      temperature: T; 0 descends the energy without noise.
    """

    spec: PolicySpec
    network: nn.Module
    negatives: int
    refine_steps: int
    steps: int
    first_step: float
    last_step: float
    max_move: float
    temperature: float

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of the network."""
        chunk, obs = jnp.zeros((1, *self.spec.chunk_shape)), jnp.zeros((1, self.spec.obs_dim))
        return Variables(self.network.init(key, chunk, obs)["params"])

    def energy(self, variables: Variables, obs: Array, chunk: Array) -> Array:
        """E(s, chunk): [...] for obs [..., D] and chunk [..., H, A] with the same leading axes."""
        return jnp.asarray(self.network.apply({"params": variables.params}, chunk, obs))[..., 0]

    def candidates(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Array:
        """[1 + N, B, H, A]: the demonstrated chunks and their negatives, in the box; constants."""
        key_uniform, key_scale, key_noise, key_path = jax.random.split(key, 4)
        chunk, half = batch.chunk, self.negatives // 2
        uniform = jax.random.uniform(key_uniform, (half, *chunk.shape), minval=-BOX, maxval=BOX)
        low, high = jnp.log(hp["min_perturbation"]), jnp.log(hp["max_perturbation"])
        share = jax.random.uniform(key_scale, (half, chunk.shape[0], 1, 1))
        noise = jnp.exp(low + share * (high - low)) * jax.random.normal(key_noise, uniform.shape)
        near = jnp.clip(chunk + noise, -BOX, BOX)
        if self.refine_steps:
            path = jax.random.normal(key_path, (self.refine_steps, *near.shape))
            obs = jnp.broadcast_to(batch.obs, (half, *batch.obs.shape))
            near = jax.lax.stop_gradient(self.langevin(variables, obs, near, path))
        negatives = jnp.where(batch.mask[..., None] > 0, jnp.concatenate([uniform, near]), chunk)
        return jnp.concatenate([chunk[None], negatives])

    def langevin(self, variables: Variables, obs: Array, x: Array, path: Array) -> Array:
        """The dynamics above from x [..., H, A] along path [n, ..., H, A], for obs [..., D]."""
        slope = jax.grad(lambda x: self.energy(variables, obs, x).sum())

        def step(x: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
            eta, noise = item
            move = self.max_move * jnp.tanh(eta * slope(x) / self.max_move)
            return jnp.clip(x - move + jnp.sqrt(2.0 * self.temperature * eta) * noise, -BOX, BOX), None

        return jax.lax.scan(step, x, (jnp.geomspace(self.first_step, self.last_step, len(path)), path))[0]

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """InfoNCE per example.

        Args:
          variables: of this policy.
          key: draws the negatives.
          batch: obs [B, D], chunk [B, H, A], mask [B, H].
          hp: `min_perturbation` and `max_perturbation`.

        Returns:
          per_example [B], 0 where nothing was recorded.
        """
        candidates = self.candidates(variables, key, batch, hp)
        obs = jnp.broadcast_to(batch.obs, (len(candidates), *batch.obs.shape))
        energy = self.energy(variables, obs, candidates)
        nce = info_nce(energy) * (batch.mask.sum(-1) > 0)
        hit = (jnp.argmin(energy, 0) == 0).mean()
        metrics = {"bc/info_nce": nce.mean(), "bc/positive_first": hit}
        return Loss(nce, jnp.zeros(()), metrics, variables.stats)

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        """w = {"x0": [..., H, A] uniform in [-1, 1], "path": [..., steps, H, A] ~ N(0, I)}."""
        one = jnp.ones((*obs.shape[:-1], *self.spec.chunk_shape))
        x0 = distrax.Independent(distrax.Uniform(-one, one), 2)
        path = gaussian_noise(obs, (self.steps, *self.spec.chunk_shape))
        return distrax.Joint({"path": path, "x0": x0})

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        """Chunk [..., H, A] at the end of the dynamics, for obs [..., D] and w of `base_distribution`."""
        return self.langevin(variables, obs, w["x0"], jnp.moveaxis(w["path"], -3, 0))


@register("policy", default_config, hparams=("min_perturbation", "max_perturbation"))
def build(
    cfg: ConfigDict, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> IBCPolicy:
    """An energy-based policy; `prior` and `sampler` are accepted as by every policy and have no part in it.

    Raises:
      ConfigError: an option cannot work.
    """
    check_range("policy.negatives", cfg.negatives, 2)
    if cfg.negatives % 2:
        raise ConfigError("policy.negatives", cfg.negatives, "an even number: half uniform, half perturbed")
    check_range("policy.refine_steps", cfg.refine_steps, 0)
    check_range("policy.min_perturbation", cfg.min_perturbation, 0.0, open_low=True)
    check_range("policy.max_perturbation", cfg.max_perturbation, cfg.min_perturbation)
    check_range("policy.steps", cfg.steps, 1)
    check_range("policy.last_step", cfg.last_step, 0.0, open_low=True)
    check_range("policy.first_step", cfg.first_step, cfg.last_step)
    check_range("policy.max_move", cfg.max_move, 0.0, open_low=True)
    check_range("policy.temperature", cfg.temperature, 0.0)
    return IBCPolicy(
        spec,
        make_chunk_encoder(cfg, 1),
        cfg.negatives,
        cfg.refine_steps,
        cfg.steps,
        cfg.first_step,
        cfg.last_step,
        cfg.max_move,
        cfg.temperature,
    )
