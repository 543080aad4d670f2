"""Information that telling modes apart needs, what a KL weight leaves, and what a latent carries; in nats.

Fano: whoever names one of K modes M from S and a latent Z with error probability rho has
`H(M|S, Z) <= h(rho) + rho log(K - 1)`, with h the binary entropy, so

  I(M; Z | S) >= B_rho = H(M|S) - h(rho) - rho log(K - 1).

A minimiser of `rec + beta E KL(q(z|a, s) | p(z|s))` does no worse than the collapsed solution, so
`I <= E KL <= C / beta` with `C = rec(collapsed) - rec(best)`. Hence `beta > C / B_rho` rules out an error of
rho; the converse fails, real encoders collapse earlier. Sources: Cover & Thomas 2006 (Fano, reverse
water-filling), Hoffman & Johnson 2016 (the split of the KL), Burda et al. 2016 (active units),
arXiv 2605.22493. Everything is numpy in float64 on the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from scipy.special import entr, logsumexp

if TYPE_CHECKING:  # no checker can tell at run time what numpy takes for an array
    from numpy.typing import ArrayLike

Result = Float64[np.ndarray | np.float64, "*shape"]
ACTIVE_VARIANCE = 0.01  # a unit is active where its posterior mean varies more than this (Burda et al. 2016)

_BISECTIONS = 100


def fano_floor(h_modes: ArrayLike, rho: ArrayLike, num_modes: int) -> Result:
    """`B_rho = H(M|S) - h(rho) - rho log(K - 1)`, the information that an error of at most rho needs.

    Args:
      h_modes: entropy of the mode given the state, in [0, log K].
      rho: error probability, in [0, 1]; from `1 - 1/K` on, chance, it asks for nothing.
      num_modes: K >= 1.

    Returns:
      The floor, cut off below at 0; arguments broadcast.

    Raises:
      ValueError: an argument out of range.
    """
    entropy, error = _entropies(h_modes, num_modes), np.asarray(rho, np.float64)
    if not np.all((error >= 0.0) & (error <= 1.0)):
        raise ValueError("rho must lie in [0, 1]")
    floor: Result = np.maximum(entropy - _confusion(error, num_modes), 0.0)[()]
    return floor


def fano_inverse(h_modes: ArrayLike, information: ArrayLike, num_modes: int) -> Result:
    """The smallest error with which `information` nats about the mode allow to name it.

    The root in [0, 1 - 1/K] of `h(rho) + rho log(K - 1) = H(M|S) - information`, by bisection: the left side
    rises there from 0 to log K.

    Args:
      h_modes: entropy of the mode given the state, in [0, log K].
      information: >= 0.
      num_modes: K >= 1.

    Returns:
      The error; 0 where the information reaches the entropy. Arguments broadcast.

    Raises:
      ValueError: an argument out of range.
    """
    entropy, known = _entropies(h_modes, num_modes), _not_negative(information, "information")
    missing = entropy - known
    low = np.zeros_like(missing)
    high = np.full_like(missing, 1.0 - 1.0 / num_modes)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        enough = _confusion(middle, num_modes) >= missing
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(missing <= 0.0, 0.0, high)[()]


def information_ceiling(C: ArrayLike, beta: ArrayLike) -> Result:
    """`C / beta`, the most that the latent of a minimiser can tell about the action.

    Args:
      C: >= 0, reconstruction loss of the collapsed solution less that of the best.
      beta: >= 0, weight of the KL summed over the latent's dimensions.

    Returns:
      The ceiling in nats, inf at beta = 0.

    Raises:
      ValueError: a negative or undefined argument.
    """
    gain, weight = np.broadcast_arrays(_not_negative(C, "C"), _not_negative(beta, "beta"))
    return np.where(weight > 0.0, gain / np.where(weight > 0.0, weight, 1.0), np.inf)[()]


def beta_ceiling(C: ArrayLike, floor: ArrayLike) -> Result:
    """`C / B_rho`: with any larger beta the modes cannot be told apart with error rho.

    Args:
      C: >= 0, reconstruction loss of the collapsed solution less that of the best.
      floor: >= 0, B_rho in nats.

    Returns:
      The weight, inf where nothing needs to be told.

    Raises:
      ValueError: a negative or undefined argument.
    """
    gain, needed = np.broadcast_arrays(_not_negative(C, "C"), _not_negative(floor, "floor"))
    return np.where(needed > 0.0, gain / np.where(needed > 0.0, needed, 1.0), np.inf)[()]


def water_filling(variances: ArrayLike, beta: float) -> tuple[float, float]:
    """Rate and distortion of the best linear-Gaussian autoencoder under a KL weight.

    For Gaussian data with variances `lambda_j` along its principal axes, minimise
    `E |a - a_hat|^2 + beta E KL(q(z|a) | N(0, I))` over Gaussian encoders and linear decoders. The KL is at
    least `I(a; z)`, with equality when the aggregate of q is the prior, which scaling z attains; and I is at
    least `sum_j 1/2 log(lambda_j / D_j)` at distortions `D_j <= lambda_j`, which a Gaussian channel per axis
    attains. What remains, `sum_j D_j + beta/2 log(lambda_j / D_j)`, is convex with derivative
    `1 - beta / 2 D_j`: so `D_j = min(lambda_j, beta / 2)`, reverse water-filling with beta/2 the level. With
    the squared error averaged over d dimensions instead of summed, beta becomes d beta.

    Args:
      variances: [d] >= 0, the eigenvalues of the data's covariance.
      beta: > 0.

    Returns:
      (rate in nats `sum_j 1/2 log(lambda_j / D_j)`, distortion `sum_j D_j`).

    Raises:
      ValueError: an argument out of range.
    """
    spread = _spread(variances)
    if not (np.isfinite(beta) and beta > 0.0):
        raise ValueError("beta must be finite and above 0")
    level = 0.5 * beta
    told = spread[spread > level]
    rate = 0.5 * np.sum(np.log(told / level))
    return float(rate), float(np.minimum(spread, level).sum())


def collapse_beta(variances: ArrayLike) -> float:
    """The KL weight from which a linear-Gaussian autoencoder carries nothing: `2 max_j lambda_j`.

    In `water_filling` axis j is told while `beta / 2 < lambda_j`; the widest one goes last.

    Args:
      variances: [d] >= 0, the eigenvalues of the data's covariance.

    Returns:
      The smallest beta with rate 0, for the squared error summed over dimensions.

    Raises:
      ValueError: an argument out of range.
    """
    return float(2.0 * _spread(variances).max())


def classifier_information(log_probs: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """A lower bound on I(Z; M) from a classifier of the mode: `H(M) - E[-log q(M|Z)]`.

    It falls short by `E KL(p(m|z) | q(m|z))`. H(M) is the plug-in entropy of the labels. The classifier must
    not have been fitted to these samples: on its own training set the value is no bound.

    Args:
      log_probs: [n, K] normalised log q(m | z_i).
      labels: [n] whole, in [0, K).

    Returns:
      (estimate in nats, negative where the classifier is worse than the marginal; its standard error). The
      error is the delta method's, the deviation of `log q(m_i|z_i) - log p(m_i)` over sqrt(n).

    Raises:
      ValueError: wrong shapes, labels out of range, log-probabilities that do not normalise.
    """
    scores, classes = np.asarray(log_probs, np.float64), np.asarray(labels)
    if scores.ndim != 2 or classes.shape != scores.shape[:1] or len(classes) < 2:
        raise ValueError(f"shapes {scores.shape} and {classes.shape} are not [n, K] and [n] with n >= 2")
    num_modes = scores.shape[1]
    if not np.issubdtype(classes.dtype, np.integer) or np.any((classes < 0) | (classes >= num_modes)):
        raise ValueError(f"labels must be whole numbers in [0, {num_modes})")
    if not np.allclose(logsumexp(scores, axis=1), 0.0, atol=1e-3):
        raise ValueError("log_probs do not normalise")
    share = np.bincount(classes, minlength=num_modes) / len(classes)
    terms = scores[np.arange(len(classes)), classes] - np.log(share[classes])
    return float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(len(classes)))


def active_units(posterior_means: ArrayLike, threshold: float = ACTIVE_VARIANCE) -> int:
    """The number of latent dimensions whose posterior mean varies: `Var_a E[z_j | a] > threshold`.

    Args:
      posterior_means: [n, d] for n samples of the data.
      threshold: on the variance.

    Returns:
      A number in [0, d].

    Raises:
      ValueError: not [n, d] with n >= 2.
    """
    means = np.asarray(posterior_means, np.float64)
    if means.ndim != 2 or means.shape[0] < 2:
        raise ValueError(f"posterior_means of shape {means.shape} are not [n, d] with n >= 2")
    return int((means.var(0) > threshold).sum())


def _confusion(rho: Result, num_modes: int) -> Result:
    """The most entropy an error of at most rho leaves: `h(rho) + rho log(K - 1)`, log K from chance on."""
    error = np.minimum(rho, 1.0 - 1.0 / num_modes)
    entropy: Result = entr(error) + entr(1.0 - error) + error * np.log(max(num_modes - 1, 1))
    return entropy


def _entropies(h_modes: ArrayLike, num_modes: int) -> np.ndarray:
    if num_modes < 1:
        raise ValueError("num_modes must be at least 1")
    entropy = _not_negative(h_modes, "h_modes")
    if np.any(entropy > np.log(num_modes) + 1e-9):
        raise ValueError(f"h_modes is above log {num_modes}; it must be in nats")
    return entropy


def _not_negative(value: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(value, np.float64)
    if not np.all(array >= 0.0):
        raise ValueError(f"{name} must be >= 0")
    return array


def _spread(variances: ArrayLike) -> np.ndarray:
    spread = np.asarray(variances, np.float64)
    if spread.ndim != 1 or spread.size == 0 or not np.all(np.isfinite(spread) & (spread >= 0.0)):
        raise ValueError("variances must be [d], finite and >= 0")
    return spread
