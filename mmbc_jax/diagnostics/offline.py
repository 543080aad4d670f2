"""Errors of a policy on recorded windows, without an environment.

For a window with recorded chunk a, mask m and samples a_1 .. a_n of the policy at its observation,

    e_i       = sqrt( sum_h m_h |a_ih - a_h|^2 / (A sum_h m_h) ),
    best_of_k = mean over all subsets of k of the n samples of min e_i,

averaged over windows, in normalised units. best_of_1 is the mean error of one sample. best_of_k falls
with k for a policy that covers the demonstrated modes and stays for one that does not, `mse` above all,
whose samples coincide. The subsets' mean needs no subsets: with errors sorted, e_(i) is the smallest
of C(n-i, k-1) of the C(n, k) subsets.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.types import Array, Batch, Key, Metrics, Variables
from mmbc_jax.data.windows import Windows

BEST_OF = (1, 4, 16, 64, 256)
COVERED = 0.1  # error of a sample that counts as the same behaviour; actions span 2
OfflineFn = Callable[[Variables, Windows, Key, dict[str, Array]], Metrics]


def make_offline_metrics(policy: Policy, num_samples: int, batch: int) -> OfflineFn:
    """A jitted function that measures `policy` on windows; call it again and again without recompiling.

    Args:
      policy: any policy; several samples come from its base distribution.
      num_samples: n >= 1 samples per window.
      batch: windows at a time. The last batch is filled up with windows that are not counted.

    Returns:
      `fn(variables, windows, key, hp) -> metrics`, [] float32 each, under `offline/`: `loss` (per example,
      plus the batch term averaged over batches), `best_of_<k>` for k = 1, 4, 16, ... below n and for n
      itself, `covered` (share of windows with a sample within `COVERED`), `mean_error` (the error e of the
      mean of the samples), `spread` (root mean square distance of the samples from their mean, 0 for a
      deterministic policy). `hp` holds the policy's traced scalars, as for `Policy.loss`.

    Raises:
      ValueError: `num_samples` or `batch` below 1.
    """
    if num_samples < 1 or batch < 1:
        raise ValueError(f"needs num_samples >= 1 and batch >= 1, got {num_samples} and {batch}")
    counts = sorted({k for k in BEST_OF if k < num_samples} | {num_samples})
    weights = {k: jnp.asarray(best_of_weights(num_samples, k), jnp.float32) for k in counts}

    @jax.jit
    def measure(variables: Variables, windows: Windows, key: Key, hp: dict[str, Array]) -> Metrics:
        total = len(windows)
        batches = -(-total // batch)
        rows = jnp.arange(batches * batch)

        def one(inputs: tuple[Key, Array, Array]) -> Metrics:
            one_key, indices, counted = inputs
            data = windows.batch(indices)
            loss_key, sample_key = jax.random.split(one_key)
            loss = policy.loss(variables, loss_key, data, hp)
            found = {"loss": loss.per_example} | _errors(
                policy, variables, sample_key, data, num_samples, weights
            )
            sums = {name: jnp.where(counted, values, 0.0).sum() / total for name, values in found.items()}
            return sums | {"loss": sums["loss"] + loss.batch / batches}

        # Filled up by starting over, so that batch statistics see real windows.
        shape = (batches, batch)
        inputs = (
            jax.random.split(key, batches),
            (rows % total).reshape(shape),
            (rows < total).reshape(shape),
        )
        sums = jax.tree.map(lambda values: values.sum(axis=0), jax.lax.map(one, inputs))
        return {f"offline/{name}": value for name, value in sums.items()}

    return measure


def offline_metrics(
    policy: Policy,
    variables: Variables,
    windows: Windows,
    key: Key,
    num_samples: int = 16,
    batch: int = 256,
    hp: dict[str, Array] | None = None,
) -> Metrics:
    """One measurement; see `make_offline_metrics`, which to prefer where there are several."""
    return make_offline_metrics(policy, num_samples, batch)(variables, windows, key, hp or {})


def best_of_weights(n: int, k: int) -> np.ndarray:
    """[n] weights of errors sorted upwards whose weighted sum is the mean over k-subsets of the minimum."""
    return np.asarray([math.comb(n - i, k - 1) / math.comb(n, k) for i in range(1, n + 1)])


def _errors(
    policy: Policy, variables: Variables, key: Key, data: Batch, num_samples: int, weights: dict[int, Array]
) -> dict[str, Array]:
    """Per-window [B] errors from `num_samples` samples of the policy."""

    def sample(one_key: Key) -> Array:
        w = policy.base_distribution(variables, data.obs).sample(seed=one_key)
        return policy.transport(variables, data.obs, w)

    samples = jax.vmap(sample)(jax.random.split(key, num_samples))
    centre = samples.mean(axis=0)
    ordered = jnp.sort(_rms(samples - data.chunk, data.mask), axis=0)
    found = {f"best_of_{k}": jnp.tensordot(weight, ordered, 1) for k, weight in weights.items()}
    spread = jnp.sqrt(jnp.square(_rms(samples - centre, data.mask)).mean(axis=0))
    found["covered"] = (ordered[0] <= COVERED).astype(jnp.float32)
    return found | {"mean_error": _rms(centre - data.chunk, data.mask), "spread": spread}


def _rms(difference: Array, mask: Array) -> Array:
    """Root mean square over the recorded entries of chunks: [..., B, H, A] and [B, H] to [..., B]."""
    squares = (jnp.square(difference).mean(axis=-1) * mask).sum(axis=-1)
    return jnp.sqrt(squares / jnp.maximum(mask.sum(axis=-1), 1.0))
