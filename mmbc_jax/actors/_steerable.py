"""What a policy must have to be steered: initial noise of a chunk's shape, and components where z commands them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mmbc_jax.actors._components import component_logits
from mmbc_jax.actors._noise_head import x0_of
from mmbc_jax.core.keys import seeded
from mmbc_jax.core.options import Options
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.types import Array, Batch, Key, PolicySpec, PyTree


def check_steerable(options: Options, commanded: bool, spec: PolicySpec, policy: Policy) -> int:
    """Components of the base, 0 where they are not commanded.

    Raises:
      ConfigError: there is nothing to steer; the message is of `options`.
    """

    def sample(key: Key) -> tuple[PyTree, Array | None]:
        batch = Batch(
            obs=spec.obs.dummy(2),
            chunk=jnp.zeros((2, *spec.chunk_shape)),
            mask=jnp.ones((2, spec.chunk_len)),
        )
        key_init, key_sample = jax.random.split(key)
        variables = policy.init(key_init, batch)
        base = policy.base_distribution(variables, batch.obs)
        return base.sample(seed=key_sample), component_logits(base)

    w, logits = jax.eval_shape(sample, seeded(0))
    if isinstance(w, dict) and "x0" not in w:
        raise options.error("name", "a policy whose base has an initial noise x0")
    x0 = x0_of(w)
    if x0.shape != (2, *spec.chunk_shape) or not jnp.issubdtype(x0.dtype, jnp.floating):
        raise options.error(
            "name",
            "a policy with continuous noise of a chunk's shape to steer, such as flow or diffusion; "
            f"this one's base is {x0.dtype}{x0.shape[1:]}",
        )
    if not commanded:
        return 0
    if logits is None:
        raise options.error("components", "base: that of this policy has no components")
    return int(logits.shape[-1])
