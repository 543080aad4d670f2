import numpy as np
import pytest
from matplotlib import image

from mmbc_jax.diagnostics.modes import aggregate
from mmbc_jax.report import style


def test_strokes_of_one_marker_never_share_dashes():
    for count in (1, 8, 24):
        made = style.strokes(count)
        assert len({(one["marker"], one["linestyle"]) for one in made}) == count
        assert [one["color"] for one in made] == style.palette(count)


@pytest.mark.parametrize("count", [0, 1, 8, 16, 24, 32])
def test_palette_colours_are_distinct(count):
    colours = np.array(style.palette(count)).reshape(count, 3)
    assert colours.min(initial=0) >= 0
    assert colours.max(initial=1) <= 1
    gaps = np.abs(colours[:, None] - colours[None]).max(-1) + np.eye(count)
    assert gaps.min(initial=1) > 0.02


def test_a_class_keeps_its_colour_when_others_are_added():
    assert style.palette(24)[:8] == style.palette(8)


# linear RGB to what is seen at full severity (Machado, Oliveira and Fernandes 2009, table 1)
SEEN = {
    "normal": np.eye(3),
    "protanope": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranope": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


@pytest.mark.parametrize("eye", SEEN)
def test_hues_differ_for_every_eye(eye):
    srgb = np.array(style.palette(8))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.transpose(SEEN[eye]), 0, 1) @ XYZ.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
    gaps = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1e3 * np.eye(8)
    assert gaps.min() > 15  # CIELAB units; about 2 is just noticeable side by side


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 2, "–"),
        (float("nan"), 2, "–"),
        (12, 1, "12"),
        (0.0, 1, "0"),
        (6.3333, 1, "6.3"),
        (0.975, 3, "0.975"),
    ],
)
def test_number(value, digits, text):
    assert style.number(value, digits) == text


def test_interval():
    assert style.interval({"mean": 0.9, "ci95": [0.851, 0.949]}) == "0.90 [0.85, 0.95]"
    assert style.interval({"mean": 0.9, "ci95": None}) == "0.90"
    assert style.interval({"mean": None, "ci95": None}) == "–"


def test_headline_over_seeds_and_of_one_seed():
    seeds = [
        {"n": 100, "success_rate": rate, "wilson95": [rate - 0.1, rate], "modes_kept": kept}
        for rate, kept in ((0.8, 3), (1.0, 4))
    ]
    metrics = aggregate(seeds)
    # two seeds: .9 -+ 12.7062 * .141421 / sqrt(2) = .9 -+ 1.27, clipped to [0, 1]
    everything = style.headline("avoiding", "bmd", metrics, 24)
    assert (
        everything
        == "avoiding  ·  bmd  ·  SR 0.90 [0.00, 1.00]  ·  3.5 of 24 modes kept  ·  n = 100 x 2 seeds"
    )
    one = style.headline("", "bmd", metrics, 24, seed=1)
    assert one == "bmd  ·  SR 1.00 [0.90, 1.00]  ·  4 of 24 modes kept  ·  n = 100, seed 1 of 2"
    assert "modes" not in style.headline("brax", "bmd", metrics, 0)


def test_long_titles_wrap_between_their_parts():
    figure = style.new_figure(3.0, 2.0)
    style.add_title(figure, style.SEPARATOR.join(["a" * 20, "b" * 20, "c" * 3]))
    assert figure.get_suptitle() == "a" * 20 + "\n" + "b" * 20 + style.SEPARATOR + "ccc"


def test_footer_leaves_out_what_is_unknown():
    figure = style.new_figure(3.0, 2.0)
    style.add_footer(figure, {"env": "avoiding", "λ": None, "seeds": 3})
    assert figure.get_supxlabel() == "env avoiding   seeds 3"


def test_save_writes_whole_files_of_the_asked_size(tmp_path):
    figure = style.new_figure(4.0, 2.5)
    figure.subplots().plot([0, 1], [0, 1])
    path = style.save(figure, tmp_path / "deep" / "a.png", dpi=100)
    assert image.imread(path).shape[:2] == (250, 400)
    assert [item.name for item in path.parent.iterdir()] == ["a.png"]
    first = path.read_bytes()
    style.save(figure, path, dpi=100)
    assert path.read_bytes() == first  # no time stamp
