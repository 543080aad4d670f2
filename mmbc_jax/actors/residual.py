r"""A bounded correction of the reference's chunk (Policy Decorator): a = a_base + scale tanh(x).

a_base = transport(s, w),   x ~ N(MLP(s, z), diag(sigma_z)^2), or with `sees_noise` N(MLP(s, z, x_0), ..), x_0 in w

w comes from the base, or with `steered` and two modes or more from a steering head, which PPO trains and an
off-policy learner leaves as it is. The reference is frozen and no gradient passes through it. At the start the
correction is small. In exploring it is switched on for a decision with probability min(n / `ramp`, 1), n the
decisions that an environment has taken; else the chunk is the reference's, bit for bit.

As the action of an off-policy learner stands the whole chunk a, so its critic sees (s, a). The reference is run anew
on replayed observations, where the published code keeps its chunks: on average the same, without their room.

Played, the correction is its mean.

Source: Yuan et al. 2024 (Policy Decorator, arXiv 2412.13630).
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from mmbc_jax.actors._density import normal_log_prob, squashed_entropy
from mmbc_jax.actors._noise_head import HeadOptions, NoiseHead, x0_of
from mmbc_jax.actors._standing_in import ramped, reference_chunk, switched_on
from mmbc_jax.actors._start_noise import StartNoise
from mmbc_jax.actors._steerable import check_steerable
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree, Variables
from mmbc_jax.nn.encoded_mlp import EncodedMLP
from mmbc_jax.ops import soft_policy as sac
from mmbc_jax.ops.capped import capped
from mmbc_jax.ops.picked import rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualOptions(HeadOptions):
    """A correction of the reference's chunk; `hidden` and what follows it hold for both networks."""

    scale: float = option(0.1, "largest correction of a number, in units of the normalised chunk", low=0.0)
    correction_std: float = option(0.3, "sigma at first, before tanh", low=0.0, open_low=True)
    ramp: int = option(0, "decisions of an environment until every one is corrected; 0 for at once", low=0)
    sees_noise: bool = option(
        False,
        "the correction knows the reference's initial noise, so that it can correct every way by itself",
    )
    steered: bool = option(True, "with two modes or more a steering head commands the noise, too")


@dataclasses.dataclass(frozen=True)
class Correction:
    """The Gaussian over x, [..., W] with W = H A.

    Attributes:
      options: of the actor.
      spec: sizes and observations.
      num_modes: Z.
      network: (observation, one-hot z and what it sees of the noise) to the mean.
    """

    options: ResidualOptions
    spec: PolicySpec
    num_modes: int
    network: EncodedMLP

    @property
    def size(self) -> int:
        """W."""
        return self.spec.chunk_size

    def init(self, key: Key) -> dict[str, PyTree]:
        """Parameters at which the mean is 0."""
        other = jnp.zeros((1, self.num_modes + self.options.sees_noise * self.size))
        start = math.log(self.options.correction_std)
        return {
            "network": self.network.init(key, self.spec.obs.dummy(1), other),
            "log_std": jnp.full((self.num_modes, self.size), start, jnp.float32),
        }

    def moments(self, params: PyTree, obs: Obs, z: Array, seen: PyTree) -> tuple[Array, Array]:
        """(mean, log standard deviation) of x, each [..., W]; `seen` holds what `seen` returns."""
        one_hot = jax.nn.one_hot(z, self.num_modes)
        other = jnp.concatenate([one_hot, seen["x0"]], -1) if self.options.sees_noise else one_hot
        mean = self.network.apply(params["network"], obs, other)
        return mean, jnp.broadcast_to(rows(params["log_std"], z), mean.shape)

    def seen(self, w: PyTree) -> dict[str, Array]:
        """{"x0": [..., W] the initial noise inside w, no gradient}; nothing where the correction does not look."""
        if not self.options.sees_noise:
            return {}
        x0 = x0_of(w)
        return {"x0": jax.lax.stop_gradient(x0.reshape(*x0.shape[:-2], -1))}


@dataclasses.dataclass(frozen=True)
class ResidualActor:
    """See the module docstring; as an action it is the chunk, W = H A numbers.

    Attributes:
      options: its options.
      spec: sizes and observations.
      policy: the reference.
      num_modes: Z.
      correction: the Gaussian over x.
      start: the noise of the reference.
    """

    options: ResidualOptions
    spec: PolicySpec
    policy: Policy
    num_modes: int
    correction: Correction
    start: StartNoise

    @property
    def action_size(self) -> int:
        """W."""
        return self.correction.size

    @property
    def box(self) -> float:
        """Half-width of the box of corrections; where there are none, that of a density which nothing depends on."""
        return self.options.scale or 1.0

    @property
    def has_head(self) -> bool:
        """Whether a steering head draws the noise."""
        return self.start.head is not None

    def headless(self) -> ResidualActor:
        """The correction, which z commands still, of a chunk whose noise the base draws."""
        return dataclasses.replace(self, start=self.start.headless())

    def init(self, key: Key, reference: Variables | None) -> PyTree:
        """Parameters at which the mean correction is 0."""
        key_own, key_start = jax.random.split(key)
        return {**self.correction.init(key_own), **self.start.init(key_start, reference)}

    def rates(self, tunes: Array) -> dict[str, Array | float]:
        """Factors of the learning rate: without `tunes` a head learns alone; see `core.acting.HasRates`."""
        alone = tunes if self.start.head is not None else 1.0
        return {"network": alone, "log_std": alone}

    def exploring(self, params: PyTree, decisions: Array) -> PyTree:
        """Parameters with the share of decisions that are corrected, [] under "share"."""
        return ramped(params, decisions, self.options.ramp)

    def _base(self, reference: Variables | None, obs: Obs, w: PyTree) -> Array:
        """[..., W] chunk of the reference; no gradient."""
        return reference_chunk(self.policy, reference, obs, w)

    def _sum(self, base: Array, x: Array, on: Array) -> Array:
        corrected = base + self.options.scale * jnp.tanh(x)
        return jnp.where(on[..., None] > 0, corrected, base)

    def act(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, PyTree]:
        """Draws the reference's chunk and its correction.

        Returns:
          (chunk [..., H, A], {"x": [..., W], "log_prob": [...], "on": [...]}, and "start" and
          "start_log_prob" where a head draws the noise).
        """
        key_base, key_x, key_on = jax.random.split(key, 3)
        w, info = self.start.draw(params, reference, key_base, obs, z)
        base = self._base(reference, obs, w)
        info |= self.correction.seen(w)
        mean, log_std = self.correction.moments(params, obs, z, info)
        x = mean + jnp.exp(capped(log_std)) * jax.random.normal(key_x, mean.shape)
        on = switched_on(params, key_on, z.shape)
        info |= {"x": x, "log_prob": normal_log_prob(x, mean, log_std).sum(-1), "on": on}
        return self.spec.shaped(self._sum(base, x, on)), info

    def log_ratio(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[..., R] log ratios: of the noise where a head draws it, and of the correction, 0 where there was none."""
        x_ratio = normal_log_prob(info["x"], *self.correction.moments(params, obs, z, info)).sum(-1)
        corrected = (info["on"] * (x_ratio - info["log_prob"]))[..., None]
        return jnp.concatenate([*self.start.log_ratios(params, obs, z, info), corrected], -1)

    def divergence(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[...] |E x|^2 / (2 sigma^2), from a correction that is 0 on average, and of the noise KL(head || base)."""
        mean, log_std = self.correction.moments(params, obs, z, info)
        apart = 0.5 * jnp.square(mean * jnp.exp(capped(-log_std))).sum(-1)
        return apart + self.start.divergence(params, obs, z)

    def entropy(self, params: PyTree, reference: Variables | None, obs: Obs, z: Array) -> Array:
        """[...] nats of the correction, beside the noise 0 where it sees that; and of the noise that a head draws."""
        x0 = jnp.zeros((*z.shape, self.action_size))
        own = squashed_entropy(*self.correction.moments(params, obs, z, {"x0": x0}), self.box)
        return own + self.start.entropy(params, obs, z)

    def play(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of the reference, drawn, with the mean correction."""
        w = self.start.draw(params, reference, key, obs, z)[0]
        return self._corrected(params, reference, obs, z, w, jnp.ones(z.shape))[0]

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of the likeliest noise, with the mean correction."""
        w = self.start.likeliest(params, reference, key, obs, z)
        return self._corrected(params, reference, obs, z, w, jnp.ones(z.shape))[0]

    def _corrected(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, w: PyTree, on: Array
    ) -> tuple[Array, Array]:
        """(chunk of w [..., H, A] with the mean correction where it is on, without it [..., W])."""
        base = self._base(reference, obs, w)
        mean = self.correction.moments(params, obs, z, self.correction.seen(w))[0]
        return self.spec.shaped(self._sum(base, mean, on)), base

    def paired(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, Array]:
        """(flat chunk [..., W] with the mean correction, differentiable in it; that of the reference, of one w)."""
        key, key_on = jax.random.split(key) if "share" in params else (key, key)
        w = self.start.draw(params, reference, key, obs, z)[0]
        chunk, base = self._corrected(params, reference, obs, z, w, switched_on(params, key_on, z.shape))
        return chunk.reshape(base.shape), base

    def sample(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, Array]:
        """(flat chunk [..., W], log density [...] of its correction), differentiable in that one's parameters."""
        key_base, key_x, key_on = jax.random.split(key, 3)
        w = self.start.draw(params, reference, key_base, obs, z)[0]
        base = self._base(reference, obs, w)
        mean, log_std = self.correction.moments(params, obs, z, self.correction.seen(w))
        correction, log_prob = sac.sample(key_x, mean, log_std, self.box)
        on = switched_on(params, key_on, z.shape)[..., None] > 0
        return jnp.where(on, base + (correction if self.options.scale else 0.0), base), log_prob

    def chunk(self, reference: Variables | None, key: Key, obs: Obs, action: Array) -> Array:
        """Chunk [..., H, A] of a flat one [..., W]; nothing is drawn."""
        return self.spec.shaped(action)


@register("actor", ResidualOptions)
def build(
    options: ResidualOptions, *, spec: PolicySpec, policy: Policy | None, num_modes: int
) -> ResidualActor:
    """An actor that corrects `policy`.

    Raises:
      ConfigError: there is no policy, or a head is wanted and it has no continuous noise to steer.
    """
    if policy is None:
        raise options.error(
            "name",
            "an actor that needs no clone, such as gaussian: without bc or start_from nothing is corrected",
        )
    head, steered = None, options.steered and num_modes > 1
    if steered or options.sees_noise:
        check_steerable(options, False, spec, policy)
    if steered:
        head = NoiseHead.of(options, spec, policy, num_modes)
    network = options.network(spec, spec.chunk_size)
    correction = Correction(options, spec, num_modes, network)
    return ResidualActor(options, spec, policy, num_modes, correction, StartNoise(policy, head))
