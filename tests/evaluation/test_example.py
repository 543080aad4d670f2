"""Example paths: what can be read, and how near they are to others."""

from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.core.errors import UserError
from mmbc_jax.evaluation.example import nearest_command, path_distance, read_example, resampled

LINE = np.array([(0.0, 0.0), (1.0, 0.0), (4.0, 0.0)])


def test_resampling_goes_by_length():
    np.testing.assert_allclose(resampled(LINE, 5), [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)])
    corner = np.array([(0.0, 0.0), (0.0, 3.0), (1.0, 3.0)])
    np.testing.assert_allclose(resampled(corner, 5), [(0, 0), (0, 1), (0, 2), (0, 3), (1, 3)])
    still = np.array([(2.0, 1.0)] * 3)
    np.testing.assert_allclose(resampled(still, 2), [(2, 1), (2, 1)])


def test_distances():
    """Speed and rests do not count; a path that is 3 apart everywhere is 3 apart; a turn of the end grows with u.

    From (4, 0) to (0, 4) the distance at share u is u 4 sqrt(2): root mean square 4 sqrt(2 / 3) = 3.27.
    """
    slow = np.concatenate([np.linspace((0, 0), (4, 0), 30), np.tile([(4.0, 0.0)], (9, 1))])
    assert path_distance(LINE, slow) == pytest.approx(0, abs=1e-12)
    assert path_distance(LINE, LINE + [0, 3]) == pytest.approx(3)
    assert path_distance(LINE, LINE[:, ::-1]) == pytest.approx(4 * np.sqrt(2 / 3), rel=0.01)


def test_the_nearest_command_goes_by_successful_paths():
    """z 0: paths 1 and 5 apart, of which the second succeeds; z 1: 2 apart, none succeeds; z 2 was not played."""
    paths = np.stack([LINE + [0, 1], LINE + [0, 5], LINE + [0, 2]])
    longer = np.concatenate([paths, np.full((3, 1, 2), 99.0)], 1)  # past the end
    mask = np.array([[1, 1, 1, 0]] * 3)
    found = nearest_command(
        LINE, longer, mask, np.array([0, 0, 1]), np.array([False, True, False]), num_modes=3
    )
    np.testing.assert_allclose(found, [5, 2, np.inf])


def test_what_can_be_read(tmp_path):
    np.savez(tmp_path / "named.npz", other=np.zeros(3), obs=LINE)
    np.savez(tmp_path / "alone.npz", anything=LINE)
    (tmp_path / "headed.csv").write_text("x, y\n0,0\n1,0\n\n4, 0\n")
    (tmp_path / "plain.csv").write_text("0,0\n1,0\n4,0")
    for name in ("named.npz", "alone.npz", "headed.csv", "plain.csv"):
        found = read_example(str(tmp_path / name))
        np.testing.assert_array_equal(found, LINE)
        assert found.dtype == np.float32


def test_what_cannot(tmp_path):
    np.savez(tmp_path / "two.npz", a=LINE, b=LINE)
    np.savez(tmp_path / "pickled.npz", path=np.array([object()]))
    np.savez(tmp_path / "one.npz", path=LINE[:1])
    np.savez(tmp_path / "nan.npz", path=np.full((3, 2), np.nan))
    np.savez(tmp_path / "flat.npz", path=np.zeros(6))
    (tmp_path / "ragged.csv").write_text("0,0\n1\n")
    (tmp_path / "words.csv").write_text("x,y\nleft,right\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "path.txt").write_text("0,0")
    said = {
        "two.npz": "found a, b", "pickled.npz": "cannot be read", "one.npz": "T >= 2", "nan.npz": "finite",
        "flat.npz": "must be [T, D]", "ragged.csv": "different numbers", "words.csv": "cannot be read",
        "empty.csv": "shape", "broken.npz": "cannot be read", "path.txt": ".npz and .csv", "none.csv": "no file",
    }  # fmt: skip
    for name, words in said.items():
        with pytest.raises(UserError, match="--like") as error:
            read_example(str(tmp_path / name))
        assert words in str(error.value), name
