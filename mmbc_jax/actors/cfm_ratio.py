r"""Fine-tuning of a flow by the ratio of its own flow-matching losses (FPO, FPO++): no density is needed.

log rho = l_old - l_new,   l = loss of the field at x_t = alpha_t a + sigma_t e for the chunk a that was played

for N pairs (e_i, t_i), drawn when the decision is taken and kept with it: old and new loss see the same pairs, so
the first ratio is 1. semantics=fpo: one ratio of the mean loss over the pairs. semantics=fpo_pp: one for each
pair, N estimates of the decision's own, and decisions of a negative advantage are held by a square instead of a clip
(`Surrogate`). A loss counts as 20 at most.

supervise=velocity compares dx/dt, supervise=noise the estimate of e. The noise `feather` that is added to the chunk
explores, and is no part of the ratio. Where a steering head draws x_0 its own ratio comes first.

Source: McAllister et al. 2025 (FPO, arXiv 2507.21053); FPO++ (2026).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mmbc_jax.actors._noise_head import x0_of
from mmbc_jax.actors._tuned_field import OnTunedField, TunedFieldOptions, tuned_field
from mmbc_jax.core.acting import Surrogate
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field, Policy
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree, Variables
from mmbc_jax.ops.leading_axes import over_chunk

MOST = 20.0  # of a loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class CFMRatioOptions(TunedFieldOptions):
    """Ratios of flow-matching losses."""

    samples: int = option(8, "N, pairs of noise and time of a decision", low=1, high=1024)
    supervise: str = option("velocity", "what the loss compares", choices=("velocity", "noise"))
    semantics: str = option("fpo", "of the ratio; see the text", choices=("fpo", "fpo_pp"))
    feather: float = option(
        0.0, "standard deviation of noise on the chunk in exploring, in units of the policy's chunk", low=0.0
    )


@dataclasses.dataclass(frozen=True)
class CFMRatioActor(OnTunedField):
    """See the module docstring.

    Attributes:
      options: its options.
      num_modes: Z.
      tuned: the trained field.
      surrogate: of the factors.
    """

    options: CFMRatioOptions
    num_modes: int
    surrogate: Surrogate

    def init(self, key: Key, reference: Variables | None) -> PyTree:
        """Parameters at which the field is the reference's."""
        return self.tuned.init(key, reference)

    def _integrated(self, field: Field, x: Array) -> Array:
        """[..., H, A] the end of Euler's steps."""
        times = jnp.linspace(0.0, 1.0, self.options.steps + 1)

        def step(x: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
            t, s = item
            return x + (s - t) * field.velocity(x, t), None

        return jax.lax.scan(step, x, (times[:-1], times[1:]))[0]

    def act(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, PyTree]:
        """Draws a chunk and the pairs that will measure it.

        Args:
          params, reference: of this actor, and of the policy, frozen.
          key: for x_0, the feather, noise and times.
          obs: normalised.
          z: [...] int32 in [0, Z).

        Returns:
          (chunk [..., H, A], {"x1": it in the field's coordinates, "noise": [..., N, H, A], "time": [..., N],
          "loss": [..., N]} and of `StartNoise.draw`).
        """
        key_start, key_feather, key_noise, key_time = jax.random.split(key, 4)
        w, info = self.tuned.start.draw(params, reference, key_start, obs, z)
        field, out = self.tuned.field(params, reference, obs, z)
        x1 = self._integrated(field, x0_of(w))
        if self.options.feather:
            x1 = x1 + self.options.feather * jax.random.normal(key_feather, x1.shape)
        pairs = self._pairs(x1, key_noise, key_time)
        return out(x1), {**info, **pairs, "loss": self._losses(params, reference, obs, z, pairs)}

    def _pairs(self, x1: Array, key_noise: Key, key_time: Key) -> dict[str, Array]:
        """x1 [..., H, A] with N pairs of noise and time."""
        batch, event = x1.shape[:-2], x1.shape[-2:]
        noise = jax.random.normal(key_noise, (*batch, self.options.samples, *event))
        return {
            "x1": x1,
            "noise": noise,
            "time": jax.random.uniform(key_time, (*batch, self.options.samples)),
        }

    def imitation(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """[...] the flow's own loss on a chunk of the reference, which bounds its -log density, but for a head."""
        key_start, key_noise, key_time = jax.random.split(key, 3)
        w = self.tuned.start.headless().draw(params, reference, key_start, obs, z)[0]
        x1 = jax.lax.stop_gradient(self._integrated(self.tuned.frozen(reference, obs), x0_of(w)))
        return self._losses(params, reference, obs, z, self._pairs(x1, key_noise, key_time)).mean(-1)

    def _losses(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, pairs: PyTree
    ) -> Array:
        """[..., N] the loss of each pair: the mean over the numbers of a chunk, at most `MOST`."""
        field = self.tuned.field(params, reference, obs, z)[0]
        x1 = pairs["x1"]
        pairs_first = jax.tree.map(
            lambda of: jnp.moveaxis(of, x1.ndim - 2, 0), (pairs["noise"], pairs["time"])
        )

        def loss(item: tuple[Array, Array]) -> Array:
            noise, time = item
            t = over_chunk(time)
            (alpha, sigma), (up, down) = jax.jvp(field.path, (t,), (jnp.ones_like(t),))
            x = alpha * x1 + sigma * noise
            if self.options.supervise == "velocity":
                error = field.velocity(x, time) - (up * x1 + down * noise)
            else:
                error = field.denoise(x, time)[1] - noise
            return jnp.minimum(jnp.square(error).mean((-2, -1)), MOST)

        return jnp.moveaxis(jax.vmap(loss)(pairs_first), 0, -1)

    def log_ratio(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Array, info: PyTree
    ) -> Array:
        """[..., R] of x_0 where a head draws it, and l_old - l_new of the mean, or of each pair."""
        fall = info["loss"] - self._losses(params, reference, obs, z, info)
        fall = fall.mean(-1, keepdims=True) if self.options.semantics == "fpo" else fall
        return jnp.concatenate([*self.tuned.start.log_ratios(params, obs, z, info), fall], -1)

    def entropy(self, params: PyTree, reference: Variables | None, obs: Obs, z: Array) -> Array:
        """[...] nats of x_0 where a head draws it; what the flow makes of it has no density here."""
        return self.tuned.start.entropy(params, obs, z)

    def play(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of a drawn x_0, without the feather."""
        w = self.tuned.start.draw(params, reference, key, obs, z)[0]
        field, out = self.tuned.field(params, reference, obs, z)
        return out(self._integrated(field, x0_of(w)))

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of the likeliest x_0."""
        w = self.tuned.start.likeliest(params, reference, key, obs, z)
        field, out = self.tuned.field(params, reference, obs, z)
        return out(self._integrated(field, x0_of(w)))


@register("actor", CFMRatioOptions)
def build(
    options: CFMRatioOptions, *, spec: PolicySpec, policy: Policy | None, num_modes: int
) -> CFMRatioActor:
    """An actor that compares losses.

    Raises:
      ConfigError: there is no policy, or it integrates no field.
    """
    tuned = tuned_field(options, spec, policy, num_modes)
    surrogate = Surrogate()
    if options.semantics == "fpo_pp":
        head = (1.0,) if tuned.start.head is not None else ()
        surrogate = Surrogate(asymmetric=True, share=(*head, *(1.0 / options.samples,) * options.samples))
    return CFMRatioActor(options=options, num_modes=num_modes, tuned=tuned, surrogate=surrogate)
