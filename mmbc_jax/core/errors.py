"""Errors that a user can act on; the command lines print them in one line and exit 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

USER_ERROR = 2
"""Exit code of a command line that ends with one of these errors."""
DIVERGED = 3
"""Exit code of a training that finished, but for runs of it that diverged."""
INTERRUPTED = 143
"""Exit code of one that a signal ended, after it had saved: 128 + SIGTERM; Ctrl-C makes it 128 + SIGINT = 130."""
_LONGEST = 160  # characters of a value in a message


def shown(value: object) -> str:
    """A value in a message: as Python writes it, cut where it is long; its type where it cannot be written."""
    try:
        text = repr(value)
    except Exception:  # a number of more digits than Python converts, an object whose own code fails
        text = f"<{type(value).__name__}>"
    return cut(text)


def cut(text: str) -> str:
    """A text for a message: its beginning where it is long."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def bounds(low: float | None, high: float | None, open_low: bool = False) -> str:
    """What a number must be: "must be above 0 and at most 1"."""
    parts = [] if low is None else [f"{'above' if open_low else 'at least'} {low:g}"]
    parts += [] if high is None else [f"at most {high:.15g}"]
    return f"must be {' and '.join(parts) or 'a number'}"


class UserError(Exception):
    """Base of all errors that name something the user can mend."""


class ConfigError(UserError):
    """A configuration field holds something that cannot work."""

    def __init__(self, field: str, value: object, allowed: str):
        joint = " " if allowed.startswith(("must ", "each must ")) else " is not allowed: "
        super().__init__(f"config.{field} = {shown(value)}{joint}{allowed}")
        self.field, self.value, self.allowed = field, value, allowed


class DataError(UserError):
    """A data file is missing, damaged, or does not fit the task."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to something else."""


class WorkdirError(UserError):
    """The work directory cannot be used as asked; nothing in it was changed."""


class DivergenceError(UserError):
    """Training stayed non-finite."""


def one_of(name: str, known: Iterable[str], more: str = "") -> str:
    """What a choice must be: "must be one of a, b; did you mean 'a'?", which asks only where something is close."""
    known = list(known)
    hint, _, _ = nearest(name, known).rpartition(" (known: ")
    return f"must be one of {', '.join(known)}{more}{'; ' * bool(hint)}{hint}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that lists what is known, the names closest to `name` first.

    Args:
      name: what was asked for.
      known: every allowed name.

    Returns:
      "did you mean 'a', 'b'? (known: a, b, c)", or only the list where nothing is close.
    """
    known = sorted(set(known))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(map(repr, close))}? " if close else ""
    return f"{hint}(known: {', '.join(known)})"
