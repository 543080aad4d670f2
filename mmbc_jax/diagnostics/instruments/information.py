r"""Instrument: does the latent of a policy carry enough information to tell the modes apart?

At anchor observations s with n demonstrated chunks a_i, latents z_i ~ q(z|a_i, s), all in nats:

  information/rate           E KL(q(z|a, s) | p(z|s)) by samples; an upper bound on I(A; Z|S)
  information/mutual         I_q = E log q(z_i|a_i) / (1/n sum_j q(z_i|a_j)), from below, at most log n
  information/marginal_kl    rate - mutual: the KL of the aggregate q(z|s) from the prior (ELBO surgery), from above
  information/mode_entropy   H(M|S), the entropy of the demonstrated modes at the anchor
  information/mode_information   I(M; Z|S) from below: H(M|S) less the cross-entropy of a classifier of the mode,
                             fitted on half of the demonstrations and measured on the others
  information/floor_01, floor_10   Fano floors B_rho for an error of 1 % and 10 %
  information/least_error    the smallest error that `rate` allows (Fano, inverted)
  information/gain           C = rec(collapsed) - rec(best): collapsed is the best answer without a latent
                             (median of the chunks), best the better of the policy's own and the modes' medians;
                             in the coordinates that the policy models (`chunk.coordinates`), as its loss is
  information/beta, information/ceiling, information/beta_limit    where the policy has a `beta`: it, C / beta,
                             and C / floor_10, above which the modes cannot be told apart
  information/active_units, information/latent_size   dimensions whose posterior mode varies by more than .01
  information/error_posterior, error_zero, error_prior   mean absolute error of a chunk with z from there
  information/z_advantage    (error_zero - error_posterior) / error_zero

Hypotheses: a posterior in the space of the base; densities of both (without them `rate`, `mutual` and what
follows from them are left out, as for a deterministic encoder, whose rate is infinite). H(M|S) counts
labels at nearly equal observations (`diagnostics._path_metric`). C / beta speaks of minimisers of mean absolute error
per entry plus beta times the KL summed over dimensions; with other reductions beta has other units. It is one-sided:
real encoders collapse at a smaller beta. The collapsed error is that of the data's own medians, so C is a
little too large for few demonstrations, and too small where the best policy beats both candidates.
Sources: Hoffman & Johnson 2016, Poole et al. 2019 (the bound on I_q), arXiv 2605.22493.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import capabilities
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PyTree
from mmbc_jax.diagnostics._classifier import held_out_log_probs
from mmbc_jax.diagnostics._path_metric import (
    Anchor,
    AnchorOptions,
    AnchorRule,
    LocalModes,
    average,
    decode,
    draw,
    latents,
    repeated,
)
from mmbc_jax.diagnostics._walks import flat_leaves, log_prob
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.ops import mutual_information as information
from mmbc_jax.ops import rate

_CLASSES = 8  # their number is rounded up to a multiple, to compile once for most anchors
_CODES = 1024  # most values of an integer leaf that the classifier can tell apart


@dataclasses.dataclass(frozen=True, kw_only=True)
class InformationOptions(AnchorOptions):
    """Anchors, and samples of the posterior."""

    latents: int = option(4, "samples of the posterior per demonstration", low=1, high=2**16)


@dataclasses.dataclass(frozen=True)
class InformationInstrument:
    """See the module docstring.

    Attributes:
      options: of the plug-in.
    """

    options: InformationOptions

    def measure(self, case: Case, key: Key) -> dict[str, float]:
        """The figures of the module docstring; empty without a posterior."""
        if "posterior" not in capabilities(case.policy):
            return {}
        return average(AnchorRule(self.options).visit(self._at, case, key, parts=3))

    def _at(self, case: Case, anchor: Anchor, key_z: Key, key_prior: Key, key_fit: Key) -> dict[str, float]:
        obs, chunk = anchor.obs, jnp.asarray(anchor.chunk)
        z, mode = latents(case, key_z, obs, chunk, self.options.latents)
        first = jax.tree.map(lambda x: x[0], z)
        found = _densities(case, obs, chunk, z) | _errors(case, key_prior, anchor, first)
        flat = np.asarray(flat_leaves(mode))
        if flat.shape[1]:
            found["information/latent_size"] = flat.shape[1]
            found["information/active_units"] = rate.active_units(flat)
        if anchor.modes is None:
            return found
        gain = _gain(case, anchor, anchor.modes, first)
        found["information/gain"] = gain
        found |= _floors(anchor.modes, found.get("information/rate"), gain, case.hp.get("beta"))
        known = anchor.modes.label >= 0
        if anchor.modes.count > 1:
            features = np.stack(
                [_features(jax.tree.map(lambda x, i=i: x[i], z)) for i in range(self.options.latents)]
            )
            scores, labels = held_out_log_probs(
                key_fit,
                features[:, known],
                anchor.modes.label[known],
                -(-anchor.modes.count // _CLASSES) * _CLASSES,
            )
            found["information/mode_information"] = max(rate.classifier_information(scores, labels)[0], 0.0)
        return found


@jax.jit
def _log_densities(
    case: Case, obs: Obs, chunk: Array, z: PyTree
) -> tuple[Array | None, Array | None, Array | None]:
    """(log q(z|own) [count, n], log p(z) [count, n], log q(z_i|a_j) [n, n] of the first samples)."""
    many = repeated(obs, len(chunk))
    q = case.policy.posterior(case.variables, many, chunk)  # type: ignore[attr-defined]
    p = case.policy.base_distribution(case.variables, many)
    own, prior = log_prob(q, z), log_prob(p, z)
    if own is None or prior is None:
        return None, None, None

    def row(one: PyTree) -> Array:
        return q.log_prob(jax.tree.map(lambda x: jnp.broadcast_to(x, (len(chunk), *x.shape)), one))

    return own, prior, jax.lax.map(row, jax.tree.map(lambda x: x[0], z))


def _densities(case: Case, obs: Obs, chunk: Array, z: PyTree) -> dict[str, float]:
    """Rate, mutual information and their difference; empty where a density is missing or degenerate."""
    own, prior, cross = _log_densities(case, obs, chunk, z)
    if own is None or prior is None or cross is None:
        return {}
    # A point mass on a continuous latent has log-density 0 at itself and -inf elsewhere.
    if flat_leaves(jax.tree.map(lambda x: x[0], z)).shape[1] and not np.isfinite(cross).all():
        return {}
    told = float(np.mean(np.asarray(own) - np.asarray(prior)))
    pairs = np.asarray(cross, np.float64)
    mutual = float(np.mean(np.diagonal(pairs) - logsumexp(pairs, axis=1)) + np.log(len(pairs)))
    return {
        "information/rate": told,
        "information/mutual": mutual,
        "information/marginal_kl": told - mutual,
    }


def _errors(case: Case, key: Key, anchor: Anchor, z: PyTree) -> dict[str, float]:
    """Mean absolute errors of chunks decoded from the posterior, from 0 and from the prior."""
    obs = anchor.obs

    def error(latent: PyTree) -> float:
        return float(np.abs(np.asarray(decode(case, obs, latent)[0]) - anchor.chunk).mean())

    found = {
        "information/error_posterior": error(z),
        "information/error_prior": error(draw(case, key, obs, len(anchor.chunk))[0]),
    }
    if all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(z)):
        zero = error(jax.tree.map(jnp.zeros_like, z))
        found["information/error_zero"] = zero
        if zero > 0:
            found["information/z_advantage"] = (zero - found["information/error_posterior"]) / zero
    return found


def _gain(case: Case, anchor: Anchor, modes: LocalModes, z: PyTree) -> float:
    """C, in the coordinates whose errors the loss weighs against the KL."""
    decoded, chunk = decode(case, anchor.obs, z)[0], jnp.asarray(anchor.chunk)
    if "modelled" in capabilities(case.policy):
        decoded, chunk = (case.policy.modelled(case.variables, one) for one in (decoded, chunk))  # type: ignore[attr-defined]
    known = np.asarray(chunk)
    best = min(float(np.abs(np.asarray(decoded) - known).mean()), _median_error(known, modes))
    return max(_median_error(known) - best, 0.0)


def _median_error(chunk: np.ndarray, modes: LocalModes | None = None) -> float:
    """Mean absolute distance of chunks [n, H, A] from their median, or from that of their own mode."""
    if modes is None:
        return float(np.abs(chunk - np.median(chunk, axis=0)).mean())
    groups = [chunk[modes.label == k] for k in range(modes.count)]
    return sum(_median_error(group) * len(group) for group in groups) / sum(map(len, groups))


def _floors(modes: LocalModes, told: float | None, gain: float, beta: Array | None) -> dict[str, float]:
    """Fano floors and what follows from them."""
    entropy = information.entropy(modes.share * (modes.label >= 0).sum())
    floors = {rho: float(rate.fano_floor(entropy, rho, modes.count)) for rho in (0.01, 0.1)}
    found = {
        "information/mode_entropy": entropy,
        "information/floor_01": floors[0.01],
        "information/floor_10": floors[0.1],
        "information/beta_limit": float(rate.beta_ceiling(gain, floors[0.1])),
    }
    if told is not None:
        found["information/least_error"] = float(rate.fano_inverse(entropy, max(told, 0.0), modes.count))
    if beta is not None:
        found["information/beta"] = float(beta)
        found["information/ceiling"] = float(rate.information_ceiling(gain, float(beta)))
    return found


def _features(z: PyTree) -> np.ndarray:
    """[n, F] float leaves as they are, integer ones one-hot."""
    columns = [np.asarray(flat_leaves(z))]
    for leaf in jax.tree.leaves(z):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            codes = np.asarray(leaf).reshape(len(leaf), -1) % _CODES
            columns += [np.eye(codes.max() + 1)[column] for column in codes.T]
    return np.concatenate(columns, axis=1)


@register("diagnostic", InformationOptions)
def build(options: InformationOptions) -> InformationInstrument:
    """The instrument."""
    return InformationInstrument(options)
