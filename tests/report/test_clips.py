"""Tiles of pictures, by their pixels; and that a video comes back."""

from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.report import clips


def test_tiles_stand_in_rows():
    """Five pictures of 96 x 96 in one colour each: twice as large, 6 in a row, so one row with white between."""
    frames = np.zeros((2, 5, 96, 96, 3), np.uint8)
    frames[:] = np.arange(5)[None, :, None, None, None] * 20
    made = clips.tiled(frames)
    side = 192
    assert made.shape == (2, side, 5 * side + 4 * 4, 3)
    for i in range(5):
        left = i * (side + 4)
        np.testing.assert_array_equal(made[:, :, left : left + side], 20 * i)
    np.testing.assert_array_equal(made[:, :, side : side + 4], 255)


def test_sides_are_even():
    assert clips.tiled(np.zeros((1, 7, 161, 163, 3), np.uint8)).shape == (1, 326, 998, 3)


def test_titles_stand_above_their_tiles():
    frames = np.full((2, 2, 160, 200, 3), 90, np.uint8)
    plain, made = clips.tiled(frames), clips.tiled(frames, ["left-ccw", ""])
    assert made.shape == (2, 180, 404, 3)
    np.testing.assert_array_equal(made[:, 20:], plain)
    heads = made[:, :20]
    assert heads[:, :, :200].min() < 100  # dark letters
    assert (heads[:, :, 200:] == 255).all()
    np.testing.assert_array_equal(heads[0], heads[1])


def test_paths_grow_over_the_scene():
    """What the second step shows has more of the path's colour than the first; the whole is as many pictures."""
    paths = np.linspace([-1.0, -1.0], [1.0, 1.0], 3)[:, None].repeat(2, 1)
    env = registry.build("env", plugin("env", "landscape"))
    first, second, third = clips.drawn(env, paths, ["a", "b"])
    (last,) = clips.drawn(env, paths, ["a", "b"], whole=False)
    np.testing.assert_array_equal(third, last)
    assert first.shape[0] % 2 == first.shape[1] % 2 == 0

    def blue(image):
        return ((image[..., 2] > 150) & (image[..., 0] < 80)).sum()

    assert blue(first) < blue(second) < blue(third)


def test_a_video_comes_back(tmp_path):
    """Frames of one grey each, by the package that plays them: within 3 of 255."""
    av = pytest.importorskip("av")
    frames = [np.full((32, 48, 3), value, np.uint8) for value in (20, 120, 220)]
    clips.write_video(tmp_path / "a.mp4", frames, 10.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == 3
    for one, other in zip(shown, frames, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 3
