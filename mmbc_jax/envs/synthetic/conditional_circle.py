r"""Two loops and a context that says which: see `_circle` for the geometry.

The observation is (x, y, one-hot context [2]); in an image the circle that the context asks for is green. The
context is drawn uniformly at reset, and success also needs the mode to be the context. The expert follows the mode
it is told, so half of its attempts fail and recorded demonstrations always agree with their context.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.envs.synthetic._circle import CircleOptions, Circles

OBSERVED = ObsSpec.vector(4, low=(0.0,) * 4, high=(1.0,) * 4)


class ConditionalCircle(Circles):
    """See the module docstring; `State.data` also holds "context" [] int32."""

    def __init__(self, options: CircleOptions):
        super().__init__(options, OBSERVED)

    def vector(self, state: State) -> Array:
        """[4] position and one-hot context."""
        return jnp.concatenate([state.data["position"], jax.nn.one_hot(state.data["context"], 2)])

    def goal(self, state: State) -> tuple[Array, Array]:
        """The circle that the context asks for."""
        params = state.info["params"]
        return self.boxes(params)[0][state.data["context"]], params["radius"]

    def begin(self, key: Key, params: PyTree | None) -> State:
        """As every path task, with a context."""
        start_key, context_key = jax.random.split(key)
        state = super().begin(start_key, params)
        context = jax.random.randint(context_key, (), 0, 2)
        return state.replace(data=state.data | {"context": context})

    def advance(self, state: State, action: Array) -> State:
        """As every path task; the wrong loop is a failure."""
        nstate = super().advance(state, action)
        context = nstate.data["context"]
        mode = jnp.where(nstate.info["mode"] == context, nstate.info["mode"], -1)
        success = (mode >= 0).astype(jnp.float32)
        return nstate.replace(
            reward=success,
            metrics=nstate.metrics | {"success": success},
            info=nstate.info | {"mode": mode},
        )


@register("env", CircleOptions)
def build(options: CircleOptions) -> ConditionalCircle:
    """Builds the task; see the module docstring."""
    return ConditionalCircle(options)
