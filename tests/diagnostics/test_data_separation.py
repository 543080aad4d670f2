import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import DataError
from mmbc_jax.data import load as load_lib
from mmbc_jax.data.windows import Windows, make_windows
from mmbc_jax.diagnostics.data_separation import cluster, group_statistics, separation
from mmbc_jax.ops import normalisation


def planted(centres, noise, per_mode=20, labelled=True, seed=0):
    """One window per episode at nearly the same observation; chunk [2, A] = centre of its mode + noise."""
    rng = np.random.default_rng(seed)
    centres = np.asarray(centres, float)
    modes, size = centres.shape
    mode = np.repeat(np.arange(modes), per_mode)
    chunk = np.repeat(centres[mode][:, None], 2, axis=1) + noise * rng.normal(size=(len(mode), 2, size))
    return Windows(
        obs=jnp.asarray(0.01 * rng.normal(size=(len(mode), 3)), jnp.float32),
        chunk=jnp.asarray(chunk, jnp.float32),
        mask=jnp.ones((len(mode), 2)),
        mode=jnp.asarray(mode if labelled else np.full(len(mode), -1), jnp.int32),
        episode=jnp.arange(len(mode), dtype=jnp.int32),
        step=jnp.zeros(len(mode), jnp.int32),
    )


SQUARE = [[0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]]


def test_group_statistics_by_hand():
    # Groups {0, 2} and {10, 14, 12} of one entry: centres 1 and 12, delta 11.
    # Squares (1 + 1) + (4 + 4 + 0) = 10 over 5 - 2 = 3 degrees: spread sqrt(10/3), ratio 11 / (2 * 1.8257).
    chunks = np.asarray([[0.0], [10.0], [2.0], [14.0], [99.0], [12.0]])
    found = group_statistics(chunks, np.asarray([0, 1, 0, 1, -1, 1]))
    assert found["modes"] == 2
    assert found["delta_min"] == found["delta_mean"] == 11
    assert found["spread"] == pytest.approx(np.sqrt(10 / 3))
    assert found["ratio"] == pytest.approx(3.0125, abs=1e-4)


def test_distance_is_root_mean_square_over_entries():
    # Difference (3, 4) over two entries: sqrt((9 + 16) / 2).
    found = group_statistics(np.asarray([[0.0, 0.0], [3.0, 4.0]]), np.asarray([0, 1]))
    assert found["delta_min"] == pytest.approx(np.sqrt(12.5))
    assert np.isnan(found["spread"])


@pytest.mark.parametrize("labelled", [True, False])
def test_planted_modes_are_found(labelled):
    noise = 0.05
    found = separation(planted(SQUARE, noise, labelled=labelled), num_anchors=10, neighbours=80)
    assert found["separation/modes"] == 4
    assert found["separation/modes_4"] == found["separation/multimodal"] == 1
    assert found["separation/neighbours"] == 80
    # Closed form. Centres differ by 1 in one of the two action entries: sqrt(1/2); the diagonals by 1 in
    # both: 1. Mean over 4 sides and 2 diagonals (4 * .7071 + 2) / 6 = .8047. A centre of 20 chunks errs by
    # .05 / sqrt(20) = .011 per entry, distances by less than 5 * .011; spread by .05 / sqrt(2 * 76 * 4) =
    # .002.
    for prefix in ("", "label_") if labelled else ("",):
        assert found[f"separation/{prefix}delta_min"] == pytest.approx(np.sqrt(0.5), abs=0.056)
        assert found[f"separation/{prefix}delta_mean"] == pytest.approx(0.8047, abs=0.056)
        assert found[f"separation/{prefix}spread"] == pytest.approx(noise, abs=0.01)
        assert found[f"separation/{prefix}ratio"] == pytest.approx(np.sqrt(0.5) / (2 * noise), rel=0.2)
    assert np.isnan(found["separation/label_modes"]) != labelled


@pytest.mark.parametrize("modes", [2, 3, 5])
def test_number_of_modes_on_a_line(modes):
    # Centres 6 deviations apart; the module promises from 4 on.
    chunks = np.repeat(6.0 * np.arange(modes), 30) + np.random.default_rng(1).normal(size=30 * modes)
    labels = cluster(chunks[:, None], 8, seed=0)
    assert len(np.unique(labels)) == modes
    assert (labels.reshape(modes, 30) == labels.reshape(modes, 30)[:, :1]).mean() > 0.98


def test_exact_copies_are_modes():
    chunks = np.repeat(np.asarray([[0.0], [1.0], [3.0]]), 10, axis=0)
    assert len(np.unique(cluster(chunks, 8, seed=0))) == 3
    assert len(np.unique(cluster(np.zeros((30, 2)), 8, seed=0))) == 1
    assert group_statistics(chunks, np.repeat([0, 1, 2], 10))["ratio"] == pytest.approx(1 / 2e-4)


@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_one_cloud_is_one_mode(size, kind):
    rng = np.random.default_rng(2)
    for seed in range(5):
        chunks = rng.normal(size=(64, size)) if kind == "normal" else rng.uniform(size=(64, size))
        assert len(np.unique(cluster(chunks, 6, seed))) == 1


def test_unimodal_demonstrations():
    found = separation(planted([[0.2, -0.3]], 0.1, per_mode=60), num_anchors=5)
    assert found["separation/modes"] == found["separation/modes_1"] == 1
    assert found["separation/multimodal"] == 0
    assert np.isnan(found["separation/ratio"])
    # One label: sigma of 60 chunks of 4 entries errs by .1 / sqrt(2 * 59 * 4) = .0046.
    assert found["separation/label_spread"] == pytest.approx(0.1, abs=5 * 0.0046)


def test_keys_do_not_depend_on_the_data():
    keys = [
        tuple(separation(windows, num_anchors=2, max_modes=3))
        for windows in (
            planted(SQUARE, 0.1),
            planted(SQUARE, 0.1, labelled=False),
            planted(SQUARE, 0.1, per_mode=1),
        )
    ]
    assert keys[0] == keys[1] == keys[2]
    assert all(key.startswith("separation/") for key in keys[0])


def test_too_few_neighbours_leave_an_anchor_out():
    windows = planted(SQUARE, 0.1, per_mode=1)
    found = separation(windows, num_anchors=4, min_neighbours=5)
    assert found["separation/anchors"] == 0
    assert np.isnan(found["separation/modes"])
    assert separation(windows, num_anchors=4, min_neighbours=4)["separation/anchors"] == 4


def test_far_observations_do_not_vote():
    # Two places, one mode each: near every anchor there is one mode only.
    windows = planted([[0.5, 0.5], [-0.5, -0.5]], 0.05)
    apart = windows.replace(obs=windows.obs + windows.mode[:, None].astype(jnp.float32))
    assert separation(windows, num_anchors=8)["separation/modes"] == 2
    found = separation(apart, num_anchors=8)
    assert found["separation/modes"] == found["separation/label_modes"] == 1
    assert found["separation/neighbours"] == 20
    assert separation(apart, num_anchors=8, radius=2.0)["separation/modes"] == 2


def test_an_episode_votes_once():
    # Episodes 0 .. 9 pass five times, in two modes; each counts once.
    windows = planted([[0.5, 0.5], [-0.5, -0.5]], 0.05, per_mode=25)
    windows = windows.replace(episode=jnp.arange(50, dtype=jnp.int32) // 5)
    found = separation(windows, num_anchors=8)
    assert found["separation/neighbours"] == 10
    assert found["separation/modes"] == 2


def test_padded_windows_do_not_count():
    windows = planted(SQUARE, 0.05)
    # Mode 3 is recorded to the end nowhere.
    padded = windows.replace(mask=windows.mask.at[:, 1].set(jnp.where(windows.mode == 3, 0.0, 1.0)))
    assert separation(padded, num_anchors=5)["separation/modes"] == 3
    with pytest.raises(DataError, match="no window is fully recorded"):
        separation(windows.replace(mask=windows.mask.at[:, 1].set(0.0)))


def test_seed_decides():
    windows = planted(SQUARE, 0.3)
    first, again, other = (separation(windows, num_anchors=3, seed=s) for s in (0, 0, 1))
    assert first == pytest.approx(again, nan_ok=True)
    assert first["separation/neighbour_distance"] != other["separation/neighbour_distance"]


@pytest.mark.parametrize("field", ["num_anchors", "neighbours", "max_modes", "min_neighbours", "radius"])
def test_refuses(field):
    with pytest.raises(ValueError, match="need"):
        separation(planted(SQUARE, 0.1), **{field: 0})


def test_human_paths_cross_in_two_headings(shared_data):
    # The drawn `two_roads` start at two places and cross: where both come by, there are two headings.
    options = load_lib.ReaderOptions(shapes=("two_roads",), stride=5)
    episodes = load_lib.load(shared_data / "lair" / "lair_human_2d.npz", options)
    windows = make_windows(episodes, normalisation.fit(episodes.obs, episodes.action), 8)
    found = separation(windows, num_anchors=200, min_neighbours=12)
    assert found["separation/anchors"] > 5
    assert found["separation/modes"] > 1.5
    assert found["separation/modes_max"] == 2
