import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.core.types import Rollouts
from mmbc_jax.diagnostics import modes


def episodes(table, log_q=math.nan):
    """Rollouts whose count table is `table` [Z][K + 1], last column failed."""
    table = np.asarray(table)
    rows = [(z, k) for z in range(table.shape[0]) for k in range(table.shape[1]) for _ in range(table[z, k])]
    z, k = np.array(rows, int).T
    success = k < table.shape[1] - 1
    return Rollouts(
        success=jnp.asarray(success), mode=jnp.where(jnp.asarray(success), k, -1), z=jnp.asarray(z),
        reward=jnp.asarray(success, jnp.float32), steps=jnp.full(len(z), 7), log_q=jnp.full(len(z), log_q),
        path=jnp.zeros((0, 1, 2)), path_mask=jnp.zeros((0, 1)),
    )  # fmt: skip


# two commands, three modes; z 0 owns mode 0, z 1 splits between modes 0 and 1
TABLE = [[18, 0, 0, 2], [10, 30, 0, 10]]


@pytest.fixture(scope="module")
def golden():
    return modes.mode_metrics(episodes(TABLE, log_q=-0.2), num_modes=3, num_z=2)


def test_success(golden):
    assert golden["n"] == 70
    assert golden["success_rate"] == pytest.approx(58 / 70)
    expected = stats.binomtest(58, 70).proportion_ci(method="wilson")
    assert golden["wilson95"] == pytest.approx([expected.low, expected.high])
    assert golden["success_per_z"] == pytest.approx([18 / 20, 40 / 50])
    first = stats.binomtest(18, 20).proportion_ci(method="wilson")
    assert golden["wilson95_per_z"][0] == pytest.approx([first.low, first.high])


def test_failures_of_an_impure_command_leave_success_per_mode_open(golden):
    # z 0 is pure, its 2 failures are mode 0's; z 1 has 10 : 30, so nobody knows what its 10 failures attempted
    assert golden["success_per_mode"] is golden["sr_m"] is golden["mc_08"] is None
    assert golden["failures_attributed"] == pytest.approx(2 / 12)
    # 28 and 30 successes stand 7 failures each; 12 undo one at most, or none: the third mode, unreached, takes them
    assert golden["mc_08_bounds"] == pytest.approx([1 / 3, 2 / 3])
    assert golden["success_per_mode_bounds"] == [[28 / 40, 1.0], [30 / 42, 1.0], [0.0, 0.0]]
    # all to the unreached mode; or spread over both, 7 : 5 by marginal costs
    worst = min(28 / (28 + a) + 30 / (42 - a) for a in range(13)) / 3
    assert golden["sr_m_bounds"] == pytest.approx([worst, 2 / 3])


def test_an_environment_that_labels_failures_is_believed():
    """50 episodes a mode without z: one at .98, one at .70, and their failures come nearest to their own mode."""
    rollouts = episodes([[49, 35, 16]])
    nearest = jnp.array([0] * 49 + [1] * 35 + [0] + [1] * 15, jnp.float32)
    found = modes.mode_metrics(rollouts.replace(outcome={"nearest_mode": nearest}), 2, 1)
    assert found["success_per_mode"] == pytest.approx([0.98, 0.7])
    assert found["mc_08"] == 0.5
    assert found["failures_attributed"] == 1.0


def test_shares(golden):
    # 28 and 30 of 58
    p = np.array([28, 30]) / 58
    assert golden["mode_share"] == pytest.approx([28 / 58, 30 / 58, 0])
    assert golden["modes_kept"] == 2
    assert golden["exp_entropy"] == pytest.approx(math.exp(stats.entropy(p)))
    assert golden["mode_entropy"] == pytest.approx(stats.entropy(p) / math.log(3))
    assert golden["largest_share"] == pytest.approx(30 / 58)


def test_command(golden):
    assert golden["z_mode_table"] == TABLE
    assert golden["dominant_mode"] == [0, 1]
    # z 0 is pure; z 1's purity is 30 / 40 = .75 < .8, so mode 1 is not commandable
    assert golden["commandable"] == 1
    # H(z) + H(mode) - H(z, mode) over 58 successes
    h = stats.entropy([18, 40]) + stats.entropy([28, 30]) - stats.entropy([18, 10, 30])
    assert golden["mi_z_mode"] == pytest.approx(h)
    # occupied: 2 rows + 2 columns - 3 cells - 1 = 0, so the correction vanishes here
    assert golden["mi_z_mode_corrected"] == pytest.approx(h)
    assert golden["nmi_z_mode"] == pytest.approx(2 * h / (stats.entropy([18, 40]) + stats.entropy([28, 30])))
    assert golden["mi_estimate"] == pytest.approx(-0.2 + math.log(2), abs=1e-6)


def test_means_and_their_bootstrap(golden):
    assert golden["mean_steps"] == 7.0
    assert golden["mean_reward"] == pytest.approx(58 / 70)
    low, high = golden["bootstrap95"]["mean_reward"]
    assert low < 58 / 70 < high
    assert golden["bootstrap95"]["mean_steps"] == [7.0, 7.0]


def test_without_z_failures_tell_nothing_of_modes():
    result = modes.mode_metrics(episodes([[60, 20, 0, 20]]), 3, 1)
    assert result["success_per_mode"] is result["mc_08"] is result["sr_m"] is None
    # the unreached mode may have attempted them all; or mode 0 loses 16 and one other, or mode 1 its 6
    assert result["mc_08_bounds"] == pytest.approx([1 / 3, 2 / 3])
    assert result["mi_z_mode"] == 0.0
    assert result["nmi_z_mode"] == 0.0
    assert result["mi_estimate"] is None
    assert result["bootstrap95"]["mi_estimate"] is None


def test_stray_successes_keep_no_mode():
    # 1 of 101 successes is 0.99 %, 1 of 100 is 1 %
    below = modes.mode_metrics(episodes([[100, 1, 0]]), 2, 1)
    at = modes.mode_metrics(episodes([[99, 1, 0]]), 2, 1)
    assert (below["modes_kept"], at["modes_kept"]) == (1, 2)
    assert below["success_per_mode"] == [1.0, 0.0]
    assert at["mc_08"] == 1.0
    # 7 of 700: 0.01 * 700 is above 7 in floating point, the share is exactly 1 %
    assert modes.mode_metrics(episodes([[693, 7, 0]]), 2, 1)["modes_kept"] == 2


def test_commandable_needs_five_successes_and_purity():
    # z 0: 4 pure successes, too few; z 1: 4 of 5 = .8; z 2: mode 1 again; z 3: 7 of 9 = .78
    table = [[4, 0, 0, 0], [0, 4, 1, 9], [0, 30, 0, 0], [2, 0, 7, 0]]
    assert modes.mode_metrics(episodes(table), 3, 4)["commandable"] == 1


def test_a_perfect_command_reaches_the_bounds():
    result = modes.mode_metrics(episodes(np.eye(4, 5, dtype=int) * 25), 4, 4)
    assert result["mi_z_mode"] == pytest.approx(math.log(4))
    assert result["nmi_z_mode"] == pytest.approx(1.0)
    assert result["mode_entropy"] == pytest.approx(1.0)
    assert result["exp_entropy"] == pytest.approx(4.0)
    assert (result["commandable"], result["modes_kept"], result["sr_m"]) == (4, 4, 1.0)


def test_nothing_succeeds():
    result = modes.mode_metrics(episodes([[0, 0, 6], [0, 0, 4]]), 2, 2)
    assert result["success_rate"] == 0.0
    assert result["modes_kept"] == result["commandable"] == 0
    assert result["success_per_mode"] is None
    assert result["mc_08"] == 0.0  # whatever the failures attempted
    assert result["sr_m_bounds"] == [0.0, 0.0]
    for name in ("mode_share", "mode_entropy", "exp_entropy", "largest_share", "mi_z_mode", "nmi_z_mode"):
        assert result[name] is None
    assert result["dominant_mode"] == [-1, -1]


def test_an_environment_without_modes():
    rollouts = episodes([[3, 1], [0, 4]])
    result = modes.mode_metrics(rollouts.replace(mode=jnp.full(8, -1)), 0, 2)
    assert all(result[name] is None for name in modes.MODE_KEYS)
    assert result["success_rate"] == 3 / 8
    assert result["success_per_z"] == [0.75, 0.0]


def test_unlabelled_successes_and_undrawn_commands():
    rollouts = episodes([[3, 2, 0], [0, 0, 0]])
    rollouts = rollouts.replace(mode=jnp.array([0, 0, -1, 1, 1]))
    result = modes.mode_metrics(rollouts, 2, 2)
    assert result["success_rate"] == 1.0
    assert result["z_mode_table"] == [[2, 2, 0], [0, 0, 0]]
    assert result["success_per_z"] == [1.0, None]
    assert result["wilson95_per_z"][1] == [0.0, 1.0]


@pytest.mark.parametrize(("num_modes", "num_z"), [(1, 2), (3, 1)])
def test_labels_out_of_range_are_refused(num_modes, num_z):
    with pytest.raises(ValueError, match=r"z in|mode labels"):
        modes.count_table(episodes(TABLE), num_modes, num_z)


def test_no_episodes_are_refused():
    empty = Rollouts(*[np.zeros(0, int)] * 6, path=np.zeros((0, 1, 2)), path_mask=np.zeros((0, 1)))
    with pytest.raises(ValueError, match="no episodes"):
        modes.mode_metrics(empty, 2, 1)


def test_aggregate_over_seeds():
    seeds = [modes.mode_metrics(episodes([[k, 0, 10 - k]]), 2, 1) | {"note": None} for k in (6, 8, 10)]
    result = modes.aggregate(seeds)
    entry = result["success_rate"]
    assert entry["mean"] == pytest.approx(0.8)
    assert entry["per_seed"] == [0.6, 0.8, 1.0]
    assert entry["n"] == 10
    # half width 4.302653 * .2 / sqrt(3) = .496828; the upper end is clipped. Wilson lies inside: the variance of the
    # seeds, .08 / 3, is worth 30 * .8 * .2 / (10 * .08 / 3) = 18 trials
    assert entry["ci95"] == pytest.approx([0.8 - 0.496828, 1.0], abs=1e-6)
    assert entry["wilson95"] == [seed["wilson95"] for seed in seeds]
    assert result["mode_share"] == {"per_seed": [[1.0, 0.0]] * 3}
    assert result["note"] == {"mean": None, "per_seed": [None] * 3, "ci95": None, "n": 10}
    assert set(result["modes_kept"]) == {"mean", "per_seed", "ci95", "n"}
    assert not {"n", "wilson95", "bootstrap95"} & set(result)


def test_intervals_of_equal_seeds_have_width_and_stay_in_the_domain():
    """Three seeds of 10 successes of 10: 30 trials for the success rate; three for what is no share of episodes;

    a count keeps the width of its rounding, t_2 / sqrt(12 * 3) = .717.
    """
    seeds = [modes.mode_metrics(episodes([[5, 5, 0]]), 2, 1) for _ in range(3)]
    result = modes.aggregate(seeds)
    pooled = stats.binomtest(30, 30).proportion_ci(method="wilson")
    assert result["success_rate"]["ci95"] == pytest.approx([pooled.low, 1.0])
    three = stats.binomtest(3, 3).proportion_ci(method="wilson").low
    assert result["modes_kept"]["ci95"] == pytest.approx([2 - 0.7171, 2.0], abs=1e-3)
    assert result["mode_entropy"]["ci95"] == pytest.approx([three, 1.0])
    assert result["exp_entropy"]["ci95"] == pytest.approx([1 + three, 2.0])
    # one seed: Wilson for a share of episodes
    one = modes.aggregate([{"n": 8, "bridge_fraction": 0.875}])["bridge_fraction"]["ci95"]
    assert one == pytest.approx([0.529, 0.978], abs=1e-3)


def test_aggregate_of_one_seed_uses_the_interval_over_episodes():
    seed = modes.mode_metrics(episodes(TABLE, log_q=-0.2), 3, 2)
    result = modes.aggregate([seed])
    assert result["success_rate"]["ci95"] == seed["wilson95"]
    assert result["mean_reward"]["ci95"] == seed["bootstrap95"]["mean_reward"]
    assert result["modes_kept"]["ci95"] is None


def test_aggregate_skips_missing_values_but_lists_them():
    good = modes.mode_metrics(episodes([[5, 5, 0]]), 2, 1)
    bad = modes.mode_metrics(episodes([[0, 0, 10]]), 2, 1)
    result = modes.aggregate([good, bad])
    assert result["mode_entropy"] == {"mean": 1.0, "per_seed": [1.0, None], "ci95": None, "n": 10}
    assert result["mode_share"]["per_seed"] == [[0.5, 0.5], None]


@pytest.mark.parametrize("seeds", [[], [{"n": 3, "success_rate": 1.0}, {"n": 4, "success_rate": 1.0}]])
def test_aggregate_rejects(seeds):
    with pytest.raises(ValueError, match="seeds"):
        modes.aggregate(seeds)


def test_stability():
    # one-to-one in both seeds: the partitions agree although z means other modes; sets {0,1,2} and {0,1,3}
    same = modes.stability([[0, 1, 2], [3, 0, 1]])
    assert same == {"nmi": pytest.approx(1.0), "ari": pytest.approx(1.0), "overlap": 0.5, "pairs": 1}
    # as in the hand-worked case of nmi and ari: 0.8 and 4/7; sets {0,1} and {0,1,2}
    other = modes.stability([[0, 0, 1, 1], [0, 0, 1, 2]])
    assert other == {
        "nmi": pytest.approx(0.8), "ari": pytest.approx(4 / 7), "overlap": pytest.approx(2 / 3), "pairs": 1
    }  # fmt: skip


def test_stability_leaves_out_commands_that_fail_and_lone_seeds():
    assert modes.stability([[0, 1, 2]]) is None
    assert modes.stability([[0, -1, -1], [0, 1, 2]]) is None
    # the third z fails in one seed; the other two agree
    assert modes.stability([[0, 1, -1], [2, 3, 3]])["ari"] == pytest.approx(1.0)
    assert modes.stability([[0, 1], [0, 1], [0, 1]])["pairs"] == 3


def test_seeds_whose_commands_are_all_obeyed_have_an_interval():
    """The corrected information of perfect commands lies at its highest value, and not above it."""
    table = np.pad(10 * np.eye(4, dtype=int), ((0, 0), (0, 1)))
    tables = table, np.roll(table, 1, axis=0)
    seeds = [modes.mode_metrics(episodes(one), num_modes=4, num_z=4) for one in tables]
    entry = modes.aggregate(seeds)["mi_z_mode_corrected"]
    assert entry["mean"] == pytest.approx(math.log(4))
    assert entry["ci95"][1] == pytest.approx(math.log(4))
