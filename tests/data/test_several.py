"""Several files as one set: parts of them, and the shares of batches that each gets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.core.errors import ConfigError, DataError
from mmbc_jax.data import several
from mmbc_jax.data.blocks import Blocks
from mmbc_jax.data.windows import drawn, make_windows, window_rows
from mmbc_jax.ops.normalisation import fit
from mmbc_jax.runs.sections import base_config
from mmbc_jax.runs.setup import check_config

SIZES = {"a": (4, 3, 5), "b": (2, 2)}


def write(folder, name, mode=None, width=3):
    lengths = SIZES[name]
    rng = np.random.default_rng(len(lengths))
    arrays = {"obs": rng.normal(size=(sum(lengths), width)), "action": rng.normal(size=(sum(lengths), 2))}
    if mode is not None:
        arrays["mode"] = np.asarray(mode)
    np.savez(folder / f"{name}.npz", episode_ends=np.cumsum(lengths), **arrays)
    return str(folder / f"{name}.npz")


def test_one_after_another(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", mode=(1, 0))
    both = several.read(f"{a}, {b}")
    one, other = several.read(a), several.read(b)
    np.testing.assert_array_equal(both.obs, np.concatenate([one.obs, other.obs]))
    np.testing.assert_array_equal(both.action, np.concatenate([one.action, other.action]))
    np.testing.assert_array_equal(both.ends, [4, 7, 12, 14, 16])
    np.testing.assert_array_equal(both.mode, [-1, -1, -1, 1, 0])
    np.testing.assert_array_equal(both.part, [0, 0, 0, 1, 1])
    assert both.source == "a.npz, b.npz"
    assert both.num_modes == 2


def test_a_comma_in_a_name(tmp_path):
    (tmp_path / "x").mkdir()
    path = write(tmp_path / "x", "a")
    odd = tmp_path / "one, two.npz"
    odd.write_bytes((tmp_path / "x/a.npz").read_bytes())
    assert several.paths(str(odd)) == (str(odd),)
    assert several.there(f"{path},{path}")
    assert not several.there(f"{path},{path}x")


def test_parts_of_files(tmp_path):
    a, b = write(tmp_path, "a", mode=(0, 1, 2)), write(tmp_path, "b", mode=(1, 0))
    some = several.read(f"{a},{b}", subset=("0:3:2", "1:"))
    np.testing.assert_array_equal(some.ends, [4, 9, 11])
    np.testing.assert_array_equal(some.mode, [0, 2, 0])
    np.testing.assert_array_equal(some.part, [0, 0, 1])
    np.testing.assert_array_equal(several.read(a, subset=(":1",)).ends, [4])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subset": ("0:1",)}, r"data.subset = \('0:1',\) is not allowed: one for each of the 2 files"),
        (
            {"subset": ("0:9", ":")},
            "data.subset = '0:9' is not allowed: start:stop .*within the 3 episodes of .*a.npz",
        ),
        ({"subset": (":", "1:1")}, "data.subset = '1:1' .* within the 2 episodes of .*b.npz"),
        ({"subset": ("-1:", ":")}, "data.subset = '-1:'"),
        ({"subset": ("::0", ":")}, "data.subset = '::0'"),
        ({"weights": (1.0,)}, r"data.weights = \(1.0,\) is not allowed: one for each of the 2 files"),
        ({"weights": (0.0, 0.0)}, "data.weights = .*at least one above 0"),
    ],
)
def test_options_that_do_not_fit(tmp_path, fields, message):
    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    with pytest.raises(ConfigError, match=message):
        several.read(f"{a},{b}", **fields)


def test_files_that_do_not_go_together(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b", width=4)
    with pytest.raises(
        DataError, match=r"b.npz: observations have vector \[4\], .*a.npz has vector \[3\]|b.npz: obs"
    ):
        several.read(f"{a},{b}")
    with pytest.raises(DataError, match="no data at .*c.npz"):
        several.read(f"{a},{tmp_path}/c.npz")


@pytest.mark.parametrize("which", ["all", "first"])
def test_shares_of_batches(tmp_path, which):
    """Window m of file g is drawn with probability share_g / M_g: a chi-squared test of 40,000 draws."""
    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    episodes = several.read(f"{a},{b}", weights=(1.0, 3.0))
    rows = window_rows(episodes, which)
    normalizer = fit(episodes.obs, episodes.action)
    firsts, shares = several.shares(episodes, rows)
    counts = {"all": (12, 4), "first": (3, 2)}[which]
    np.testing.assert_array_equal(firsts, np.cumsum([0, *counts]))
    np.testing.assert_allclose(shares, [0.25, 0.75])
    windows = make_windows(episodes, normalizer, 2, which)
    windows = windows.replace(files=(jnp.asarray(firsts), jnp.asarray(shares)))
    found = np.bincount(np.asarray(drawn(jax.random.key(0), windows, 40_000)), minlength=len(rows))
    expected = 40_000 * np.repeat(shares / np.asarray(counts), counts)
    assert stats.chisquare(found, expected).pvalue > 1e-3
    even = 40_000 * np.full(len(rows), 1 / len(rows))
    assert stats.chisquare(found, even).pvalue < 1e-9
    assert windows.take(np.arange(2)).files is None


def test_shares_of_the_files_that_are_left(tmp_path):
    """A file whose episodes are all held out gets nothing, and one with a share of 0 is never drawn."""
    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    episodes = several.read(f"{a},{b}", weights=(1.0, 3.0))
    firsts, shares = several.shares(episodes.select(np.arange(3)), np.arange(12))
    np.testing.assert_array_equal(firsts, [0, 12])
    np.testing.assert_array_equal(shares, [1.0])
    assert several.shares(several.read(f"{a},{b}"), np.arange(16)) is None
    none = several.read(f"{a},{b}", weights=(0.0, 3.0))
    with pytest.raises(ConfigError, match="above 0 for a file with episodes to train on"):
        several.shares(none.select(np.arange(3)), np.arange(12))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"weights": (1.0, 2.0), "path": "a,b", "stream": 1.0},
            "data.weights = .*data.stream draws every window once",
        ),
        ({"weights": (1.0, 2.0)}, "data.weights = .*data.path is empty"),
        ({"subset": ("0:1",)}, "data.subset = .*data.path is empty"),
        ({"weights": (-1.0, 2.0), "path": "a,b"}, "data.weights = .*each must be at least 0"),
    ],
)
def test_sections_that_cannot_work(fields, message):
    config = base_config()
    config.data.update(fields)
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_blocks_take_several_files(tmp_path):
    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    episodes = several.read(f"{a},{b}")
    normalizer = fit(episodes.obs, episodes.action)
    blocks = Blocks(episodes, normalizer, 2, 1.0, seed=0)
    np.testing.assert_array_equal(np.sort(blocks.rows(0)), np.arange(16))


def test_aggregated_rounds_keep_the_shares(tmp_path):
    """DAgger with nothing aggregated draws demonstrations alone: of a file with a share of 0 never one."""
    from mmbc_jax.core.types import PolicySpec
    from mmbc_jax.learners._relabel import Aggregate

    a, b = write(tmp_path, "a"), write(tmp_path, "b")
    episodes = several.read(f"{a},{b}", weights=(0.0, 1.0))
    windows = make_windows(episodes, fit(episodes.obs, episodes.action), 2)
    firsts, shares = several.shares(episodes, np.arange(16))
    aggregate = Aggregate.empty(1, PolicySpec(3, 2, 2))
    drawn_rows = {}
    for name, files in (("even", None), ("shares", (jnp.asarray(firsts), jnp.asarray(shares)))):
        batch = aggregate.sample(jax.random.key(0), windows.replace(files=files), 200)
        drawn_rows[name] = {tuple(row) for row in np.asarray(batch.obs)}
    second = {tuple(row) for row in np.asarray(windows.obs)[12:]}
    assert drawn_rows["shares"] == second
    assert len(drawn_rows["even"]) > len(second)
