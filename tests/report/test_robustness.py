"""The figures of sweeps over strengths and of re-commanding, and what is said of commands."""

from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.diagnostics.strengths import pooled
from mmbc_jax.report import style
from mmbc_jax.report.commands import lines, table
from mmbc_jax.report.figures.attempts import success_within
from mmbc_jax.report.figures.robustness import by_mode, success_over_strength
from mmbc_jax.report.summary import build_summary, summarise_stage

NAMES = ("left", "right")


def metrics(won):
    """z 0 takes mode 0, z 1 mode 1; `won` of 20 episodes each succeed."""
    rows = [[won[0], 0, 20 - won[0]], [0, won[1], 20 - won[1]]]
    return {
        "n": 40,
        "success_rate": sum(won) / 40,
        "wilson95": [0, 1],
        "z_mode_table": rows,
        "dominant_mode": [0, 1],
    }


def stage():
    shifts = {"push=0": metrics((20, 18)), "push=2": metrics((10, 0))}
    return summarise_stage([metrics((20, 18)) | {"shifts": shifts}])


def test_success_over_strength_shows_each_mode_and_all():
    figure = success_over_strength({"finetune": stage()}, "push", "action_noise", "toy", NAMES)
    (ax,) = figure.axes
    drawn = {tuple(line.get_ydata()) for line in ax.lines}
    assert drawn == {(1.0, 0.5), (0.9, 0.0), (38 / 40, 10 / 40)}
    assert all(list(line.get_xdata()) == [0.0, 2.0] for line in ax.lines)
    assert len(ax.collections) == 3  # an interval each
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all episodes", *NAMES]
    assert "as told" in ax.get_title(loc="left")
    with pytest.raises(ValueError, match="no stages"):
        success_over_strength({}, "push", "action_noise", "toy")


def many(count=10):
    """Mode k succeeds in k of 20 episodes under the strong setting, in all under the weak one."""
    rows = lambda won: [[w if k == j else 0 for j in range(count)] + [20 - w] for k, w in enumerate(won)]  # noqa: E731

    def of(won):
        total = 20 * count
        return {
            "n": total,
            "success_rate": sum(won) / total,
            "wilson95": [0, 1],
            "z_mode_table": rows(won),
            "dominant_mode": list(range(count)),
        }

    weak, strong = of([20] * count), of(list(range(1, count + 1)))
    return summarise_stage([weak | {"shifts": {"push=0": weak, "push=2": strong}}])


def test_more_modes_than_hues_have_a_panel_each():
    names = [f"way {k}" for k in range(10)]
    (ax,) = success_over_strength({"finetune": many()}, "push", "action_noise", "toy", names).axes
    colours = {line.get_color() for line in ax.lines}
    assert colours == {style.FAILED, style.INK}  # no mode by its hue
    figure = by_mode("finetune", many(), "push", "action_noise", "toy", names)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == names
    for k, ax in enumerate(shown):
        (own,) = [line for line in ax.lines if line.get_color() == style.HUES[0]]
        assert list(own.get_ydata()) == [1.0, (k + 1) / 20]
        assert len(ax.collections) == 1  # its interval
        assert len(ax.lines) == 12  # all modes, all episodes, and its own
    assert shown[6].get_xlabel() == "action_noise"


def recommand():
    def within(*won):
        return {"within": [pooled([each], [20]) for each in won]}

    rules = {"random": within(5, 10), "trial": within(18, 20) | {"trial_episodes": 6}, "plain": within(0, 0)}
    return {"attempts": 2, "settings": {"as trained": rules, "blocked": rules}}


def test_success_within_attempts():
    figure = success_within(recommand(), "toy")
    for ax in figure.axes:
        drawn = [tuple(line.get_ydata()) for line in ax.lines]
        assert drawn == [(0.25, 0.5), (0.9, 1.0), (0.0, 0.0)]
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["as trained", "blocked"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["random", "trial", "plain"]
    with pytest.raises(ValueError, match="no settings"):
        success_within({"attempts": 1, "settings": {}}, "toy")


def test_the_table_of_rules():
    shown = table(recommand())
    assert shown.row_count == 6
    columns = [list(column.cells) for column in shown.columns]
    assert columns[1] == ["random", "trial", "plain"] * 2
    assert columns[2][1].startswith("0.900 [")
    assert columns[3][1].startswith("1.000 [")
    assert columns[4][:3] == ["0", "6", "0"]


def test_what_is_said_of_commands():
    """Seeds 0 and 1 group the z alike, though under other names; a policy of one z has nothing to compare."""

    def seed(modes):
        return {"n": 4, "success_rate": 1.0, "success_per_z": [1.0] * len(modes), "dominant_mode": modes}

    stages = {"finetune": [seed([0, 0, 1]), seed([2, 2, 0])], "plain": [seed([0]), seed([0])]}
    run = {"like": {"rule": "path", "seeds": [0, 1], "z": [2, 1]}, "headless": True}
    said = lines(build_summary([{"values": {}, "stages": stages}], run))
    assert (
        said[0]
        == (
            "finetune: z to mode over 1 pairs of seeds: NMI 1.00, ARI 1.00, overlap of modes 0.33"  # {0} of {0, 1, 2}
        )
    )
    assert said[1:] == [
        "most like the example, by path: z 2 (seed 0), 1 (seed 1)",
        "played without the steering head: its noise is that of the reference's base",
    ]
    assert np.isfinite(summarise_stage(stages["finetune"])["stability"]["nmi"])
