r"""Instrument: does the prior of a latent policy cover the latent regions that carry the modes?

With U_k the latents that decode into the tube of mode k (see `diagnostics._path_metric`) and U_0 the rest,

  prior_k = P(z in U_k), z ~ p(z|s);   aggregate_k = P(z in U_k), z ~ q(z|a, s), a demonstrated at s.

  coverage/gap        total variation 1/2 sum_k |prior_k - aggregate_k|, k = 0 .. K; it is at most
                      TV(q(z|s), p(z|s)), of which prior_k >= aggregate_k - TV speaks
  coverage/min_mass   smallest prior_k over the modes
  coverage/missed     number of modes with prior_k < aggregate_k / 10
  coverage/prior_off, coverage/posterior_off   the masses of U_0
  coverage/log_density           mean log p(z|s) at the posterior modes of the demonstrations
  coverage/log_density_prior     the same at the prior's own samples
  coverage/threshold             the `alpha` quantile of the latter
  coverage/above                 share of the posterior modes whose log-density is above that threshold

Hypotheses: a posterior q(z|a, s) in the space of the base (capability `posterior`), labels; densities need a base
that knows its own. Histograms of n draws carry a sampling TV of up to sqrt(K / (2 pi n)) each, .1 for 16 modes
and the default samples: smaller gaps are noise. High `above` alone does not mean that modes are
reached in proportion, nor low `above` that they are not: a decoder may send the prior's bulk to a mode as well.
Prior coverage and its gap: arXiv 2605.22493.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import capabilities
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Key, PyTree
from mmbc_jax.diagnostics._path_metric import (
    Anchor,
    AnchorOptions,
    AnchorRule,
    average,
    decode,
    draw,
    latents,
    shares,
)
from mmbc_jax.diagnostics._walks import base_log_prob
from mmbc_jax.diagnostics.case import Case

MISSED = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoverageOptions(AnchorOptions):
    """Anchors, and when a latent is unlikely."""

    alpha: float = option(
        0.01,
        "quantile of the prior's own log-density below which a latent is unlikely",
        low=0.0,
        high=1.0,
        open_low=True,
    )


@dataclasses.dataclass(frozen=True)
class CoverageInstrument:
    """See the module docstring.

    Attributes:
      options: of the plug-in.
    """

    options: CoverageOptions

    def measure(self, case: Case, key: Key) -> dict[str, float]:
        """The figures of the module docstring; empty without a posterior."""
        if "posterior" not in capabilities(case.policy):
            return {}
        return average(AnchorRule(self.options).visit(self._at, case, key, parts=2))

    def _at(self, case: Case, anchor: Anchor, key_prior: Key, key_posterior: Key) -> dict[str, float]:
        obs = anchor.obs
        w, drawn = draw(case, key_prior, obs, self.options.samples)
        z, points = latents(case, key_posterior, obs, jnp.asarray(anchor.chunk), 1)
        found = self._densities(case, obs, w, points)
        modes = anchor.modes
        if modes is None:
            return found
        prior = shares(modes.assign(np.asarray(drawn)), modes.count)
        _, decoded = decode(case, obs, jax.tree.map(lambda x: x[0], z))
        aggregate = shares(modes.assign(np.asarray(decoded)), modes.count)
        return found | {
            "coverage/gap": 0.5 * np.abs(prior - aggregate).sum(),
            "coverage/min_mass": prior[:-1].min(),
            "coverage/missed": int((prior < MISSED * aggregate)[:-1].sum()),
            "coverage/prior_off": prior[-1],
            "coverage/posterior_off": aggregate[-1],
        }

    def _densities(self, case: Case, obs: Obs, w: PyTree, points: PyTree) -> dict[str, float]:
        densities = base_log_prob(case, obs, w), base_log_prob(case, obs, points)
        if densities[0] is None:
            return {}
        own, at = map(np.asarray, densities)
        threshold = np.quantile(own, self.options.alpha)
        return {
            "coverage/log_density": float(np.mean(at)),
            "coverage/log_density_prior": float(np.mean(own)),
            "coverage/threshold": float(threshold),
            "coverage/above": float(np.mean(at >= threshold)),
        }


@register("diagnostic", CoverageOptions)
def build(options: CoverageOptions) -> CoverageInstrument:
    """The instrument."""
    return CoverageInstrument(options)
