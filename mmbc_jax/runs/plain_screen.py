"""A run outside a terminal: one plain line per epoch, and a line for whatever is waited for, written at once.

A log file can be followed (`tail -f`), and nothing in it is drawn over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any

from rich.console import Console

from mmbc_jax.runs.screen import ConsoleScreen, Screen, StreamScreen

_WORTH_SAYING = 0.5  # seconds that something has to take for its end to be a line of its own


class PlainScreen(StreamScreen):
    """Lines of text."""

    def __init__(self, out: IO[str]):
        super().__init__(out)
        self._stages: dict[str, tuple[int, int, int]] = {}  # (steps in all, taken, taken before this process)

    def start(self, name: str, total: int, done: int) -> None:
        """See `Bars`."""
        self._stages[name] = (total, done, done)
        self.line(f"{name}: {total} training steps{f', of which {done} are done' if done else ''}")

    def advance(self, name: str, steps: int, note: str, seconds: float) -> None:
        """See `Bars`: the line of an epoch."""
        total, done, first = self._stages[name]
        done += steps
        self._stages[name] = (total, done, first)
        parts = [f"{name} {done}/{total}"]
        if seconds and done > first:
            rate = (done - first) / seconds
            parts += [f"{rate:,.4g} steps/s", f"{_clock((total - done) / rate)} left"]
        self.line("  ".join(filter(None, [*parts, note])))

    def waiting(self, text: str) -> None:
        """See `Bars`."""
        self.line(f"{text} ...")

    def status(self, text: str) -> AbstractContextManager[Any]:
        """See `Screen`: a line when it begins, and one with the seconds when it has ended."""
        return self._waited_for(text)

    @contextmanager
    def _waited_for(self, text: str) -> Iterator[None]:
        start = time.perf_counter()
        self.waiting(text)
        yield
        seconds = time.perf_counter() - start
        if seconds >= _WORTH_SAYING:
            self.line(f"{text}: done in {seconds:.1f} s")

    def line(self, text: str) -> None:
        """See `Screen`."""
        self.write(text)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def screen_of(console: Console) -> Screen:
    """Bars on a terminal, plain lines anywhere else."""
    return ConsoleScreen(console) if console.is_terminal else PlainScreen(console.file)
