import numpy as np
import pytest
from matplotlib import image
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba

from mmbc_jax.diagnostics.modes import aggregate, mode_metrics
from mmbc_jax.report import style
from mmbc_jax.report.figures.trajectories import paths_of, trajectories


def collections(ax):
    return {item.get_gid(): item for item in ax.collections if isinstance(item, LineCollection)}


def draw(fake, rollouts, num_z, env=None, spec=None, **kwargs):
    spec = spec or fake.spec
    metrics = aggregate([mode_metrics(rollouts, spec.num_modes, num_z)])
    return trajectories(env or fake.scene, spec, rollouts, num_z, metrics, "bmd", **kwargs)


def test_paths_end_where_their_episode_ended(fake):
    rollouts = fake.rollouts(32, 20)
    lines = paths_of(rollouts)
    assert [len(line) for line in lines] == rollouts.path_mask.sum(1).astype(int).tolist()
    np.testing.assert_array_equal(lines[3], rollouts.path[3, : len(lines[3])])


def test_every_episode_is_drawn_once_in_each_panel(fake, tmp_path):
    rollouts = fake.rollouts(64, 40, fail=0.3)
    won = int(rollouts.success[:40].sum())
    assert 0 < won < 40
    figure = draw(fake, rollouts, 16, facts={"policy": "flow"})
    assert len(figure.axes) == 2
    for ax in figure.axes:
        lines = collections(ax)
        assert len(lines["succeeded"].get_segments()) == won
        assert len(lines["failed"].get_segments()) == 40 - won
        crosses = [item for item in ax.collections if isinstance(item, PathCollection)]
        assert len(crosses) == 1
        assert len(crosses[0].get_offsets()) == 40 - won
        assert len(ax.patches) == 6  # the scene
    ends = {tuple(line[-1]) for line, ok in zip(paths_of(rollouts), rollouts.success, strict=False) if not ok}
    assert {tuple(offset) for offset in crosses[0].get_offsets().data} == ends
    path = style.save(figure, tmp_path / "t.png")
    pixels = image.imread(path)[..., :3]
    width, height = figure.get_size_inches() * style.DPI
    assert pixels.shape[:2] == (round(height), round(width))
    assert (pixels.min(-1) < 0.9).mean() > 0.02  # ink
    assert figure.get_supxlabel() == "policy flow"


def test_colours_stand_for_mode_and_command(fake):
    rollouts = fake.rollouts(24, 24, fail=0.0)
    figure = draw(fake, rollouts, 16)
    order = np.random.default_rng(0).permutation(24)
    for ax, labels, count in zip(figure.axes, (rollouts.mode, rollouts.z), (24, 16), strict=True):
        solid = collections(ax)["succeeded"]
        expected = [to_rgba(style.palette(count)[labels[i]], solid.get_alpha()) for i in order]
        np.testing.assert_allclose(solid.get_colors(), expected)
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert sum(int(text.split("(")[1][:-1]) for text in texts) == 24
    assert any(text.startswith(fake.spec.mode_names[rollouts.mode[0]] + " ") for text in [
        item.get_text() for item in figure.axes[0].get_legend().get_texts()
    ])  # fmt: skip


def test_many_commands_have_a_bar_of_colours_for_a_key(fake):
    """40 commands, 40 episodes: a bar from z 0 to z 39 in the place of as many keys."""
    right = draw(fake, fake.rollouts(80, 80, num_z=40, fail=0.0), 40).axes[1]
    assert right.get_legend() is None
    (bar,) = right.child_axes
    assert [label.get_text() for label in bar.get_xticklabels()] == ["z 0", "z 39"]
    np.testing.assert_allclose(bar.images[0].get_array()[0], [to_rgba(c)[:3] for c in style.palette(40)])


def test_without_z_there_is_one_panel(fake):
    assert len(draw(fake, fake.rollouts(16, 8, num_z=1), 1).axes) == 1


def test_an_environment_without_a_scene_or_labels_is_drawn(fake):
    rollouts = fake.rollouts(16, 8, num_z=1).replace(mode=np.full(16, -1))
    figure = draw(fake, rollouts, 1, env=object(), spec=fake.spec_with(num_modes=0, mode_names=()))
    assert figure.axes[0].get_legend() is None
    assert len(figure.axes[0].patches) == 0
    assert "modes" not in figure.get_suptitle()


def test_only_failures(fake):
    rollouts = fake.rollouts(16, 8, fail=1.1)
    assert set(collections(draw(fake, rollouts, 16).axes[0])) == {"failed"}


def test_nothing_to_plot_is_refused(fake):
    with pytest.raises(ValueError, match="no plotted positions"):
        draw(fake, fake.rollouts(8, 0), 16)
    with pytest.raises(ValueError, match="no plotted positions"):
        draw(fake, fake.rollouts(8, 4), 16, spec=fake.spec_with(position=()))
