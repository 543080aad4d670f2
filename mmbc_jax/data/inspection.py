"""What looks wrong in demonstrations that can be read: said before a run trains on them, since nothing else would."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import numpy as np

from mmbc_jax.core.compiling import jit
from mmbc_jax.core.protocols import Env
from mmbc_jax.core.types import Key
from mmbc_jax.data._checks import place
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.envs import wrappers
from mmbc_jax.ops.action_scale import NEARLY_CONSTANT, ROUNDING

FAR = 100.0  # widths of the bulk, its 1 % to 99 % quantile, beyond which a value is reported
UNITS = 50.0  # how much larger or smaller than an environment's observed values point to other units
_NEAR = 0.01  # of the magnitude: numbers that differ by less are one
_BULK = (0.01, 0.99)
_ROWS = 20_000  # the quantiles are of, evenly spread
_WALKS, _STEPS = 32, 100  # episodes of a walk in the environment, and the longest of them


def noticed(episodes: Episodes) -> list[str]:
    """What the data themselves show, in sentences.

    - A value further outside the bulk of its column than 100 times the bulk's width: minimum and maximum scale it.
    - Observed columns that vary by less than a hundredth of their magnitude, and actions that do not vary.
    - Episodes without a mode label among labelled ones.
    """
    found = []
    for name, values in (*episodes.entries.items(), ("action", episodes.action)):
        if values.ndim == 2:
            found += [text for text in (_far(episodes, name, values), _still(name, values)) if text]
    labels = episodes.mode
    if labels is not None and (labels < 0).any() and (labels >= 0).any():
        found.append(
            f"{(labels < 0).sum()} of {len(labels)} episodes have no mode label (-1): figures of modes that ask for "
            "labels leave them out"
        )
    return found


def outliers(episodes: Episodes) -> list[str]:
    """Those of `noticed` that shrink everything else: a value far outside the bulk of its column."""
    columns = (*episodes.entries.items(), ("action", episodes.action))
    found = [_far(episodes, name, values) for name, values in columns if values.ndim == 2]
    return [text for text in found if text]


def foreign(env: Env, episodes: Episodes, key: Key) -> list[str]:
    """Where observations seem to be in other units than an environment's, in sentences.

    The environment is reset a few times, and walks from there with an action held throughout each episode. Of each
    entry the worst column is reported whose range (1 % to 99 % quantile) is more than 50 times as large as what is
    seen there, less than a fiftieth of where episodes start, or further from what is seen than both are wide.

    Args:
      env: a bare environment.
      episodes: that fit it.
      key: for resets and actions.
    """
    starts, walked = jax.device_get(jit(partial(_walk, env), env.spec)(key))
    named = episodes.entries if isinstance(episodes.obs, dict) else {env.spec.obs.entries[0][0]: episodes.obs}
    found = []
    for name, entry in env.spec.obs.entries:
        if entry.kind != "vector":
            continue
        low, high = _bulk(named[name])
        first, met = (
            np.asarray(env.spec.obs.named(x)[name]).reshape(-1, entry.shape[0]) for x in (starts, walked)
        )
        seen = np.concatenate([first, np.where(np.isfinite(met), met, first[:1])])
        least, largest = seen.min(0), seen.max(0)
        size, own = np.maximum(np.abs(low), np.abs(high)), np.abs(seen).max(0)
        gap = np.maximum(low - largest, least - high) - _NEAR * np.maximum(size, own)
        wide = high - low + largest - least
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.maximum(size / own, np.where(size > 0, np.abs(first).max(0) / size, 0.0))
        score = np.maximum(ratio / UNITS, np.where(gap > wide, 2.0, 0.0))
        wrong = np.flatnonzero(score > 1.0)
        if wrong.size:
            i = int(wrong[np.argmax(score[wrong])])
            others = f", and {wrong.size - 1} more columns" if wrong.size > 1 else ""
            found.append(
                f"column {i} of {name} lies in {_range(low[i], high[i])} in the data, where environment "
                f"{env.spec.name!r} shows {_range(least[i], largest[i])}{others}; are the units the environment's?"
            )
    return found


def _far(episodes: Episodes, name: str, values: np.ndarray) -> str:
    low, high = _bulk(values)
    width = high - low
    edge = np.where(width > ROUNDING * np.maximum(np.abs(low), np.abs(high)), FAR * width, np.inf)
    outside = (values < low - edge) | (values > high + edge)
    if not outside.any():
        return ""
    columns = np.flatnonzero(outside.any(0))
    share = np.maximum(values.max(0) - high, low - values.min(0))[columns] / width[columns]
    column = int(columns[np.argmax(share)])
    row = int(np.argmax(np.where(outside[:, column], np.abs(values[:, column] - low[column]), -1.0)))
    rest = values[~outside[:, column], column]
    advice = (
        "data.scale=quantile scales without it" if name == "action" else "leave the episode out, or mend it"
    )
    return (
        f"column {column} of {name} is {values[row, column]:g} in {place(episodes, row)}, far from all others, which "
        f"lie in {_range(rest.min(), rest.max())} (such values: {outside.sum()}, in {len(columns)} of "
        f"{values.shape[1]} columns); "
        f"{advice}"
    )


def _still(name: str, values: np.ndarray) -> str:
    low, high = values.min(0), values.max(0)
    magnitude = np.maximum(np.abs(low), np.abs(high))
    constant = high / 2 - low / 2 <= ROUNDING * magnitude
    if name == "action":
        columns = np.flatnonzero(constant)
        return f"{_columns(columns)} of action never changes: a clone has nothing to choose there" * bool(
            columns.size
        )
    columns = np.flatnonzero(~constant & (high - low < NEARLY_CONSTANT * magnitude))
    return (
        f"{_columns(columns)} of {name}: the range is less than a hundredth of the magnitude, and is taken for so "
        "much; where such changes matter, subtract the offset"
    ) * bool(columns.size)


def _bulk(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([D], [D]) the 1 % and 99 % quantile of rows [n, D], of at most `_ROWS` of them."""
    rows = values[np.linspace(0, len(values) - 1, min(len(values), _ROWS)).round().astype(np.int64)]
    low, high = np.quantile(rows.astype(np.float64), _BULK, axis=0)
    return low, high


def _range(low: Any, high: Any) -> str:
    return f"[{low:.4g}, {high:.4g}]"


def _columns(columns: Iterable[int]) -> str:
    listed = [str(column) for column in columns]
    return ("columns " if len(listed) > 1 else "column ") + ", ".join(listed)


def _walk(env: Any, key: Key) -> tuple[Any, Any]:
    """(observations at resets [B, ...], and on walks [T, B, ...]), where an episode that has ended stands still."""
    batched = wrappers.make(env, autoreset=None)
    key_reset, key_action = jax.random.split(key)
    start = batched.reset(jax.random.split(key_reset, _WALKS))
    action = jax.random.uniform(key_action, (_WALKS, 1, env.spec.action_dim), minval=-1.0, maxval=1.0)

    def step(state: Any, _: None) -> tuple[Any, Any]:
        after = batched.step(state, action)
        return after, after.obs

    length = min(env.spec.episode_length, _STEPS)
    return start.obs, jax.lax.scan(step, start, None, length=length)[1]
