import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import adjusted_rand_score, mutual_info_score, normalized_mutual_info_score

from mmbc_jax.ops import mutual_information as information


def test_entropy_of_one_half_and_two_quarters():
    # p = 1/2, 1/4, 1/4: H = 1/2 log 2 + 2 * 1/4 log 4 = 1.5 log 2 = 1.0397207708
    assert information.entropy([4, 2, 2]) == pytest.approx(1.0397207708, abs=1e-10)
    assert information.entropy([4, 2, 2], base=2) == pytest.approx(1.5)
    # base 3, the number of classes: 1.5 log 2 / log 3 = 0.9463946304
    assert information.entropy([4, 2, 2], base=3) == pytest.approx(0.9463946304, abs=1e-10)


@pytest.mark.parametrize("base", [None, 2.0, 24.0])
def test_entropy_agrees_with_scipy(base):
    counts = np.random.default_rng(0).integers(0, 40, 24)
    assert information.entropy(counts, base) == pytest.approx(
        float(stats.entropy(counts, base=base)), rel=1e-12
    )


def test_entropy_of_one_class_and_of_nothing_is_zero():
    assert information.entropy([0, 7, 0]) == 0.0
    assert math.copysign(1, information.entropy([0, 7, 0])) == 1.0  # not a negative zero
    assert information.entropy([0, 0]) == 0.0


def test_perplexity_counts_equal_classes():
    assert information.perplexity([5, 5, 0, 5]) == pytest.approx(3.0)
    assert information.perplexity([9, 0]) == 1.0


@pytest.mark.parametrize(
    ("counts", "base"), [([1, -1], None), ([[1, 2]], None), ([1.0, math.nan], None), ([1, 2], 1.0)]
)
def test_entropy_rejects(counts, base):
    with pytest.raises(ValueError, match=r"count|base"):
        information.entropy(counts, base)


def test_mutual_information_of_a_binary_channel():
    # p(x) = 1/2, flips with 1/4: I = log 2 - H(1/4)
    #   H(1/4) = -(.25 log .25 + .75 log .75) = .3465735903 + .2157615543 = .5623351446
    #   I = .6931471806 - .5623351446 = .1308120360
    assert information.mutual_information([[3, 1], [1, 3]]) == pytest.approx(0.1308120360, abs=1e-10)


def test_mutual_information_agrees_with_scikit_learn():
    table = np.random.default_rng(1).integers(0, 9, (16, 24))
    expected = mutual_info_score(None, None, contingency=table)
    assert information.mutual_information(table) == pytest.approx(expected, rel=1e-10)


def test_mutual_information_of_independence_and_identity():
    assert information.mutual_information(np.outer([1, 2, 3], [4, 5])) == pytest.approx(0.0, abs=1e-12)
    assert information.mutual_information(np.eye(8) * 5) == pytest.approx(math.log(8))
    assert information.mutual_information(np.zeros((2, 3))) == 0.0


def test_corrected_mutual_information_subtracts_the_occupied_cells():
    # n = 8, two rows, two columns, four cells: correction (2 + 2 - 4 - 1) / 16 = -1/16
    expected = 0.1308120360 - 1 / 16
    assert information.mutual_information_corrected([[3, 1], [1, 3]]) == pytest.approx(expected, abs=1e-10)
    # one occupied cell a row: (4 + 2 - 4 - 1) / (2 * 42) = +1/84, each plug-in entropy being too small
    value = information.mutual_information_corrected([[3, 0], [0, 11], [13, 0], [0, 15]])
    assert value == pytest.approx(information.mutual_information([[16, 0], [0, 26]]) + 1 / 84)
    # a diagonal table would get log 4 + 3/80, more than any table of its size can hold
    assert information.mutual_information_corrected(np.eye(4) * 10) == math.log(4)
    assert information.mutual_information_corrected([[1, 1], [1, 1]]) == 0.0  # -1/8, cut off
    assert information.mutual_information_corrected(np.zeros((2, 2))) == 0.0


def test_correction_removes_most_of_the_bias_of_independent_labels():
    rng = np.random.default_rng(0)
    plain, corrected = [], []
    for _ in range(200):
        table = rng.multinomial(1000, np.full(16 * 12, 1 / 192)).reshape(16, 12)
        plain.append(information.mutual_information(table))
        joint, n = table.astype(float), 1000
        cells = (joint.sum(1) > 0).sum() + (joint.sum(0) > 0).sum() - (joint > 0).sum() - 1
        corrected.append(plain[-1] + cells / (2 * n))  # uncut, so that its mean can be compared with 0
    # theory: bias (16 - 1)(12 - 1) / 2000 = .0825 nats; twice that is chi-square with 165 degrees of
    # freedom over n, so one value has standard deviation sqrt(2 * 165) / 2000 = .00908; mean of 200: .00064
    assert np.mean(plain) == pytest.approx(0.0825, abs=5 * 0.00064 + 0.004)  # second-order term below .004
    assert abs(np.mean(corrected)) < 5 * 0.00064 + 0.004


def test_labels_of_is_the_inverse_of_counting():
    table = np.array([[2, 0, 1], [0, 3, 0]])
    x, y = information.labels_of(table)
    counted = np.zeros_like(table)
    np.add.at(counted, (x, y), 1)
    np.testing.assert_array_equal(counted, table)
    assert x.shape == y.shape == (6,)


def test_nmi_and_ari_by_hand():
    a, b = [0, 0, 1, 1], [0, 0, 1, 2]
    # H(a) = log 2, H(b) = 1.5 log 2, I = H(a) = log 2, so 2 I / (H_a + H_b) = 2 / 2.5
    assert information.nmi(a, b) == pytest.approx(0.8)
    # pairs together: both 1, a 2, b 1 of 6; expected 2 * 1 / 6 = 1/3; (1 - 1/3) / (1.5 - 1/3) = 4/7
    assert information.ari(a, b) == pytest.approx(4 / 7)
    assert information.nmi(a, [5, 5, 3, 3]) == information.ari(a, [5, 5, 3, 3]) == 1.0
    assert information.nmi([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0.0, abs=1e-12)


def test_nmi_from_a_table_agrees_with_its_definition():
    table = np.random.default_rng(2).integers(0, 6, (5, 7))
    h = information.entropy(table.sum(0)) + information.entropy(table.sum(1))
    x, y = information.labels_of(table)
    assert information.nmi(x, y) == pytest.approx(2 * information.mutual_information(table) / h, rel=1e-9)
    assert information.nmi(x, y) == pytest.approx(normalized_mutual_info_score(x, y))
    assert information.ari(x, y) == pytest.approx(adjusted_rand_score(x, y))
