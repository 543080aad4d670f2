"""Figures of a whole sweep: how many there are, and that they show what the summary holds."""

import dataclasses
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection

from mmbc_jax.core import registry
from mmbc_jax.diagnostics.modes import mode_metrics
from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.report import style
from mmbc_jax.report.figures.learning_curves import learning_curves
from mmbc_jax.report.figures.mode_shares import shares_over_points
from mmbc_jax.report.figures.sweep_effects import sweep_effects
from mmbc_jax.report.figures.trajectories import trajectories_over_points
from mmbc_jax.report.figures.z_modes import commands_over_points
from mmbc_jax.report.finished import Finished
from mmbc_jax.report.summary import build_summary

ONE = {"finetune.mi_coef": (0.3, 0.1, 0.0)}
TWO = {"finetune.mi_coef": (0.0, 0.1, 0.3, 1.0), "learner.learning_rate": (1e-3, 1e-4)}
THREE = {**TWO, "learner.gae_lambda": (0.9, 0.95)}
NUM_Z = 4


def make_points(fake, axes, seeds=1):
    """Points of a summary with a stage `bmd` that differs everywhere."""
    raw = []
    for i, values in enumerate(itertools.product(*axes.values())):
        episodes = [fake.rollouts(128, 4, NUM_Z, 0.05 + 0.04 * i, 9 * i + seed) for seed in range(seeds)]
        stages = {"bmd": [mode_metrics(one, 24, NUM_Z) for one in episodes]}
        raw.append({"values": dict(zip(axes, values, strict=True)), "stages": stages})
    return build_summary(raw, {})["points"]


def means(points, metric):
    return np.array([point["stages"]["bmd"][metric]["mean"] for point in points])


def panel(figure, heading):
    return next(ax for ax in figure.axes if ax.get_title(loc="left") == heading)


def test_one_swept_field_gives_curves_with_intervals_and_seeds(fake):
    points = make_points(fake, ONE, seeds=3)
    ax = panel(sweep_effects(points, "bmd", "avoiding"), "success rate")
    line, dots = ax.lines
    np.testing.assert_allclose(line.get_xdata(), [0.0, 0.1, 0.3])  # by value, not by place in the grid
    np.testing.assert_allclose(line.get_ydata(), means(points, "success_rate")[::-1])
    (band,) = [item for item in ax.collections if isinstance(item, PolyCollection)]
    drawn = band.get_paths()[0].vertices
    low, high = np.array([point["stages"]["bmd"]["success_rate"]["ci95"] for point in points]).T
    assert (drawn[:, 1].min(), drawn[:, 1].max()) == (pytest.approx(low.min()), pytest.approx(high.max()))
    assert len(dots.get_ydata()) == 9
    assert ax.get_xlabel() == "mi_coef"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((0.0, 0.1, 1.0, 10.0), "symlog"),
        ((0.1, 1.0, 10.0), "log"),
        ((1.0, 2.0, 4.0), "linear"),
        ((1.0, 11.0, 21.0), "linear"),
        ((-1.0, 0.1, 10.0), "linear"),
    ],
)
def test_the_scale_is_that_of_the_values(fake, values, scale):
    points = make_points(fake, {"finetune.mi_coef": values})
    assert panel(sweep_effects(points, "bmd", ""), "modes kept").get_xscale() == scale


def test_two_swept_fields_give_a_map_with_the_best_framed(fake):
    points = make_points(fake, TWO)
    figure = sweep_effects(points, "bmd", "avoiding")
    ax = panel(figure, "success rate")
    cells = ax.images[0].get_array()
    grid = means(points, "success_rate").reshape(4, 2)  # mi_coef down, the learning rates from high to low
    np.testing.assert_allclose(cells, grid[:, ::-1].T)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("mi_coef", "learning_rate")
    (frame,) = ax.lines
    assert cells[int(frame.get_ydata()[0]), int(frame.get_xdata()[0])] == cells.max()
    assert "8 points" in figure.get_suptitle()


def test_more_fields_are_each_drawn_against(fake):
    points = make_points(fake, THREE)
    figure = sweep_effects(points, "bmd", "avoiding")
    first = [ax for ax in figure.axes if ax.get_title(loc="left") == "success rate"]
    assert len(first) == 3
    dots, line = first[0].lines
    found = means(points, "success_rate")
    np.testing.assert_allclose(np.sort(dots.get_ydata()), np.sort(found))
    np.testing.assert_allclose(line.get_ydata(), found.reshape(4, 4).mean(1))
    (last,) = [ax for ax in figure.axes if ax.get_xlabel() == "mi_coef"]
    assert [label.get_text() for label in last.get_xticklabels()] == ["0", "0.1", "0.3", "1"]


def test_effects_of_nothing_are_refused(fake):
    points = make_points(fake, ONE)
    with pytest.raises(ValueError, match="0 swept fields"):
        sweep_effects(points[:1], "bmd", "avoiding")
    with pytest.raises(ValueError, match="0 figures of stage 'bmd'"):
        sweep_effects([{"values": {"a": i}, "stages": {"bmd": {}}} for i in range(2)], "bmd", "avoiding")


def test_shares_are_a_row_a_point(fake):
    points = make_points(fake, TWO, seeds=2)
    left, right = shares_over_points(points, "bmd", "avoiding", fake.spec.mode_names).axes[:2]
    shares = [np.mean(point["stages"]["bmd"]["mode_share"]["per_seed"], 0) for point in points]
    np.testing.assert_allclose(left.images[0].get_array(), shares)
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], means(points, "success_rate"))
    assert left.get_yticklabels()[1].get_text() == "mi_coef=0 learning_rate=0.0001"


def test_a_point_without_success_is_an_empty_row(fake):
    points = make_points(fake, ONE)
    points[1]["stages"]["bmd"]["mode_share"]["per_seed"] = [None]
    cells = shares_over_points(points, "bmd", "avoiding", fake.spec.mode_names).axes[0].images[0].get_array()
    assert np.isnan(np.ma.filled(cells[1], np.nan)).all()
    assert np.isfinite(cells[0]).all()


def test_commands_are_in_the_colour_of_their_mode_paler_with_fewer_episodes(fake):
    points = make_points(fake, ONE)
    for point in points:
        point["stages"]["bmd"]["z_mode_table"]["per_seed"] = [[[8, 0, 0], [2, 1, 1], [0, 0, 3], [0, 5, 5]]]
    figure = commands_over_points(points, "bmd", "line", ("left", "right"))
    cells = figure.axes[0].images[0].get_array()
    left, right = np.array(style.palette(2))
    np.testing.assert_allclose(cells[0, 0], left)
    np.testing.assert_allclose(cells[0, 1], 1 - 0.5 * (1 - left))
    np.testing.assert_allclose(cells[0, 2], 1.0)  # nothing but failures
    np.testing.assert_allclose(cells[0, 3], 1 - 0.5 * (1 - right))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0: left", "1: right"]
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written == ["0", "0", "1"] * len(points)
    short = commands_over_points(points, "bmd", "line", ("L", "R"))
    assert [text.get_text() for text in short.axes[0].texts] == ["L", "L", "R"] * len(points)


def test_of_very_many_points_some_are_shown(fake):
    points = make_points(fake, ONE)
    many = [{**points[i % len(points)], "values": {"finetune.mi_coef": float(i)}} for i in range(200)]
    figure = commands_over_points(many, "bmd", "line", fake.spec.mode_names)
    assert figure.axes[0].images[0].get_array().shape[0] == 60
    assert "60 of 200 points" in figure.get_suptitle().replace("\n", " ")


def test_paths_of_several_points_share_scales_and_colours(fake):
    panels = [(f"a={i}", fake.rollouts(32, 20, 4, fail=0.0, seed=i)) for i in range(5)]
    figure = trajectories_over_points(fake.scene, fake.spec, panels, "title")
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == [name for name, _ in panels]
    assert len({ax.get_xlim() for ax in shown}) == 1
    for ax in shown:
        (lines,) = [item for item in ax.collections if isinstance(item, LineCollection)]
        assert len(lines.get_segments()) == 20
        assert len(np.unique(lines.get_colors(), axis=0)) == 1  # 24 modes are not told apart by hue
        assert re.fullmatch(r"SR 1.00\n\d+ of 24 modes", ax.texts[-1].get_text())
    assert figure.legends == []


def test_few_modes_have_a_colour_and_a_key(fake):
    spec = dataclasses.replace(fake.spec, num_modes=3, mode_names=("a", "b", "c"))
    rollouts = fake.rollouts(32, 20, 4, fail=0.0)
    rollouts = rollouts.replace(mode=np.arange(32) % 2)
    figure = trajectories_over_points(fake.scene, spec, [("x=1", rollouts)], "title")
    (lines,) = [item for item in figure.axes[0].collections if isinstance(item, LineCollection)]
    assert len(np.unique(lines.get_colors(), axis=0)) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_many_points_are_thin_lines_with_a_bar_of_colours(fake):
    rows = fake.rows(seeds=2, points=20)
    labels = {i: f"lam={i}" for i in range(20)}
    figure = learning_curves(rows, "bmd", "avoiding", point_labels=labels)
    assert figure.legends == []
    ax = panel(figure, "eval/success_rate")
    (lines,) = [item for item in ax.collections if isinstance(item, LineCollection)]
    assert len(lines.get_segments()) == 20
    values = [
        r["eval/success_rate"] for r in rows if r["stage"] == "bmd" and (r["point"], r["step"]) == (3, 50)
    ]
    at = lines.get_segments()[3]
    np.testing.assert_allclose(at[at[:, 0] == 50, 1], np.mean(values))
    ticks = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert (ticks[0], ticks[-1]) == ("lam=0", "lam=19")


class Scene:
    """An environment as figures see it."""

    def __init__(self, fake):
        self.spec, self.draw = fake.spec, fake.scene.draw


def finished(fake, count, per_point):
    """A run of `count` points: a clone that all share, and a fine-tuned stage that differs."""
    values = {"finetune.mi_coef": tuple(0.1 * i for i in range(count))}
    one = fake.rollouts(64, 8, 1)
    many = [fake.rollouts(64, 8, NUM_Z, seed=i) for i in range(count)]
    raw = [
        {
            "values": {"finetune.mi_coef": value},
            "stages": {"bc": [mode_metrics(one, 24, 1)], "finetune": [mode_metrics(own, 24, NUM_Z)]},
        }
        for value, own in zip(values["finetune.mi_coef"], many, strict=True)
    ]
    facts = {
        "env": "avoiding",
        "policy": "flow",
        "mi_coef": 0.5,
        "num_modes": NUM_Z,
        "seeds": [0],
        "episodes": 64,
    }
    stacked = [type(one)(**{f: np.stack([getattr(r, f) for r in runs]) for f in vars(one) if f != "outcome"})
               for runs in ([one], many)]  # fmt: skip
    results = {
        "bc": StageResult("bc", 1, np.zeros((count, 1), int), [], {}, stacked[0]),
        "finetune": StageResult("finetune", NUM_Z, np.arange(count)[:, None], [], {}, stacked[1]),
    }
    setup = SimpleNamespace(
        env=Scene(fake), env_spec=fake.spec, config=SimpleNamespace(figures_per_point=per_point)
    )
    rows = [{**row, "stage": "finetune"} for row in fake.rows(1, count) if row["stage"] == "bmd"]
    return Finished(setup, results, build_summary(raw, facts), rows)


def titles(run):
    found = []
    for name in registry.available("figure"):
        plugin = registry.find("figure", name)
        found += [title for title, _ in plugin(plugin.default_config())(run)]
    return found


def test_a_large_sweep_has_no_more_figures_than_a_run(fake):
    """What all points share is drawn once; figures are as many with 10 points as with 30."""
    expected = [
        "curves_finetune", "mode_shares", "mode_shares_finetune", "sweep_finetune", "trajectories_bc_modes",
        "trajectories_finetune", "z_modes_finetune",
    ]  # fmt: skip
    for count in (10, 30):
        assert titles(finished(fake, count, 8)) == expected


def test_points_get_pages_where_they_are_few_or_asked_for(fake):
    for count, per_point in ((3, 8), (10, 10)):
        run = finished(fake, count, per_point)
        found = titles(run)
        assert not run.swept
        assert "sweep_finetune" in found
        for kind in ("trajectories", "z_modes"):
            pages = [
                title
                for title in found
                if title.startswith(f"{kind}_finetune_point") and not title.endswith("_modes")
            ]
            assert pages == [f"{kind}_finetune_point{i}" for i in range(count)]
        assert "trajectories_bc_modes" in found


def test_swept_fields_are_left_out_of_the_footer(fake):
    assert "mi_coef" not in finished(fake, 2, 8).facts
