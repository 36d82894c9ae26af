"""Intervals: against hand-worked values and scipy, and how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from gmai_vl.evaluation.statistics import clustered, effective_number, paired_difference, wilson


def test_wilson_of_7_of_10_by_hand():
    # z^2 = 3.8415, middle = (0.7 + 0.19207) / 1.38415 = 0.64449
    # half = 1.95996 / 1.38415 * sqrt(0.021 + 0.0096036) = 0.24772
    assert wilson(7, 10) == pytest.approx((0.39678, 0.89221), abs=1e-4)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts):
    k, n = counts
    reference = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((reference.low, reference.high), abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_no_proportion_is_refused(k, n):
    with pytest.raises(ValueError, match="no proportion"):
        wilson(k, n)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_one_answer_per_patient_is_wilson(right):
    assert clustered(right, range(len(right))) == wilson(sum(right), len(right))


@given(st.lists(st.booleans(), min_size=2, max_size=30), st.integers(2, 12))
def test_patients_who_answer_all_alike_count_once(right, each):
    """Homogeneous patients: n answers say no more than the patients, so the interval is no narrower than theirs."""
    repeated = [answer for answer in right for _ in range(each)]
    patients = [patient for patient in range(len(right)) for _ in range(each)]
    low, high = clustered(repeated, patients)
    alone_low, alone_high = wilson(sum(right), len(right))
    assert low <= alone_low + 1e-9
    assert high >= alone_high - 1e-9
    naive_low, naive_high = wilson(sum(repeated), len(repeated))
    assert high - low > naive_high - naive_low


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=80), st.randoms())
def test_clustered_is_a_proper_interval_whatever_the_order(answers, random):
    low, high = clustered([right for right, _ in answers], [patient for _, patient in answers])
    share = sum(right for right, _ in answers) / len(answers)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    random.shuffle(answers)
    again = clustered([right for right, _ in answers], [patient for _, patient in answers])
    assert again == pytest.approx((low, high))


def test_a_single_patient_says_nothing_of_patients():
    assert clustered([True] * 9 + [False], ["p"] * 10) == (0.0, 1.0)


def test_all_right_counts_patients():
    assert effective_number([True] * 100, [n // 10 for n in range(100)]) == 10


@pytest.mark.parametrize(
    "alpha_beta", [(2.0, 2.0), (9.0, 1.0), (200.0, 20.0)], ids=["alike", "near-one", "independent"]
)
@pytest.mark.parametrize("patients", [8, 40])
def test_nine_to_ten_of_ten_intervals_hold_the_truth(alpha_beta, patients):
    """Patients draw their own chance of a right answer, so the truth is the mean of that draw."""
    rng = np.random.default_rng(5)
    alpha, beta = alpha_beta
    truth = alpha / (alpha + beta)
    holds = wilson_holds = 0
    trials = 400
    for _ in range(trials):
        sizes = rng.integers(5, 16, size=patients)
        chances = rng.beta(alpha, beta, size=patients)
        right = np.concatenate(
            [rng.random(size) < chance for size, chance in zip(sizes, chances, strict=True)]
        ).tolist()
        low, high = clustered(right, np.repeat(np.arange(patients), sizes).tolist())
        holds += low <= truth <= high
        low, high = wilson(sum(right), len(right))
        wilson_holds += low <= truth <= high
    assert 0.92 <= holds / trials <= 1.0
    if alpha_beta == (2.0, 2.0):
        assert wilson_holds / trials < 0.85  # so that this test can fail


def test_paired_difference_by_hand():
    a, b = [True, True, True, False], [True, False, False, False]
    difference = paired_difference(a, b, ["p", "p", "q", "q"])
    assert difference.value == 0.5
    # both patients gain 1 of 2, so every draw of patients gives the same difference
    assert difference.interval == pytest.approx((0.5, 0.5))


def test_paired_difference_is_seeded_antisymmetric_and_holds_the_truth():
    rng = np.random.default_rng(1)
    holds = 0
    for trial in range(150):
        patients = np.repeat(np.arange(30), 8).tolist()
        skill = np.repeat(rng.beta(4, 4, size=30), 8)
        a, b = (rng.random(240) < skill + 0.1).tolist(), (rng.random(240) < skill).tolist()
        difference = paired_difference(a, b, patients, seed=trial, resamples=500)
        truth = 0.1 - np.maximum(skill + 0.1 - 1, 0).mean()
        holds += difference.interval[0] <= truth <= difference.interval[1]
    assert 0.90 <= holds / 150 <= 0.99
    same = paired_difference(a, b, patients, seed=3)
    assert same == paired_difference(a, b, patients, seed=3)
    swapped = paired_difference(b, a, patients, seed=3)
    assert swapped.value == -same.value
    assert swapped.interval == pytest.approx((-same.interval[1], -same.interval[0]))


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="paired"):
        paired_difference([True], [True, False], ["p"])
