r"""Commands that are changed after a failure: how often a task is done within n attempts.

An attempt is an episode from a new start. Before each the command is

  argmax_z score(z)  over the z that have not failed in this sequence of attempts,

over all of them once every z has failed; those that were merged into others are no commands. Scores are numbers drawn
at random (a random order), or the critic's values at the new start. Another rule tries every z in T episodes first,
and keeps the one that succeeded most often, the lowest of equals. A policy of one z can only be tried again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Play = Callable[[str, np.ndarray], np.ndarray]
"""(label of the attempt, z [R, B]) to the successes [R, B] of B sequences in each of R runs."""
Score = Callable[[str], np.ndarray]
"""Label of the attempt to scores [R, B, Z] of the commands."""


def in_turn(play: Play, score: Score, attempts: int, there: np.ndarray) -> np.ndarray:
    """Sequences of attempts, each under the best-scored command that has not failed yet.

    Args:
      play: plays one attempt of every sequence; those that are done already are played in vain.
      score: of the commands, at the starts of the same attempt.
      attempts: n >= 1.
      there: [R, Z] whether there is such a command.

    Returns:
      [n, R] how many sequences have succeeded by the attempt.
    """
    gone = ~np.asarray(there, bool)[:, None, :]
    done, failed, counts = None, None, []
    for attempt in range(attempts):
        label = f"attempt{attempt}"
        scores = np.asarray(score(label), np.float64)
        if done is None or failed is None:
            done, failed = np.zeros(scores.shape[:2], bool), np.broadcast_to(gone, scores.shape).copy()
        failed = np.where(failed.all(-1, keepdims=True), gone, failed)
        z = np.where(failed, -np.inf, scores).argmax(-1)
        won = np.asarray(play(label, z), bool)
        done |= won
        np.put_along_axis(failed, z[..., None], ~won[..., None], axis=-1)
        counts.append(done.sum(1))
    return np.stack(counts)


def random_scores(seed: int, runs: int, episodes: int, num_modes: int) -> Score:
    """A random order of the commands for each sequence, the same at all of its attempts."""
    drawn = np.random.default_rng(seed).random((runs, episodes, num_modes))
    return lambda label: drawn


def by_trial(play: Play, there: np.ndarray, episodes: int, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Tries each command.

    Args:
      play: as above.
      there: [R, Z] whether there is such a command; at least one in every run.
      episodes: B, of one call of `play`.
      trials: T, episodes of each z.

    Returns:
      (successes [R, Z] of T episodes, the command [R] with the most of them).
    """
    commands = [np.flatnonzero(of) for of in np.asarray(there, bool)]
    wanted = np.array([len(of) * trials for of in commands])
    wins = np.zeros(np.shape(there), np.int64)
    for first in range(0, int(wanted.max()), episodes):
        number = np.arange(first, first + episodes)
        z = np.stack([of[number % len(of)] for of in commands])
        won = np.asarray(play(f"trial{first}", z), bool) & (number < wanted[:, None])
        for run in range(len(z)):
            np.add.at(wins[run], z[run], won[run])
    return wins, np.where(there, wins, -1).argmax(1)


def kept(play: Play, z: np.ndarray, episodes: int, attempts: int) -> np.ndarray:
    """[n, R] as of `in_turn`, every attempt under the run's own command z [R]."""
    done = np.zeros((len(z), episodes), bool)
    counts = []
    for attempt in range(attempts):
        done |= np.asarray(play(f"attempt{attempt}", np.repeat(z[:, None], episodes, axis=1)), bool)
        counts.append(done.sum(1))
    return np.stack(counts)
