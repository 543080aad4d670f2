r"""PPO on the denoising steps of a diffusion policy, the work of DPPO's Avoid iteration, written on our parts in JAX.

A chunk is made by K ancestral steps, the last F of which a copy of the network takes that is trained. Each of those
steps is an action of its own,

  log p = mean_{h,a} log N(x_{i+1}; keep x_i + pull x1^(x_i, t_i), max(std, s)), cut to [-5, 2],

and one row of PPO's batch is (decision, step). Advantages are those of the decision, discounted by g^(F - 1 - i).
The frozen network is not evaluated on the steps that are fine-tuned.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmbc_jax.core.types import Array, Key, PyTree, Variables
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.ops.ancestral import ancestral_coefficients
from mmbc_jax.ops.gae import gae
from mmbc_jax.policies.diffusion import DiffusionPolicy

GAMMA, LAMBDA, DENOISING_DISCOUNT, CLIP, LEAST_STD, VALUE_WEIGHT = 0.99, 0.95, 0.95, 0.1, 0.1, 0.5
ACTOR_RATE, CRITIC_RATE = 1e-5, 1e-3
DRAG, GAIN = 0.5, 0.05


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of an iteration; the defaults are those of DPPO on Avoid."""

    envs: int = 50
    decisions: int = 25
    tuned: int = 10  # F
    epochs: int = 10
    batches: int = 2


def point_step(state: Array, chunk: Array) -> tuple[Array, Array]:
    """A point with inertia that is to come to (1, 1): (state [B, 4], chunk [B, H, 2]) to (state, reward [B])."""

    def move(state: Array, action: Array) -> tuple[Array, Array]:
        velocity = DRAG * state[:, 2:] + GAIN * jnp.clip(action, -1.0, 1.0)
        position = jnp.clip(state[:, :2] + velocity, -1.0, 1.0)
        reward = -jnp.square(position - 1.0).sum(-1)
        return jnp.concatenate([position, velocity], -1), reward

    state, rewards = jax.lax.scan(move, state, jnp.moveaxis(chunk, 1, 0))
    return state, rewards.sum(0)


class DenoisingPPO:
    """One iteration as a pure function: rollout, log-probabilities, advantages, epochs of gradient steps.

    Args:
      policy: with the sampler's times.
      frozen: parameters of the clone.
      sizes: of an iteration.
    """

    def __init__(self, policy: DiffusionPolicy, frozen: PyTree, sizes: Sizes):
        self.policy, self.frozen, self.sizes = policy, frozen, sizes
        self.times = policy.sampler.times
        self.critic = MLP((256, 256, 256), 1, "mish", residual=True)
        self.actor_tx, self.critic_tx = optax.adamw(ACTOR_RATE, weight_decay=0.0), optax.adamw(CRITIC_RATE)

    def init(self, key: Key) -> tuple[PyTree, PyTree]:
        """(parameters, states of both optimisers)."""
        params = {"actor": self.frozen, "critic": self.critic.init(key, jnp.zeros((1, 4)))}
        return params, (self.actor_tx.init(params["actor"]), self.critic_tx.init(params["critic"]))

    def moments(self, params: PyTree, obs: Array, x: Array, now: Array, after: Array) -> tuple[Array, Array]:
        """Mean [..., H, A] and standard deviation [] of the step from x [..., H, A] at `now` [] to `after` []."""
        field = self.policy.field(Variables(params, {"prior": {}}), obs)
        data, _ = field.denoise(x, now)
        keep, pull, std = ancestral_coefficients(field.path(now), field.path(after))
        return keep * x + pull * data, jnp.maximum(std, LEAST_STD)

    def chain(self, params: PyTree, obs: Array, key: Key) -> Array:
        """[F + 1, B, H, A] a chunk before the first tuned step and after each of them."""
        key_base, key_noise = jax.random.split(key)
        x = jax.random.normal(key_base, (len(obs), *self.policy.spec.chunk_shape))
        times = jnp.stack([self.times[:-1], self.times[1:]], 1)
        noise = jnp.clip(jax.random.normal(key_noise, (len(times), *x.shape)), -3.0, 3.0)

        def steps(params: PyTree, x: Array, part: slice) -> tuple[Array, Array]:
            def step(x: Array, item: tuple[Array, Array]) -> tuple[Array, Array]:
                (now, after), eps = item
                mean, std = self.moments(params, obs, x, now, after)
                x = mean + std * eps
                return x, x

            return jax.lax.scan(step, x, (times[part], noise[part]))

        first = len(times) - self.sizes.tuned
        x, _ = steps(self.frozen, x, slice(0, first))
        return jnp.concatenate([x[None], steps(params, x, slice(first, None))[1]])

    def log_prob(self, params: PyTree, obs: Array, x: Array, after: Array, index: Array) -> Array:
        """[B] of the step `index` [B] among the tuned ones, which led from x to `after` [B, H, A]."""
        at = index + len(self.times) - 1 - self.sizes.tuned
        per_row = jax.vmap(self.moments, in_axes=(None, 0, 0, 0, 0))  # a row has a time of its own
        mean, std = per_row(params, obs, x, self.times[at], self.times[at + 1])
        std = std[:, None, None]
        found = -0.5 * jnp.square((after - mean) / std) - jnp.log(std) - 0.5 * jnp.log(2.0 * jnp.pi)
        return jnp.clip(found, -5.0, 2.0).mean((-2, -1))

    def rollout(self, params: PyTree, key: Key) -> tuple[Array, dict[str, Array]]:
        """(last states [B, 4], {obs [T, B, 4], chain [T, F + 1, B, H, A], reward [T, B]})."""

        def decide(state: Array, key: Key) -> tuple[Array, dict[str, Array]]:
            chain = self.chain(params["actor"], state, key)
            after, reward = point_step(state, chain[-1])
            return after, {"obs": state, "chain": chain, "reward": reward}

        start = jnp.zeros((self.sizes.envs, 4))
        return jax.lax.scan(decide, start, jax.random.split(key, self.sizes.decisions))

    def value(self, critic: PyTree, obs: Array) -> Array:
        """[...] of obs [..., 4]."""
        return self.critic.apply(critic, obs)[..., 0]

    def rows(self, params: PyTree, last: Array, seen: dict[str, Array]) -> dict[str, Array]:
        """Everything a gradient step reads, [T B F] of it."""
        sizes = self.sizes
        value = self.value(params["critic"], seen["obs"])
        after = jnp.concatenate([value[1:], self.value(params["critic"], last)[None]])
        zero = jnp.zeros_like(value)
        advantage, target = gae(seen["reward"], value, after, zero, zero, jnp.full_like(value, GAMMA), LAMBDA)

        def spread(x: Array) -> Array:  # [T, B, ...] to [T B F, ...]
            wide = jnp.broadcast_to(x[:, :, None], (*x.shape[:2], sizes.tuned, *x.shape[2:]))
            return wide.reshape(-1, *x.shape[2:])

        chain = jnp.moveaxis(seen["chain"], 2, 1)  # [T, B, F + 1, H, A]
        shape = (-1, *chain.shape[3:])
        rows = {
            "obs": spread(seen["obs"]),
            "x": chain[:, :, :-1].reshape(shape),
            "after": chain[:, :, 1:].reshape(shape),
            "index": jnp.tile(jnp.arange(sizes.tuned), value.size),
            "advantage": spread(advantage),
            "target": spread(target),
        }
        step = (rows[name] for name in ("obs", "x", "after", "index"))
        return rows | {"old": self.log_prob(params["actor"], *step)}

    def loss(self, params: PyTree, rows: dict[str, Array]) -> Array:
        """Clipped surrogate and value error of some rows."""
        advantage = rows["advantage"]
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        advantage = advantage * DENOISING_DISCOUNT ** (self.sizes.tuned - 1 - rows["index"])
        step = (rows[name] for name in ("obs", "x", "after", "index"))
        ratio = jnp.exp(self.log_prob(params["actor"], *step) - rows["old"])
        surrogate = jnp.minimum(advantage * ratio, advantage * jnp.clip(ratio, 1.0 - CLIP, 1.0 + CLIP))
        error = jnp.square(self.value(params["critic"], rows["obs"]) - rows["target"])
        return -surrogate.mean() + VALUE_WEIGHT * 0.5 * error.mean()

    def iteration(self, state: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], Any]:
        """Collects and updates; returns the losses of all gradient steps, too."""
        key_rollout, key_update = jax.random.split(key)
        rows = self.rows(state[0], *self.rollout(state[0], key_rollout))
        count = len(rows["index"])

        def epoch(state: Any, key: Key) -> Any:
            order = jax.random.permutation(key, count).reshape(self.sizes.batches, -1)
            return jax.lax.scan(update, state, order)

        def update(state: Any, index: Array) -> Any:
            params, (actor_state, critic_state) = state
            part = jax.tree.map(lambda leaf: leaf[index], rows)
            loss, grads = jax.value_and_grad(self.loss)(params, part)
            actor, actor_state = self.actor_tx.update(grads["actor"], actor_state, params["actor"])
            critic, critic_state = self.critic_tx.update(grads["critic"], critic_state, params["critic"])
            params = optax.apply_updates(params, {"actor": actor, "critic": critic})
            return (params, (actor_state, critic_state)), loss

        return jax.lax.scan(epoch, state, jax.random.split(key_update, self.sizes.epochs))
