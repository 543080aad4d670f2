r"""The reference in one step: a network from its initial noise to a chunk, taught by what the reference makes of it.

a = m(s, z, x_0) + sigma e,   x_0 in w ~ base(. | s),   e ~ N(0, I)

With the learner `q_chunk` and `filtered=False` this is FQL's one-step policy: it minimises

  beta |m(s, z, x_0) - transport(s, w)|^2 / W - Q(s, m(s, z, x_0)),

so it learns the whole integration while it climbs the critic, and a decision costs one evaluation. Its action is the
chunk. At first the network answers 0 and not as the clone. So the teacher plays until it has learned: in exploring
each decision is the student's with probability min(n / `ramp`, 1), n the decisions that an environment has taken.
sigma is of `act` and `sample`, for PPO and SAC; `q_chunk` explores by x_0 alone. Played, it is 0. PPO and SAC teach
the student by reward alone: under them the teacher plays at first, and nothing draws the student to it.

Source: Park et al. 2025 (FQL, arXiv 2502.02538).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from mmbc_jax.actors._density import normal_log_prob, squashed_entropy
from mmbc_jax.actors._noise_head import required, x0_of
from mmbc_jax.actors._standing_in import ramped, reference_chunk, switched_on
from mmbc_jax.actors._steerable import check_steerable
from mmbc_jax.core.most_likely import most_likely
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree, Variables
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.ops.capped import capped
from mmbc_jax.ops.picked import rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneStepOptions(Options):
    """The student."""

    hidden: tuple[int, ...] = option((256, 256, 256), "widths of the hidden layers", low=1)
    activation: str = option("silu", "between the layers", choices=tuple(ACTIVATIONS))
    fourier_octaves: int = option(2, "of the observation's features", low=0, high=16)
    std: float = option(0.05, "sigma at first, in units of the normalised chunk", low=0.0, open_low=True)
    ramp: int = option(
        64, "decisions of an environment until every one is the student's; before, the reference's", low=0
    )


@dataclasses.dataclass(frozen=True)
class OneStepActor:
    """See the module docstring; W = H A.

    Attributes:
      options: its options.
      spec: sizes and observations.
      policy: the teacher.
      num_modes: Z.
      network: (observation, one-hot z and x_0) to the chunk.
    """

    options: OneStepOptions
    spec: PolicySpec
    policy: Policy
    num_modes: int
    network: EncodedMLP

    @property
    def action_size(self) -> int:
        """W."""
        return self.spec.chunk_size

    @property
    def box(self) -> float:
        """0: its chunk is not squashed."""
        return 0.0

    def init(self, key: Key, reference: Variables | None) -> PyTree:
        """Parameters at which the chunk is 0 and sigma as the options say."""
        other = jnp.zeros((1, self.num_modes + self.action_size))
        start = math.log(self.options.std)
        return {
            "network": self.network.init(key, self.spec.obs.dummy(1), other),
            "log_std": jnp.full((self.num_modes, self.action_size), start, jnp.float32),
        }

    def exploring(self, params: PyTree, decisions: Array) -> PyTree:
        """Parameters with the share of decisions that are the student's, [] under "share"."""
        return ramped(params, decisions, self.options.ramp)

    def _mean(self, params: PyTree, obs: Obs, z: Array, x0: Array) -> Array:
        """[..., W] m of x_0 [..., W]."""
        other = jnp.concatenate([jax.nn.one_hot(z, self.num_modes), x0], -1)
        return jnp.asarray(self.network.apply(params["network"], obs, other))

    def _noise(self, reference: Variables | None, key: Key, obs: Obs) -> tuple[PyTree, Array]:
        """(w, the initial noise in it [..., W])."""
        w = self.policy.base_distribution(required(reference), obs).sample(seed=key)
        x0 = x0_of(w)
        return w, x0.reshape(*x0.shape[:-2], -1)

    def _teacher(self, reference: Variables | None, obs: Obs, w: PyTree) -> Array:
        """[..., W] chunk of the reference; no gradient."""
        return reference_chunk(self.policy, reference, obs, w)

    def act(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, PyTree]:
        """(chunk [..., H, A], {"x0", "x": [..., W], "log_prob": [...], "on": [...] 1 where it is the student's})."""
        key_base, key_x, key_on = jax.random.split(key, 3)
        w, x0 = self._noise(reference, key_base, obs)
        mean, log_std = self._mean(params, obs, z, x0), rows(params["log_std"], z)
        x = mean + jnp.exp(capped(log_std)) * jax.random.normal(key_x, mean.shape)
        info = {"x0": x0, "x": x, "log_prob": normal_log_prob(x, mean, log_std).sum(-1)}
        if "share" not in params:
            return self.spec.shaped(x), {**info, "on": jnp.ones(z.shape)}
        on = switched_on(params, key_on, z.shape)
        shown = jnp.where(on[..., None] > 0, x, self._teacher(reference, obs, w))
        return self.spec.shaped(shown), {**info, "on": on}

    def log_ratio(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[..., 1] log ratio given x_0, 0 where the reference played."""
        mean, log_std = self._mean(params, obs, z, info["x0"]), rows(params["log_std"], z)
        now = normal_log_prob(info["x"], mean, log_std).sum(-1)
        return (info["on"] * (now - info["log_prob"]))[..., None]

    def entropy(self, params: PyTree, reference: Variables | None, obs: Obs, z: Array) -> Array:
        """[...] nats given x_0."""
        log_std = rows(params["log_std"], z)
        return squashed_entropy(jnp.zeros_like(log_std), log_std, 0.0)

    def play(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of a drawn x_0; the reference is not run."""
        return self.spec.shaped(self._mean(params, obs, z, self._noise(reference, key, obs)[1]))

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of the likeliest x_0."""
        x0 = x0_of(most_likely(self.policy.base_distribution(required(reference), obs), key))
        return self.spec.shaped(self._mean(params, obs, z, x0.reshape(*x0.shape[:-2], -1)))

    def paired(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, Array]:
        """(flat chunk [..., W] of the student, differentiable in it; that of the reference, of one w).

        In exploring with a `ramp` the former is the latter where the reference still plays.
        """
        key, key_on = jax.random.split(key) if "share" in params else (key, key)
        w, x0 = self._noise(reference, key, obs)
        mean, taught = self._mean(params, obs, z, x0), self._teacher(reference, obs, w)
        if "share" not in params:
            return mean, taught
        return jnp.where(switched_on(params, key_on, z.shape)[..., None] > 0, mean, taught), taught

    def sample(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, Array]:
        """(flat chunk [..., W], log density [...] of the student's given x_0), differentiable in the parameters.

        In exploring with a `ramp` the former is the reference's where that still plays.
        """
        key, key_on = jax.random.split(key) if "share" in params else (key, key)
        key_base, key_x = jax.random.split(key)
        w, x0 = self._noise(reference, key_base, obs)
        mean, log_std = self._mean(params, obs, z, x0), rows(params["log_std"], z)
        x = mean + jnp.exp(capped(log_std)) * jax.random.normal(key_x, mean.shape)
        log_prob = normal_log_prob(x, mean, log_std).sum(-1)
        if "share" not in params:
            return x, log_prob
        on = switched_on(params, key_on, z.shape)[..., None] > 0
        return jnp.where(on, x, self._teacher(reference, obs, w)), log_prob

    def chunk(self, reference: Variables | None, key: Key, obs: Obs, action: Array) -> Array:
        """Chunk [..., H, A] of a flat one [..., W]; nothing is drawn."""
        return self.spec.shaped(action)


@register("actor", OneStepOptions)
def build(
    options: OneStepOptions, *, spec: PolicySpec, policy: Policy | None, num_modes: int
) -> OneStepActor:
    """An actor that learns what `policy` makes of its noise.

    Raises:
      ConfigError: there is no policy, or it has no continuous initial noise.
    """
    if policy is None:
        raise options.error(
            "name", "an actor that needs no clone, such as gaussian: there is no teacher here"
        )
    check_steerable(options, False, spec, policy)
    mlp = MLP(options.hidden, spec.chunk_size, activation=options.activation, zero_last=True)
    network = EncodedMLP(ObsEncoder(spec.obs, options.fourier_octaves), mlp)
    return OneStepActor(options, spec, policy, num_modes, network)
