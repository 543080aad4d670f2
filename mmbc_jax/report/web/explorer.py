"""What the episodes did: their paths, the map from z to mode and films, tied together by one selector."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmbc_jax.core.picturing import plots
from mmbc_jax.core.types import Rollouts
from mmbc_jax.diagnostics.modes import KEPT_SHARE, staircase
from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.report import style
from mmbc_jax.report.commands import given
from mmbc_jax.report.finished import Finished
from mmbc_jax.report.web.markup import escaped, folded
from mmbc_jax.report.web.paths_view import Plane, colours

Shown = tuple[str, StageResult, dict[str, Any], Rollouts | None]
MOST_PANELS, MOST_CHIPS = 12, 24
MOST_OPEN = 16  # rows of a map beside which others are open, too
HINT = (
    "Choose a mode or a command z to light its episodes; a path, a row or a column of a map does the same. "
    "Failed episodes are grey and dashed, with a cross where they ended."
)


def explorer(run: Finished, films: str = "", name: str = "explorer") -> str:
    """The part of the page about episodes: those of the first seed; nothing where there are none.

    Args:
      run: whose episodes they are.
      films: HTML of videos, put below the paths.
      name: of this one in the page.
    """
    shown = [one for one in run.evaluated() if one[3] is not None][:MOST_PANELS]
    env = run.setup.env
    if not shown or env is None:
        return ""
    spec = run.setup.env_spec
    count = max(result.num_modes for _, result, _, _ in shown)
    maps = _maps(shown, spec.mode_labels)
    panels = _panels(run, shown) if plots(env, spec) else ""
    if not (panels or maps or films):
        return ""
    labels = spec.mode_labels
    words = _words(shown, labels)
    content = json.dumps(words, ensure_ascii=True).replace("<", "\\u003c")
    return (
        f'<div class="explorer" id="{name}">{colours(name, spec.num_modes, count)}'
        f'<p class="hint">{escaped(HINT)}</p>'
        f'<div class="bar">{_chips(shown, labels, count)}<p class="said">{escaped(words[""])}</p></div>'
        f'{panels}{films}{maps}<script type="application/json" class="words">{content}</script></div>'
    )


def _maps(shown: Sequence[Shown], labels: Sequence[str]) -> str:
    """The map of each stage that has commands; of long ones the last is open."""
    told = [
        (label, zmap(metrics, labels), result.num_modes)
        for label, result, metrics, _ in shown
        if result.num_modes > 1
    ]
    told = [one for one in told if one[1]]
    return "".join(
        folded(f"z to mode, {label}", content, opened=count <= MOST_OPEN or label == told[-1][0])
        for label, content, count in told
    )


def _panels(run: Finished, shown: Sequence[Shown]) -> str:
    having = [one for one in shown if one[3] is not None and len(one[3].path)]
    if not having:
        return ""
    scene = Plane(run.setup.env, [rollouts for *_, rollouts in having if rollouts is not None])
    figures = []
    for label, result, metrics, rollouts in having:
        assert rollouts is not None
        svg = scene.panel(rollouts, result.num_modes, f"paths of {label}")
        figures.append(
            f"<figure>{svg}<figcaption>{escaped(_caption(label, metrics, result, rollouts))}</figcaption></figure>"
        )
    return f'<h3>Paths</h3><div class="tiles large">{"".join(figures)}</div>'


def _caption(label: str, metrics: Mapping[str, Any], result: StageResult, rollouts: Rollouts) -> str:
    drawn = len(rollouts.path)
    failed = int((~np.asarray(rollouts.success)[:drawn].astype(bool)).sum())
    success = metrics["success_rate"]
    parts = [label, f"success {style.interval(success)}"]
    kept = (metrics.get("modes_kept") or {}).get("mean")
    if kept is not None:
        parts.append(f"{style.number(kept, 1)} modes kept")
    commanded = len(given(metrics, result.num_modes))
    parts.append("one command" if result.num_modes == 1 else f"{commanded} commands z")
    parts.append(f"{drawn} episodes drawn, {failed} of them failed")
    return "; ".join(parts)


def _chips(shown: Sequence[Shown], labels: Sequence[str], count: int) -> str:
    """The buttons: colour by mode or by z, then a button a mode that occurs, and one a z."""
    seen = sorted(
        {int(m) for *_, r in shown if r is not None for m in np.unique(np.asarray(r.mode)) if m >= 0}
    )
    lines = []
    if count > 1 and seen:
        by = "".join(
            f'<button class="chip" data-by="{name}" aria-pressed="{pressed}">{text}</button>'
            for name, text, pressed in (("mode", "mode", "true"), ("z", "command z", "false"))
        )
        lines.append(f'<div class="chips"><b>colour by</b>{by}</div>')
    if seen:
        buttons = "".join(_chip(f"m{i}", labels[i], "var(--m)") for i in seen)
        lines.append(f'<div class="chips modes"><b>mode</b>{buttons}</div>')
    if count > 1:
        lines.append(f'<div class="chips commands"><b>command</b>{_commands(shown)}</div>')
    return "".join(lines)


def _commands(shown: Sequence[Shown]) -> str:
    """A button a command of the last stage that has several, or a list of many; those of earlier stages behind."""
    each = [given(metrics, result.num_modes) for _, result, metrics, _ in shown if result.num_modes > 1]
    last, before = each[-1], {z for one in each for z in one}
    merged = sorted(before.difference(last))
    if len(last) <= MOST_CHIPS:
        there = "".join(_chip(f"z{i}", f"z {i}", "var(--z)") for i in last)
    else:
        there = _list(last, "command z", "all")
    return there + (_list(merged, "command z of an earlier stage", "merged away") if merged else "")


def _list(commands: Sequence[int], named: str, none: str) -> str:
    options = "".join(f'<option value="z{i}">z {i}</option>' for i in commands)
    return f'<select class="chooser" aria-label="{named}"><option value="">{none}</option>{options}</select>'


def _chip(name: str, text: str, colour: str) -> str:
    return (
        f'<button class="chip {name}" data-lit="{name}" aria-pressed="false">'
        f'<i style="background:{colour}"></i>{escaped(text)}</button>'
    )


def _words(shown: Sequence[Shown], labels: Sequence[str]) -> dict[str, str]:
    """What is said when something is lit, and under "" when nothing is."""
    said: dict[str, list[str]] = {}
    for label, result, _, rollouts in shown:
        assert rollouts is not None
        success = np.asarray(rollouts.success).astype(bool)
        mode, z = np.asarray(rollouts.mode), np.asarray(rollouts.z)
        won = success & (mode >= 0)
        for i, name in enumerate(labels):
            share = float((mode[won] == i).mean()) if won.any() else 0.0
            kept = "" if share >= KEPT_SHARE else ", not kept"
            said.setdefault(f"m{i}", [f"mode {name}"]).append(
                f"{label} {100 * share:.0f} % of successes{kept}"
            )
        for i in range(result.num_modes if result.num_modes > 1 else 0):
            own = z == i
            if not own.any():
                continue
            line = f"{label} succeeds in {100 * success[own].mean():.0f} % of {own.sum()} episodes"
            if (own & won).any():
                counts = np.bincount(mode[own & won], minlength=len(labels))
                line += (
                    f", most often by {labels[int(counts.argmax())]} ({100 * counts.max() / own.sum():.0f} %)"
                )
            said.setdefault(f"z{i}", [f"z {i}"]).append(line)
    found = {name: f"{head}: {'; '.join(rest)}." for name, (head, *rest) in said.items()}
    return {"": "Everything is shown.", **found}


def zmap(metrics: Mapping[str, Any], labels: Sequence[str]) -> str:
    """What each z leads to: a row a z, a column a mode that any reaches, the share of z's episodes in each cell."""
    tables = (metrics.get("z_mode_table") or {}).get("per_seed") or [None]
    table = next((one for one in tables if one is not None), None)
    if table is None:
        return ""
    counts = np.asarray(table, np.int64)
    modes = counts.shape[1] - 1
    order = staircase(counts)
    reached = counts[:, :-1].sum(0) > 0
    keep = [int(i) for i in (np.flatnonzero(reached) if modes > 8 and reached.any() else range(modes))]
    total = max(int(counts[:, :-1].sum()), 1)
    tall = " tall" if len(keep) > 6 and max(len(labels[i]) for i in keep) > 2 else ""
    heads = "".join(
        f'<th scope="col"><button class="m{i}{tall}{"" if counts[:, i].sum() / total >= KEPT_SHARE else " away"}" '
        f'data-lit="m{i}" aria-pressed="false">{escaped(labels[i])}</button></th>'
        for i in keep
    )
    lines = []
    for z in order:
        share = counts[z] / max(int(counts[z].sum()), 1)
        cells = "".join(_cell(share[i], (8, 81, 156)) for i in keep) + _cell(share[-1], (178, 24, 43))
        head = f'<button data-lit="z{z}" aria-pressed="false">z {z}</button>'
        lines.append(f'<tr data-z="z{z}"><th scope="row">{head}</th>{cells}</tr>')
    gone = modes - len(keep)
    note = "Percent of the episodes of each z; rows in the order of the mode that z leads to most often."
    note += " Grey names: below 1 % of the successes, not kept."
    note += f" {gone} of {modes} modes were never reached and have no column." if gone else ""
    away = len(counts) - len(order)
    note += f" {away} of {len(counts)} z were merged away or not given, and have no row." if away else ""
    return (
        f'<div class="wide"><table class="map"><thead><tr><th></th>{heads}'
        f'<th scope="col">failed</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
        f'<p class="note">{escaped(note)}</p>'
    )


def _cell(share: float, ink: tuple[int, int, int]) -> str:
    mixed = ",".join(f"{round(255 - share * (255 - part))}" for part in ink)
    dark = "#fff" if share > 0.55 else "#222"
    text = f"{100 * share:.0f}" if share >= 0.005 else ""
    return f'<td style="background:rgb({mixed});color:{dark}">{text}</td>'
