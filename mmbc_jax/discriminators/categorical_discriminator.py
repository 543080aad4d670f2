r"""A categorical discriminator q(z | what it sees of the path so far).

cross-entropy  -E[ log q(z | f + sigma e) ],  e ~ N(0, I)

What it sees is a choice:
- `state`: the present observation. It saturates on fine position: high information, few modes.
- `window`: the last `window` observations.
- `history`: the observations at all decisions so far in fixed slots, the slots to come filled with the
  present one, and the fraction of the horizon that has passed.

The input noise sets the scale below which two paths count as the same: without it the cheapest way to
tell z apart is to shift a path by millimetres instead of taking another one.

Source: q(z|s) and its input noise, Behavioral Mode Discovery (arXiv 2605.11387); state-only
discriminator, DIAYN (Eysenbach et al. 2019).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP

INPUTS = ("state", "window", "history")


def default_config() -> ConfigDict:
    """Defaults: see the module docstring for `input`; `slots` bounds the size of a history."""
    return ConfigDict(
        {
            "input": "history",
            "window": 4,
            "slots": 32,
            "noise": 0.3,
            "hidden": (128, 128),
            "activation": "mish",
        }
    )


@dataclasses.dataclass(frozen=True)
class CategoricalDiscriminator:
    """The discriminator.

    Its memory is {"slots": [..., M, D], "count": [...] int32 decisions so far}.

    Attributes:
      obs_dim: D.
      num_modes: Z.
      horizon: decisions in a full episode.
      input: one of `INPUTS`.
      slots: M, observations remembered.
      noise: standard deviation of the input noise, in normalised units.
      network: features to logits.
    """

    obs_dim: int
    num_modes: int
    horizon: int
    input: str
    slots: int
    noise: float
    network: MLP

    def init(self, key: Key) -> PyTree:
        """Network parameters; the untrained q is uniform."""
        memory = self.init_memory(jnp.zeros((1, self.obs_dim)))
        return self.network.init(key, self.features(memory))

    def init_memory(self, obs: Array) -> PyTree:
        """Memory at the first observation [..., D], normalised."""
        slots = jnp.broadcast_to(obs[..., None, :], (*obs.shape[:-1], self.slots, self.obs_dim))
        return {"slots": slots, "count": jnp.zeros(obs.shape[:-1], jnp.int32)}

    def remember(self, memory: PyTree, obs: Array) -> PyTree:
        """Memory after the decision that led to `obs` [..., D]."""
        count = memory["count"] + 1
        if self.input == "history":
            slot = (count * self.slots) // (self.horizon + 1)
            later = jnp.arange(self.slots) >= slot[..., None]
            slots = jnp.where(later[..., None], obs[..., None, :], memory["slots"])
        else:
            slots = jnp.concatenate([memory["slots"][..., 1:, :], obs[..., None, :]], -2)
        return {"slots": slots, "count": count}

    def features(self, memory: PyTree) -> Array:
        """[..., F] the remembered observations, flattened, and for a history the time passed in [0, 1]."""
        slots = memory["slots"]
        flat = slots.reshape(*slots.shape[:-2], -1)
        if self.input != "history":
            return flat
        time = memory["count"].astype(jnp.float32) / self.horizon
        return jnp.concatenate([flat, time[..., None]], -1)

    def log_prob(self, params: PyTree, key: Key, features: Array) -> Array:
        """[..., Z] log q(.|features + noise): the blur is part of what q sees, in the reward too."""
        noisy = features + self.noise * jax.random.normal(key, features.shape)
        return jax.nn.log_softmax(jnp.asarray(self.network.apply(params, noisy)))

    def loss(self, params: PyTree, key: Key, features: Array, z: Array) -> tuple[Array, Metrics]:
        """Cross-entropy under input noise.

        Args:
          params: of the network.
          key: for the noise.
          features: [..., F].
          z: [...] int32 commanded mode.

        Returns:
          ([...] -log q(z|features + noise) in nats, {"mode/q_accuracy": [] share of correct guesses}).
        """
        log_q = self.log_prob(params, key, features)
        loss = -jnp.take_along_axis(log_q, z[..., None], -1)[..., 0]
        accuracy = (log_q.argmax(-1) == z).astype(jnp.float32).mean()
        return loss, {"mode/q_accuracy": accuracy}


@register("discriminator", default_config)
def build(cfg: ConfigDict, obs_dim: int, num_modes: int, horizon: int) -> CategoricalDiscriminator:
    """A discriminator of `num_modes` modes over episodes of `horizon` decisions.

    Raises:
      ConfigError: an option cannot work.
    """
    check_choice("discriminator.input", cfg.input, INPUTS)
    check_choice("discriminator.activation", cfg.activation, ACTIVATIONS)
    check_range("discriminator.window", cfg.window, 1)
    check_range("discriminator.slots", cfg.slots, 1)
    check_range("discriminator.noise", cfg.noise, 0.0)
    slots = {"state": 1, "window": cfg.window, "history": min(cfg.slots, horizon + 1)}[cfg.input]
    network = MLP(tuple(cfg.hidden), num_modes, activation=cfg.activation, zero_last=True)
    return CategoricalDiscriminator(obs_dim, num_modes, horizon, cfg.input, slots, cfg.noise, network)
