import numpy as np
import pytest
from matplotlib import image

from mmbc_jax.diagnostics.modes import aggregate, mode_metrics
from mmbc_jax.report import style
from mmbc_jax.report.figures.mode_shares import mode_shares
from mmbc_jax.report.figures.z_modes import z_mode_heatmap
from mmbc_jax.report.summary import build_summary

TABLE = [[0, 30, 0, 0, 10], [60, 0, 0, 0, 0], [0, 0, 0, 0, 5]]  # Z = 3, K = 4


def stage(table, shares=(0.6, 0.3, 0.1, 0.0)):
    seed = {"n": 100, "success_rate": 0.9, "wilson95": [0.8, 0.95], "modes_kept": 3}
    return aggregate([seed | {"z_mode_table": table, "mode_share": shares}])


def test_heat_map_rows_are_distributions_sorted_by_mode():
    figure = z_mode_heatmap(stage(TABLE), "landscape", ("NE", "NW", "SW", "SE"), "bmd")
    left, right = (ax.images[0].get_array() for ax in figure.axes[:2])
    np.testing.assert_allclose(left.sum(1) + right.sum(1), 1.0)
    # dominant modes 1, 0 and none: rows are z 1, z 0, z 2
    assert [label.get_text().split("  ")[0] for label in figure.axes[0].get_yticklabels()] == [
        "z 1",
        "z 0",
        "z 2",
    ]
    np.testing.assert_allclose(left, [[1, 0, 0, 0], [0, 0.75, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(right, [[0], [0.25], [1]])
    assert "n = 40" in figure.axes[0].get_yticklabels()[1].get_text()
    assert {text.get_text() for text in figure.axes[0].texts} == {"100", "75"}


def test_heat_map_drops_unreached_modes_of_many(fake, tmp_path):
    rollouts = fake.rollouts(512, 1, 16, leak=0.0)
    metrics = aggregate([mode_metrics(rollouts, 24, 16)])
    figure = z_mode_heatmap(metrics, "avoiding", fake.spec.mode_names, "bmd", {"|Z|": 16})
    reached = np.unique(rollouts.mode[rollouts.success])
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == [fake.spec.mode_names[mode] for mode in reached]
    assert f"{24 - len(reached)} of 24 never reached" in figure.axes[0].get_xlabel()
    path = style.save(figure, tmp_path / "h.png")
    assert image.imread(path).shape[1] == round(figure.get_figwidth() * style.DPI)
    assert path.stat().st_size > 10_000


def test_heat_map_greys_the_names_of_modes_that_are_not_kept():
    figure = z_mode_heatmap(stage([[199, 1, 0, 0, 0]]), "landscape")
    colours = [label.get_color() for label in figure.axes[0].get_xticklabels()]
    assert colours[0] == style.INK
    assert colours[1:] == [style.FAILED] * 3


def test_heat_map_of_a_task_without_modes_is_refused():
    with pytest.raises(ValueError, match="no modes"):
        z_mode_heatmap(stage(None), "brax")


def test_shares_show_every_stage_mode_and_seed(fake, tmp_path):
    stages = build_summary(fake.points(seeds=2), {})["stages"]
    figure = mode_shares(stages, "avoiding", 24, fake.spec.mode_names, {"seeds": 2})
    assert len(figure.axes) == 3
    for ax, metrics in zip(figure.axes, stages.values(), strict=True):
        shares = np.array(metrics["mode_share"]["per_seed"])
        np.testing.assert_allclose(
            [bar.get_y() + bar.get_height() for bar in ax.patches], np.maximum(shares.mean(0), 0.003)
        )
        np.testing.assert_allclose(ax.lines[0].get_ydata(), shares.ravel())
        assert "SR" in ax.get_title(loc="left")
    path = style.save(figure, tmp_path / "s.png")
    assert image.imread(path).shape[0] == round(figure.get_figheight() * style.DPI)


def test_shares_of_few_modes_stand_side_by_side_and_survive_no_success():
    stages = {"reference": stage(TABLE), "lambda=0": stage(TABLE, None)}
    figure = mode_shares(stages, "landscape", 4)
    first, second = figure.axes
    assert first.get_subplotspec().get_gridspec().get_geometry() == (1, 2)
    assert [bar.get_height() for bar in first.patches] == [0.6, 0.3, 0.1, 0.0]
    assert len(second.patches) == 0
    assert second.texts[0].get_text() == "no success"


def test_shares_of_nothing_are_refused():
    with pytest.raises(ValueError, match="0 stages"):
        mode_shares({}, "landscape", 4)
    with pytest.raises(ValueError, match="0 modes"):
        mode_shares({"bmd": stage(TABLE)}, "brax", 0)
