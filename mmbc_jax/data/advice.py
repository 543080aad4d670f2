"""What is wrong with demonstrations of a user's own, beyond what reading refuses: for `mmbc_jax.check_data`.

Errors would make a run quietly useless, remarks would not.
"""

from __future__ import annotations

import numpy as np

from mmbc_jax.data.episodes import Episodes

_CLOCK_SECONDS = (9e8, 4e9)  # since 1970: from 1998 to 2096; times 1e3, 1e6 and 1e9 it is counted more finely
_UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
_UNEVEN = 5.0  # of the most frequent mode over the rarest
_MANY = 1000  # steps of the only episode, from where on ends are likely to be missing


def clocks(episodes: Episodes) -> list[str]:
    """A sentence for each observed or commanded column that is a time since 1970."""
    found = []
    for name, values in (*episodes.entries.items(), ("action", episodes.action)):
        if values.ndim != 2:
            continue
        low, high = values.min(0), values.max(0)
        for unit, scale in _UNITS.items():
            least, most = (scale * bound for bound in _CLOCK_SECONDS)
            for column in np.flatnonzero((low >= least) & (high <= most)):
                found.append(
                    f"column {column} of {name} is {values[0, column]:.10g}, {unit} since 1970: leave it out, or "
                    "subtract the time at which each episode starts"
                )
    return found


def remarks(episodes: Episodes, chunk: int) -> list[str]:
    """What may be as it was meant: labels, lengths, repeated episodes.

    Args:
      episodes: checked.
      chunk: actions that a policy would predict at once.
    """
    found = [*_of_labels(episodes)]
    short = int((episodes.lengths < chunk).sum())
    if short:
        found.append(
            f"{short} of {len(episodes)} episodes are shorter than a chunk of {chunk} actions (the shortest has "
            f"{episodes.lengths.min()} steps), which is filled up with its last action; see chunk.predict"
        )
    if len(episodes) == 1 and episodes.lengths[0] >= _MANY:
        found.append(f"all {episodes.lengths[0]} steps are one episode; are the ends of the others marked?")
    begun = [values[episodes.starts].reshape(len(episodes), -1) for values in episodes.entries.values()]
    first = np.concatenate([*begun, episodes.action[episodes.starts]], axis=1)
    distinct = len(np.unique(first, axis=0))
    if len(episodes) > 1 and distinct == 1:
        found.append(
            "all episodes begin with the same observation and the same action: is one of them copied?"
        )
    return found


def _of_labels(episodes: Episodes) -> list[str]:
    labels = episodes.mode
    if labels is None or not (labels >= 0).any():
        return ["no mode labels: what asks for them (modes kept, entropy of the data) is left out"]
    counts = np.bincount(labels[labels >= 0], minlength=episodes.num_modes)
    found = []
    if absent := np.flatnonzero(counts == 0).tolist():
        found.append(f"no episode shows mode {', '.join(map(str, absent))} of {len(counts)}")
    present = counts[counts > 0]
    if present.max() > _UNEVEN * present.min():
        found.append(
            f"modes are unevenly shown: {counts.argmax()} in {counts.max()} episodes, "
            f"{int(np.where(counts > 0, counts, counts.max()).argmin())} in {present.min()}"
        )
    if len(present) > len(episodes) / 2 and len(episodes) > 2:
        found.append(
            f"{len(present)} modes in {len(episodes)} episodes: does a label stand for a way of doing it?"
        )
    return found


def figures(episodes: Episodes) -> str:
    """The data set in a line: episodes, steps, sizes, modes."""
    sizes = ", ".join(f"{name} {list(values.shape[1:])}" for name, values in episodes.entries.items())
    lengths = episodes.lengths
    labels = episodes.mode
    modes = ""
    if labels is not None and (labels >= 0).any():
        counts = np.bincount(labels[labels >= 0])
        shown = counts[counts > 0]
        modes = f", {len(shown)} modes in {shown.min()} to {shown.max()} episodes each"
    return (
        f"{len(episodes)} episodes of {lengths.min()} to {lengths.max()} steps, {lengths.sum()} in all, {sizes}, "
        f"action [{episodes.action.shape[1]}]{modes}"
    )
