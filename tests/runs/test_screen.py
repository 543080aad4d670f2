"""Bars on a terminal, and the messages of a process that another one shows."""

from __future__ import annotations

import io
import json

from rich.console import Console

from mmbc_jax.runs.plain_screen import PlainScreen, screen_of
from mmbc_jax.runs.screen import ConsoleScreen, PipedScreen


def test_a_bar_shows_the_rate_of_training_whenever_it_is_drawn():
    out = io.StringIO()
    screen = ConsoleScreen(Console(file=out, width=120))
    with screen.bars() as bars:
        bars.start("finetune", 40, 20)
        bars.advance("finetune", 20, "success_rate 0.993", 8.0)
        bars.line("something that stays [not markup]")
    shown = out.getvalue()
    assert "40/40" in shown
    assert "2.5 steps/s" in shown  # 20 steps of this process in 8 s
    assert "success_rate 0.993" in shown
    assert "something that stays [not markup]" in shown


def test_a_piped_screen_says_each_thing_in_a_line():
    out = io.StringIO()
    screen = PipedScreen(out)
    with screen.bars() as bars:
        bars.start("plain", 10, 0)
        bars.advance("plain", 5, "note", 2.0)
    with screen.status("compiling"):
        screen.line("seen")
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert said == [
        {"bar": "plain", "total": 10, "done": 0},
        {"advance": "plain", "steps": 5, "note": "note", "seconds": 2.0},
        {"waiting": "compiling"},
        {"line": "seen"},
    ]


class Flushed(io.StringIO):
    """A stream that knows what a reader of a file would have seen."""

    seen = ""

    def flush(self):
        self.seen = self.getvalue()


def test_outside_a_terminal_every_epoch_is_a_line_at_once():
    out = Flushed()
    screen = screen_of(Console(file=out, width=20))
    assert isinstance(screen, PlainScreen)
    with screen.status("bc: compiling"):
        assert out.seen == "bc: compiling ...\n"
    with screen.bars() as bars:
        bars.start("bc", 1000, 400)
        assert out.seen.endswith("bc: 1000 training steps, of which 400 are done\n")
        bars.advance("bc", 200, "loss 0.3", 0.5)
        assert out.seen.endswith("\nbc 600/1000  400 steps/s  0:01 left  loss 0.3\n")
        bars.advance("bc", 400, "", 1.0)
        assert out.seen.endswith("\nbc 1000/1000  600 steps/s  0:00 left\n")
    screen.line("[not markup] " + 30 * "x")
    assert out.seen.endswith("\n[not markup] " + 30 * "x" + "\n")
    assert "\x1b" not in out.seen


def test_a_terminal_has_bars():
    assert isinstance(screen_of(Console(file=io.StringIO(), force_terminal=True)), ConsoleScreen)
