"""Learning curves of a run as charts of the page, the held-out loss beside the training loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from mmbc_jax.report import quantities, style
from mmbc_jax.report.figures.learning_curves import (
    HELD_OUT,
    LOSS,
    MOST_KEYS,
    metric_names,
    over_seeds,
    series,
)
from mmbc_jax.report.finished import Finished
from mmbc_jax.report.web.charts import Line, chart
from mmbc_jax.report.web.markup import escaped


def curves(run: Finished) -> Iterator[tuple[str, str]]:
    """(stage, HTML) of every stage that logged something."""
    for stage in run.results:
        rows = [row for row in run.rows if row["stage"] == stage]
        names = metric_names(rows)
        if names:
            yield stage, _stage(run, stage, rows, names)


def _stage(run: Finished, stage: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    data = {name: series(rows, name) for name in names}
    points = sorted({point for lines in data.values() for point in lines})
    shades = dict(zip(points, _shades(len(points)), strict=True))
    held_out = (run.found["stages"].get(stage, {}).get(HELD_OUT) or {}).get("mean")
    losses = [name for name in names if name.endswith(LOSS)]
    charts = []
    for name, lines in data.items():
        drawn = []
        for point, (steps, values) in lines.items():
            mean, low, high = over_seeds(values)
            band = values.shape[0] > 1 and len(points) <= MOST_KEYS
            drawn.append(Line(steps, mean, low if band else None, high if band else None, shades[point]))
        limits = [(f"held out, {held_out:.3g}", held_out)] if name in losses and held_out else []
        domain = (0.0, 1.0) if quantities.is_share(name) else None
        made = chart(name, quantities.unit_of(name), drawn, quantities.step_of(stage), domain, limits)
        charts.append(f"<figure>{made}</figure>")
    seeds = max(values.shape[0] for lines in data.values() for _, values in lines.values())
    band = (
        "the mean of the seeds and, as a band, their lowest and highest"
        if len(points) <= MOST_KEYS
        else "the mean"
    )
    note = f"{seeds} seeds: {band}." if seeds > 1 else "One seed."
    return f'{_key(run, points, shades)}<p class="note">{escaped(note)}</p><div class="tiles">{"".join(charts)}</div>'


def _key(run: Finished, points: Sequence[int], shades: Mapping[int, str]) -> str:
    if len(points) < 2:
        return ""
    entries = "".join(
        f'<span><i style="background:{shades[point]}"></i>{escaped(run.point_labels[point])}</span>'
        for point in points
    )
    return f'<div class="key">{entries}</div>'


def _shades(count: int) -> list[str]:
    if count <= MOST_KEYS:
        return [to_hex(shade) for shade in style.palette(count)]
    return [to_hex(colormaps["viridis"](place)) for place in np.linspace(0.0, 0.95, count)]
