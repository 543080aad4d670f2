import numpy as np
import pytest
from matplotlib import image
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba

from mmbc_jax.diagnostics.modes import aggregate, mode_metrics
from mmbc_jax.report import style
from mmbc_jax.report.figures.trajectories import paths_of, trajectories, trajectories_apart


def collections(ax):
    return {item.get_gid(): item for item in ax.collections if isinstance(item, LineCollection)}


def eight(fake, *args, **kwargs):
    """Episodes of a task of 8 modes, which hues tell apart."""
    rollouts = fake.rollouts(*args, **kwargs)
    return rollouts.replace(mode=np.where(rollouts.mode >= 0, rollouts.mode % 8, -1))


def draw(fake, rollouts, num_z, env=None, spec=None, **kwargs):
    spec = spec or fake.spec_with(num_modes=8, mode_names=fake.spec.mode_names[:8])
    metrics = aggregate([mode_metrics(rollouts, spec.num_modes, num_z)])
    return trajectories(env or fake.scene, spec, rollouts, num_z, metrics, "bmd", **kwargs)


def test_paths_end_where_their_episode_ended(fake):
    rollouts = fake.rollouts(32, 20)
    lines = paths_of(rollouts)
    assert [len(line) for line in lines] == rollouts.path_mask.sum(1).astype(int).tolist()
    np.testing.assert_array_equal(lines[3], rollouts.path[3, : len(lines[3])])


def test_every_episode_is_drawn_once_in_each_panel(fake, tmp_path):
    rollouts = eight(fake, 64, 40, num_z=8, fail=0.3)
    won = int(rollouts.success[:40].sum())
    assert 0 < won < 40
    figure = draw(fake, rollouts, 8, facts={"policy": "flow"})
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
    assert figure.get_supxlabel() == f"drawn 40 episodes   failed {40 - won} (dashed, x)   policy flow"
    assert [ax.get_xlabel() for ax in figure.axes] == ["x", "x"]  # of the scene, whatever else is said


def test_colours_stand_for_mode_and_command(fake):
    rollouts = eight(fake, 24, 24, num_z=8, fail=0.0)
    figure = draw(fake, rollouts, 8)
    order = np.random.default_rng(0).permutation(24)
    for ax, labels, count in zip(figure.axes, (rollouts.mode, rollouts.z), (8, 8), strict=True):
        solid = collections(ax)["succeeded"]
        expected = [to_rgba(style.palette(count)[labels[i]], solid.get_alpha()) for i in order]
        np.testing.assert_allclose(solid.get_colors(), expected)
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert sum(int(text.split("(")[1][:-1]) for text in texts) == 24
    assert any(text.startswith(fake.spec.mode_names[rollouts.mode[0]] + " ") for text in [
        item.get_text() for item in figure.axes[0].get_legend().get_texts()
    ])  # fmt: skip


def test_more_labels_than_hues_have_a_panel_each(fake):
    """24 modes and 40 commands: their own paths are blue over all others, and of the commands 24 are shown."""
    rollouts = fake.rollouts(80, 80, num_z=40, fail=0.0)
    metrics = aggregate([mode_metrics(rollouts, 24, 40)])
    apart = dict(trajectories_apart(fake.scene, fake.spec, rollouts, 40, metrics, "bmd"))
    assert list(apart) == ["modes", "z"]
    counts = np.bincount(rollouts.mode, minlength=24)
    seen = np.flatnonzero(counts)
    assert [ax.get_title("left") for ax in apart["modes"].axes] == [
        f"{fake.spec.mode_names[i]}  ({counts[i]})" for i in seen
    ]
    blue = to_rgba(style.HUES[0], 0.75)
    for ax, label in zip(apart["modes"].axes, seen, strict=True):
        drawn = [c for c in ax.collections if isinstance(c, LineCollection) and len(c.get_segments())]
        own = [c for c in drawn if tuple(c.get_colors()[0]) == blue]
        assert len(own[0].get_segments()) == counts[label]
        assert (
            sum(len(c.get_segments()) for c in drawn) == counts[label] + (rollouts.mode[:64] != label).sum()
        )
    assert len(apart["z"].axes) == 24
    assert "by command z, 24 of 40" in apart["z"].get_suptitle()
    assert sum(bool(ax.get_xlabel()) for ax in apart["z"].axes) == 1
    with pytest.raises(ValueError, match="24 modes and 40 z are more than 8"):
        draw(fake, rollouts, 40, spec=fake.spec)


def test_few_labels_have_no_panels_of_their_own(fake):
    rollouts = eight(fake, 16, 8, num_z=4)
    spec = fake.spec_with(num_modes=8, mode_names=fake.spec.mode_names[:8])
    metrics = aggregate([mode_metrics(rollouts, 8, 4)])
    assert dict(trajectories_apart(fake.scene, spec, rollouts, 4, metrics)) == {}


def test_without_z_there_is_one_panel(fake):
    assert len(draw(fake, eight(fake, 16, 8, num_z=1), 1).axes) == 1


def test_an_environment_without_a_scene_or_labels_is_drawn(fake):
    rollouts = fake.rollouts(16, 8, num_z=1).replace(mode=np.full(16, -1))
    figure = draw(fake, rollouts, 1, env=object(), spec=fake.spec_with(num_modes=0, mode_names=()))
    assert figure.axes[0].get_legend() is None
    assert len(figure.axes[0].patches) == 0
    assert "modes" not in figure.get_suptitle()


def test_only_failures(fake):
    rollouts = fake.rollouts(16, 8, num_z=8, fail=1.1)
    assert set(collections(draw(fake, rollouts, 8).axes[0])) == {"failed"}


def test_nothing_to_plot_is_refused(fake):
    with pytest.raises(ValueError, match="no plotted positions"):
        draw(fake, eight(fake, 8, 0), 8)
    with pytest.raises(ValueError, match="no plotted positions"):
        draw(fake, eight(fake, 8, 4), 8, spec=fake.spec_with(position=()))
