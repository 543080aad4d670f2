"""What a run shows of itself: bars and lines on a terminal, or messages to the process that started it."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as TimeRemaining
from rich.text import Text


class Bars(Protocol):
    """Bars of stages, below each other; a context manager."""

    def __enter__(self) -> Bars: ...

    def __exit__(self, *_: object) -> None: ...

    def start(self, name: str, total: int, done: int) -> None:
        """Adds the bar of a stage, for `total` training steps of which `done` were taken before."""
        ...

    def advance(self, name: str, steps: int, note: str, seconds: float) -> None:
        """Counts training steps of a stage, which has trained for `seconds` here, and shows a note beside them."""
        ...

    def waiting(self, text: str) -> None:
        """Says what another process is waiting for."""
        ...

    def line(self, text: str) -> None:
        """Says something that stays, above the bars."""
        ...


class Screen(Protocol):
    """Where a run shows its progress."""

    def bars(self) -> Bars:
        """New bars."""
        ...

    def status(self, text: str) -> AbstractContextManager[Any]:
        """Says what is being waited for."""
        ...

    def line(self, text: str) -> None:
        """Says something that stays."""
        ...


class _Rate(ProgressColumn):
    """Training steps per second of this process, over the whole stage."""

    def render(self, task: Task) -> Text:
        steps = task.completed - task.fields["first"]
        seconds = task.fields["seconds"]  # of training: a bar may be drawn later than its stage began
        rate = f"{steps / seconds:,.1f} steps/s" if steps and seconds else ""
        return Text(rate, style="cyan")


class ConsoleBars:
    """Bars on a terminal; see `Bars`.

    Args:
      console: rich's.
    """

    def __init__(self, console: Console):
        self._tasks: dict[str, Any] = {}
        self._progress = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("left"),
            TimeRemaining(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )

    def __enter__(self) -> ConsoleBars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, name: str, total: int, done: int) -> None:
        """See `Bars`."""
        self._tasks[name] = self._progress.add_task(
            name, total=total, completed=done, note="", first=done, seconds=0.0
        )

    def advance(self, name: str, steps: int, note: str, seconds: float) -> None:
        """See `Bars`."""
        self._progress.update(self._tasks[name], advance=steps, note=note, seconds=seconds)

    def waiting(self, text: str) -> None:
        """Nothing: bars that stand still say as much."""

    def line(self, text: str) -> None:
        """See `Bars`."""
        _print(self._progress.console, text)


class ConsoleScreen:
    """A terminal.

    Args:
      console: rich's.
    """

    def __init__(self, console: Console):
        self.console = console

    def bars(self) -> Bars:
        """See `Screen`."""
        return ConsoleBars(self.console)

    def status(self, text: str) -> AbstractContextManager[Any]:
        """See `Screen`."""
        return self.console.status(text)

    def line(self, text: str) -> None:
        """See `Screen`."""
        _print(self.console, text)


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


class StreamScreen:
    """A screen that is its own bars and writes one line after another; there is nothing to open or close.

    Args:
      out: text stream; flushed after every line.
    """

    def __init__(self, out: IO[str]):
        self._out = out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def bars(self) -> Self:
        """See `Screen`."""
        return self

    def write(self, text: str) -> None:
        """Writes a line, at once."""
        self._out.write(f"{text}\n")
        self._out.flush()


class PipedScreen(StreamScreen):
    """Messages to another process, a line of JSON each: the screen, and its bars as well.

    - `{"bar": stage, "total": steps, "done": steps}` where a stage begins;
    - `{"advance": stage, "steps": steps, "note": text, "seconds": seconds}`;
    - `{"waiting": text}` where something is compiled or evaluated;
    - `{"line": text}`;
    - `{"error": text}` before the process ends because of a UserError.
    """

    def say(self, **message: Any) -> None:
        """Sends a message."""
        self.write(json.dumps(message))

    def start(self, name: str, total: int, done: int) -> None:
        """See `Bars`."""
        self.say(bar=name, total=total, done=done)

    def advance(self, name: str, steps: int, note: str, seconds: float) -> None:
        """See `Bars`."""
        self.say(advance=name, steps=steps, note=note, seconds=seconds)

    def waiting(self, text: str) -> None:
        """See `Bars`."""
        self.say(waiting=text)

    def status(self, text: str) -> AbstractContextManager[Any]:
        """See `Screen`; its end is not said."""
        self.waiting(text)
        return nullcontext()

    def line(self, text: str) -> None:
        """See `Screen`."""
        self.say(line=text)
