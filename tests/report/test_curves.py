import math

import numpy as np
import pytest
from matplotlib import image
from matplotlib.collections import PolyCollection

from mmbc_jax.report import style
from mmbc_jax.report.figures.learning_curves import learning_curves, metric_names, series


def row(step, value, seed=0, point=0, stage="bmd", name="eval/success_rate"):
    return {"stage": stage, "step": step, "seed": seed, "point": point, name: value}


def test_series_are_aligned_by_step_and_seed():
    rows = [row(10, 0.5, 0), row(0, 0.1, 0), row(10, 0.7, 1), row(0, math.nan, 1), row(10, 0.9, point=3)]
    found = series(rows, "eval/success_rate")
    np.testing.assert_array_equal(found[0][0], [0, 10])
    np.testing.assert_array_equal(found[0][1], [[0.1, 0.5], [math.nan, 0.7]])
    np.testing.assert_array_equal(found[3][1], [[0.9]])


def test_a_repeated_step_counts_once_with_its_later_value():
    steps, values = series([row(0, 0.1), row(5, 0.2), row(5, 0.3)], "eval/success_rate")[0]
    assert steps.tolist() == [0, 5]
    assert values.tolist() == [[0.1, 0.3]]


def test_metric_names_come_by_use_and_leave_out_the_mute():
    rows = [
        {"stage": "bmd", "step": s, "ppo/lr": 3e-4, "loss/total": 1.0 - s, "x/odd": s, "x/nan": math.nan,
         "eval/success_rate": s / 10, "name": "a", "x/none": None}
        for s in range(3)
    ]  # fmt: skip
    assert metric_names(rows) == ["eval/success_rate", "loss/total", "x/odd"]
    assert metric_names(rows, limit=1) == ["eval/success_rate"]
    assert metric_names(rows[:1]) == ["eval/success_rate", "loss/total", "ppo/lr", "x/odd"]


def test_curves_show_mean_and_range_of_the_seeds(fake, tmp_path):
    rows = fake.rows(seeds=3, points=2)
    figure = learning_curves(rows, "bmd", "avoiding", point_labels={0: "λ=0.1"}, facts={"seeds": 3})
    shown = [ax for ax in figure.axes if ax.get_visible()]
    titles = [ax.get_title(loc="left") for ax in shown]
    assert titles == ["eval/success_rate", "eval/modes_kept", "mode/mi", "loss/total", "ppo/kl"]
    success = shown[0]
    assert len(success.lines) == 2
    steps, values = series([r for r in rows if r["stage"] == "bmd"], "eval/success_rate")[1]
    np.testing.assert_allclose(success.lines[1].get_xdata(), steps)
    np.testing.assert_allclose(success.lines[1].get_ydata(), values.mean(0))
    band = [item for item in success.collections if isinstance(item, PolyCollection)][1].get_paths()[0]
    assert band.vertices[:, 1].min() == pytest.approx(values.min())
    assert band.vertices[:, 1].max() == pytest.approx(values.max())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["λ=0.1", "point 1"]
    assert "min..max of 3 seeds" in figure.get_suptitle()
    path = style.save(figure, tmp_path / "c.png")
    assert image.imread(path).shape[:2] == tuple(np.round(figure.get_size_inches()[::-1] * style.DPI))
    assert path.stat().st_size > 20_000


def test_missing_seeds_do_not_pull_the_mean():
    rows = [row(0, 0.2, 0), row(0, math.nan, 1), row(1, 0.4, 0), row(1, 0.6, 1)]
    line = learning_curves(rows, "bmd", "avoiding").axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [0.2, 0.5])


def test_one_seed_and_one_point_need_no_band_and_no_legend():
    figure = learning_curves([row(s, s / 4) for s in range(4)], "bmd", "avoiding")
    assert figure.legends == []
    assert len(figure.axes[0].collections) == 0
    assert "1 seed" in figure.get_suptitle()


def test_a_loss_over_two_decades_is_logarithmic():
    rows = [row(s, 10.0 ** (-s), name="loss/total") for s in range(4)]
    assert learning_curves(rows, "bmd", "avoiding").axes[0].get_yscale() == "log"


def test_the_held_out_loss_is_a_line_beside_the_training_loss():
    rows = [row(s, 1.0 / (1 + s), name="bc/loss") | {"bc/grad_norm": 1.0 + s} for s in range(4)]
    figure = learning_curves(rows, "bmd", "avoiding", held_out={0: 1.5})
    panels = {ax.get_title(loc="left"): ax for ax in figure.axes}
    (line,) = [line for line in panels["bc/loss"].lines if line.get_linestyle() == "--"]
    assert set(line.get_ydata()) == {1.5}
    assert panels["bc/loss"].get_ylim()[1] > 1.5
    assert [text.get_text() for text in panels["bc/loss"].texts] == ["dashed: held out, at the end, 1.5"]
    assert len(panels["bc/grad_norm"].lines) == 1
    two = [*rows, *({**one, "point": 1} for one in rows)]
    lines = learning_curves(two, "bmd", "avoiding", held_out={0: 1.5, 1: 0.5}).axes[0].lines
    assert [line.get_ydata() for line in lines if line.get_markerfacecolor() == "white"] == [[1.5], [0.5]]


def test_sweep_points_differ_in_more_than_their_hue():
    rows = [row(s, s / 9, point=p) for s in range(9) for p in range(8)]
    lines = learning_curves(rows, "bmd", "avoiding").axes[0].lines
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 8


def test_a_stage_without_rows_is_refused(fake):
    with pytest.raises(ValueError, match="'absent'"):
        learning_curves(fake.rows(), "absent", "avoiding")
