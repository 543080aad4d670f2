"""What all priors are made of, so that each file says only what sets its distribution apart."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import PolicySpec, PyTree


@dataclasses.dataclass(frozen=True)
class BasePrior:
    """A prior of w over `event_shape`; see `core.protocols.Prior` for what a subclass adds.

    Attributes:
      options: of the plug-in.
      event_shape: shape of w.
      spec: sizes and observations.
      plugin: name of the plug-in.
      gaussian: whether it is N(0, I) everywhere, so that stochastic samplers may start from it.
      trainable: whether `init` returns parameters that `loss` trains.
      reparameterised: whether samples are differentiable in all of them.
      discrete: whether w are integer codes; then `num_codes` says how many.
      needs_posterior: whether it is made of the policy's own posterior.
    """

    options: Any
    event_shape: tuple[int, ...]
    spec: PolicySpec

    plugin: ClassVar[str]
    gaussian: ClassVar[bool] = False
    trainable: ClassVar[bool] = False
    reparameterised: ClassVar[bool] = True
    discrete: ClassVar[bool] = False
    needs_posterior: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Under which it was configured; the plug-in's own where it was built by hand."""
        return self.options.name or self.plugin

    def batch_shape(self, obs: Obs) -> tuple[int, ...]:
        """The leading axes of observations."""
        return self.spec.obs.batch_shape(obs)

    def init(self, key: Any) -> PyTree:
        """No parameters."""
        return {}
