"""Bars on a terminal, and the messages of a process that another one shows."""

from __future__ import annotations

import io
import json

from rich.console import Console

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
    with screen.status("unseen"):
        screen.line("seen")
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert said == [
        {"bar": "plain", "total": 10, "done": 0},
        {"advance": "plain", "steps": 5, "note": "note", "seconds": 2.0},
        {"line": "seen"},
    ]
