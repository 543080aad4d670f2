"""Which modes a policy still has: success, mode histogram, and what the command z tells about the mode.

Let S_zk be the number of successful episodes under command z that end in mode k, S_z, S_k and S its sums
over k, z and both, F_z the failed episodes of z and n all episodes. Only successful episodes carry a mode.

**Shares.** `p_k = S_k / S`. A mode is *kept* where p_k >= 1 %. `H = -sum p log p`; `exp_entropy = exp H`;
`mode_entropy = H / log K` (D3IL's behaviour entropy: successful rollouts only). Where nothing
succeeded the shares do not exist and these are None; the counts (modes kept, commandable) are 0.

**Success per mode** is in `diagnostics.attribution`: `success_per_mode`, `sr_m` and `mc_08` where it is known which
modes the failures attempted, and bounds on each where it is not.

**Command.** `mi_z_mode` is the plug-in I(z; mode) over successful episodes in nats, `mi_z_mode_corrected`
the same with the Miller-Madow correction, `nmi_z_mode = 2 I / (H_z + H_mode)`, 0 where either has no
entropy. `mi_estimate = E[log q(z|path)] + log Z`, q at the end of each path, is the variational lower bound on
I(z; path): it may be high
without any mode being kept apart, so it never stands alone. A mode is *commandable* where some z with at
least 5 successes has it as its dominant mode with purity S_zk / S_z >= 0.8.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmbc_jax.core.types import Rollouts
from mmbc_jax.diagnostics import attribution
from mmbc_jax.diagnostics.domains import SHARES, Sizes, seeds_interval, trials_name
from mmbc_jax.ops import intervals
from mmbc_jax.ops import mutual_information as information

KEPT_SHARE = 0.01

VECTOR_KEYS = frozenset((
    "success_per_z", "wilson95_per_z", "success_per_mode", "mode_share", "dominant_mode", "z_mode_table",
    "success_per_mode_bounds", "sr_m_bounds", "mc_08_bounds",
))  # fmt: skip
MODE_KEYS = (
    *attribution.KEYS, "mode_share", "modes_kept", "exp_entropy", "mode_entropy", "largest_share", "mi_z_mode",
    "mi_z_mode_corrected", "nmi_z_mode", "commandable", "dominant_mode", "z_mode_table",
)  # fmt: skip


def count_table(rollouts: Rollouts, num_modes: int, num_z: int) -> np.ndarray:
    """Episodes by command and outcome.

    Args:
      rollouts: B episodes of one seed.
      num_modes: K.
      num_z: Z >= 1.

    Returns:
      [Z, K + 1] int64: column k < K counts successful episodes in mode k, the last one failed episodes.
      A successful episode without a label is in no column.

    Raises:
      ValueError: a z outside [0, Z) or a mode outside [-1, K).
    """
    success, mode, z = (np.asarray(x) for x in (rollouts.success, rollouts.mode, rollouts.z))
    if z.size and not (z.min() >= 0 and z.max() < num_z):
        raise ValueError(f"z in [{z.min()}, {z.max()}], but num_z = {num_z}")
    if mode.size and not (mode.min() >= -1 and mode.max() < num_modes):
        raise ValueError(f"mode labels in [{mode.min()}, {mode.max()}], but num_modes = {num_modes}")
    success = success.astype(bool)
    table = np.zeros((num_z, num_modes + 1), np.int64)
    known = success & (mode >= 0)
    np.add.at(table, (z[known], mode[known]), 1)
    np.add.at(table, (z[~success], np.full((~success).sum(), num_modes)), 1)
    return table


def attempt_table(rollouts: Rollouts, num_modes: int, num_z: int) -> np.ndarray:
    """[Z, K] int64 failed episodes by command and the mode that the environment says they came nearest to."""
    table = np.zeros((num_z, num_modes), np.int64)
    if attribution.LABEL in rollouts.outcome:
        nearest = np.asarray(rollouts.outcome[attribution.LABEL]).astype(np.int64)
        known = ~np.asarray(rollouts.success).astype(bool) & (nearest >= 0)
        np.add.at(table, (np.asarray(rollouts.z)[known], nearest[known]), 1)
    return table


def mode_metrics(rollouts: Rollouts, num_modes: int, num_z: int) -> dict[str, Any]:
    """All mode metrics of one seed's episodes; definitions in the module's docstring.

    Args:
      rollouts: B >= 1 episodes of one seed; arrays of any kind numpy understands.
      num_modes: K; 0 where the environment labels none, then every entry of `MODE_KEYS` is None.
      num_z: Z, the number of commands; 1 for a policy without z.

    Returns:
      Plain Python values, ready for JSON: `n`, `success_rate`, `wilson95`, `success_per_z` [Z] and
      `wilson95_per_z` [Z][2] (None and (0, 1) for a z never drawn), `mean_steps`, `mean_reward`,
      `mi_estimate` (None without q), `bootstrap95` (interval per mean over episodes), `MODE_KEYS`.

    Raises:
      ValueError: no episodes, or labels out of range.
    """
    success = np.asarray(rollouts.success).astype(bool)
    if success.size == 0:
        raise ValueError("no episodes")
    z = np.asarray(rollouts.z)
    tried = np.bincount(z, minlength=num_z)
    won = np.bincount(z[success], minlength=num_z)
    result: dict[str, Any] = {
        "n": int(success.size),
        "success_rate": float(success.mean()),
        "wilson95": list(intervals.wilson(int(success.sum()), success.size)),
        "success_per_z": [float(w / t) if t else None for w, t in zip(won, tried, strict=True)],
        "wilson95_per_z": [list(intervals.wilson(int(w), int(t))) for w, t in zip(won, tried, strict=True)],
    }
    result |= _episode_means(rollouts, num_z)
    if num_modes == 0:
        return result | dict.fromkeys(MODE_KEYS)
    table = count_table(rollouts, num_modes, num_z)
    counts = table[:, :-1].sum(0)
    kept = counts / max(int(counts.sum()), 1) >= KEPT_SHARE
    by_mode = attribution.success_by_mode(table, attempt_table(rollouts, num_modes, num_z), kept)
    return result | by_mode | _share_metrics(table, kept) | _command_metrics(table)


def _episode_means(rollouts: Rollouts, num_z: int) -> dict[str, Any]:
    """Means over episodes with their bootstrap intervals; non-finite values are left out."""
    columns = {
        "mean_steps": np.asarray(rollouts.steps, np.float64),
        "mean_reward": np.asarray(rollouts.reward, np.float64),
        "mi_estimate": np.asarray(rollouts.log_q, np.float64) + math.log(num_z),
    }
    result: dict[str, Any] = {"bootstrap95": {}}
    for name, column in columns.items():
        finite = column[np.isfinite(column)]
        result[name] = float(finite.mean()) if finite.size else None
        result["bootstrap95"][name] = list(intervals.bootstrap(finite)) if finite.size else None
    return result


def _share_metrics(table: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
    counts = table[:, :-1].sum(0)
    total, num_modes = int(counts.sum()), counts.size
    result: dict[str, Any] = {"modes_kept": int(kept.sum()), "z_mode_table": table.tolist()}
    if total == 0:
        return result | dict.fromkeys(("mode_share", "exp_entropy", "mode_entropy", "largest_share"))
    share = counts / total
    return result | {
        "mode_share": share.tolist(),
        "exp_entropy": information.perplexity(counts),
        "mode_entropy": information.entropy(counts, base=num_modes) if num_modes > 1 else 0.0,
        "largest_share": float(share.max()),
    }


def dominant_modes(table: np.ndarray) -> np.ndarray:
    """[Z] the most frequent mode among z's successes (the lowest of equals); -1 for a z without any."""
    wins = table[:, :-1]
    return np.where(wins.sum(1) > 0, wins.argmax(1), -1)


def staircase(table: np.ndarray) -> np.ndarray:
    """[n] the z that had episodes, in the order of their most frequent modes, those without a success last.

    Commands that were merged away are given to nobody, and have none.
    """
    dominant = dominant_modes(table)
    last = np.where(dominant < 0, table.shape[1] - 1, dominant)
    order = np.lexsort((np.arange(len(table)), last))
    return order[table[order].sum(1) > 0]


def _command_metrics(table: np.ndarray) -> dict[str, Any]:
    wins = table[:, :-1]
    per_z, owned = wins.sum(1), attribution.commanded(wins)
    commandable = np.unique(owned[owned >= 0]).size
    result: dict[str, Any] = {
        "dominant_mode": dominant_modes(table).tolist(),
        "commandable": int(commandable),
    }
    if wins.sum() == 0:
        return result | dict.fromkeys(("mi_z_mode", "mi_z_mode_corrected", "nmi_z_mode"))
    informative = (per_z > 0).sum() > 1 and (wins.sum(0) > 0).sum() > 1
    return result | {
        "mi_z_mode": information.mutual_information(wins),
        "mi_z_mode_corrected": information.mutual_information_corrected(wins),
        "nmi_z_mode": information.nmi(*information.labels_of(wins)) if informative else 0.0,
    }


def aggregate(per_seed: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Joins the metrics of several seeds without losing any of them.

    Args:
      per_seed: one dictionary per seed, as from `mode_metrics`, possibly with further scalars or lists.

    Returns:
      For every scalar `{"mean", "per_seed", "ci95", "n"}`: mean over the seeds that have a value (None
      if none has), the values in seed order, a 95 % interval, and n the episodes behind each of them.
      The interval is that over seeds where at least two have a value (see `domains.seeds_interval`); with one
      seed it is Wilson's for shares of episodes, the bootstrap over episodes for means over episodes, else
      None. `success_rate` also has `wilson95`, the interval of each seed. Lists (tables, shares, bounds) have
      `{"per_seed"}` only.

    Raises:
      ValueError: no seeds, or seeds with different numbers of episodes.
    """
    if not per_seed:
        raise ValueError("no seeds")
    episodes = {seed.get("n") for seed in per_seed}
    if len(episodes) > 1:
        raise ValueError(f"seeds have different numbers of episodes: {sorted(map(str, episodes))}")
    inner = ("n", "wilson95", "bootstrap95")  # part of other entries
    names = dict.fromkeys(name for seed in per_seed for name in seed if name not in inner)
    result: dict[str, dict[str, Any]] = {}
    for name in names:
        values = [seed.get(name) for seed in per_seed]
        if name in VECTOR_KEYS or any(isinstance(value, (list, tuple, dict, np.ndarray)) for value in values):
            result[name] = {"per_seed": values}
            continue
        known = [float(value) for value in values if value is not None and math.isfinite(value)]
        result[name] = {
            "mean": float(np.mean(known)) if known else None,
            "per_seed": values,
            "ci95": _interval(name, known, per_seed),
            "n": per_seed[0].get("n"),
        }
    if "success_rate" in result:
        result["success_rate"]["wilson95"] = [seed.get("wilson95") for seed in per_seed]
    return result


def _interval(name: str, known: list[float], per_seed: Sequence[Mapping[str, Any]]) -> list[float] | None:
    if known and len(per_seed) == 1 and (name in SHARES or len(known) < 2):
        inside = (per_seed[0].get("bootstrap95") or {}).get(name)
        n = per_seed[0].get("n")
        return list(intervals.wilson(min(known[0] * n, n), n)) if name in SHARES and n else inside
    if len(known) < 2:
        return None
    n = per_seed[0].get(trials_name(name))
    return list(seeds_interval(name, known, None if n is None else int(n), Sizes.of(per_seed)))


def stability(modes_by_z: Sequence[Sequence[int]]) -> dict[str, float | int] | None:
    """Agreement between seeds on which commands share a mode and on which modes exist.

    Each seed's dominant modes partition the z's into groups with a common mode. `nmi` and `ari` compare these
    partitions between every pair of seeds over the z's that succeed in both, and are averaged over pairs.
    They do not ask that z means the same mode in both seeds: two one-to-one assignments agree perfectly.
    `overlap` does compare modes: the mean Jaccard index of the sets of dominant modes of two seeds.

    Args:
      modes_by_z: [N][Z] dominant mode of each z per seed, -1 for none.

    Returns:
      `{"nmi", "ari", "overlap", "pairs"}`, or None where no pair of seeds has 2 z's that succeed in both.
    """
    scores = []
    for first, second in itertools.combinations(modes_by_z, 2):
        a, b = np.asarray(first), np.asarray(second)
        both = (a >= 0) & (b >= 0)
        if both.sum() < 2:
            continue
        sets = set(a[a >= 0].tolist()), set(b[b >= 0].tolist())
        overlap = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        scores.append((information.nmi(a[both], b[both]), information.ari(a[both], b[both]), overlap))
    if not scores:
        return None
    nmi, ari, overlap = np.mean(scores, axis=0)
    return {"nmi": float(nmi), "ari": float(ari), "overlap": float(overlap), "pairs": len(scores)}
