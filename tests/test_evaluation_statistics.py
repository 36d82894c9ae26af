"""Intervals: against hand-worked values and scipy, and how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from gmai_vl.evaluation.statistics import bootstrap_mean, clustered, effective_number, paired_difference, wilson


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


def test_few_patients_count_less_by_students_t():
    # the patients do not differ at all, so the design effect is 1; t(0.975) is 2.5706 for 5 degrees and 4.3027 for 2
    assert effective_number([True, False] * 3, list("ppqqrr")) == pytest.approx(6 * (2.5706 / 4.3027) ** 2, rel=1e-4)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_effective_number_knows_no_unit(answers):
    """Counting right and wrong as 1 and -1 says as much as counting them as 1 and 0."""
    right, patients = [right for right, _ in answers], [patient for _, patient in answers]
    assert effective_number([2 * answer - 1 for answer in right], patients) == pytest.approx(
        effective_number(right, patients)
    )


def test_effective_number_of_differences_is_the_spread_of_their_mean():
    """Differences -1, 0, 1 that lean one way within a patient: n_eff = variance of one over variance of the mean."""
    rng = np.random.default_rng(8)
    patients = np.repeat(np.arange(80), 6)
    means, numbers = [], []
    for _ in range(600):
        lean = np.repeat(rng.beta(1, 1, size=80), 6)
        differences = np.where(rng.random(480) < 0.5, np.where(rng.random(480) < lean, 1, -1), 0)
        means.append(differences.mean())
        numbers.append(effective_number(differences.tolist(), patients.tolist()))
    truth = 0.5 / np.var(means)
    assert truth < 330  # of 480 answers, so that this test can fail
    assert np.mean(numbers) == pytest.approx(truth, rel=0.12)


def test_the_difference_of_a_single_patient_says_nothing_of_patients():
    assert paired_difference([True, True], [True, False], ["p", "p"]).interval == (-1.0, 1.0)


def test_eighty_thousand_patients_cost_no_more_than_their_kinds():
    """Drawn one by one they would take some 3 GB for each thousand draws."""
    rng = np.random.default_rng(6)
    a, b = rng.random(80_000) < 0.7, rng.random(80_000) < 0.6
    difference = paired_difference(a.tolist(), b.tolist(), range(80_000))
    half = 1.96 * (a.astype(float) - b).std() / np.sqrt(80_000)
    assert difference.interval == pytest.approx((difference.value - half, difference.value + half), abs=half / 8)


def test_bootstrap_mean_of_two_clusters_by_hand():
    # means of the draws pp, pq, qp and qq: 0.2, 0.5, 0.5 and 0.6, each a quarter
    credits, clusters = [0.2, 0.4, 0.8, 0.6], ["p", "q", "q", "q"]
    assert bootstrap_mean(credits, clusters) == pytest.approx((0.2, 0.6))
    assert bootstrap_mean([0.3, 0.3, 0.3], ["p", "p", "q"]) == pytest.approx((0.3, 0.3))
    assert bootstrap_mean([0.3, 0.9], ["p", "p"]) == (0.0, 1.0)


def test_bootstrap_mean_is_that_of_drawing_cluster_by_cluster():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(30), rng.integers(1, 9, size=30))
    credits = np.clip(rng.beta(2, 2, size=30)[clusters] + rng.normal(0, 0.1, size=len(clusters)), 0, 1)
    means = []
    for _ in range(5000):
        chosen = [credits[clusters == cluster] for cluster in rng.integers(0, 30, size=30)]
        means.append(np.concatenate(chosen).mean())
    low, high = bootstrap_mean(credits.tolist(), clusters.tolist())
    assert (low, high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=0.15 * np.std(means))
    alone = bootstrap_mean(credits.tolist(), range(len(credits)))
    assert alone[1] - alone[0] < 0.7 * (high - low)  # so that this test can fail


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=40), st.randoms())
def test_bootstrap_mean_holds_the_mean_whatever_the_order_and_names(answers, random):
    low, high = bootstrap_mean([credit for credit, _ in answers], [cluster for _, cluster in answers], resamples=400)
    mean = sum(credit for credit, _ in answers) / len(answers)
    assert -1e-12 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1 + 1e-12
    random.shuffle(answers)
    again = bootstrap_mean([credit for credit, _ in answers], [f"c{of}" for _, of in answers], resamples=400)
    assert again == (low, high)


def test_bootstrap_mean_of_many_kinds_of_clusters_is_the_normal_interval():
    """So many that the draws are made in several parts."""
    credits = np.random.default_rng(1).random(4000)
    half = 1.96 * credits.std() / np.sqrt(4000)
    interval = bootstrap_mean(credits.tolist(), range(4000), resamples=3000)
    assert interval == pytest.approx((credits.mean() - half, credits.mean() + half), abs=half / 8)


def test_bootstrap_mean_is_seeded_and_of_verdicts_the_difference_to_nothing_right():
    rng = np.random.default_rng(2)
    right, patients = (rng.random(90) < 0.6).tolist(), rng.integers(0, 20, size=90).tolist()
    interval = bootstrap_mean(right, patients, seed=4)
    assert interval == paired_difference(right, [False] * 90, patients, seed=4).interval
    assert interval != bootstrap_mean(right, patients, seed=5)
    assert interval == pytest.approx(bootstrap_mean(right, patients, seed=5), abs=0.01)


def test_bootstrap_mean_holds_the_truth():
    """Patients draw their own mean credit, 0.7 on average."""
    rng = np.random.default_rng(9)
    holds = naive_holds = 0
    for trial in range(200):
        patients = np.repeat(np.arange(40), 8).tolist()
        skill = np.repeat(rng.beta(3.5, 1.5, size=40), 8)
        credits = np.clip(skill + rng.uniform(-0.1, 0.1, size=320) * np.minimum(skill, 1 - skill), 0, 1).tolist()
        low, high = bootstrap_mean(credits, patients, seed=trial, resamples=200)
        holds += low <= 0.7 <= high
        low, high = bootstrap_mean(credits, range(320), seed=trial, resamples=200)
        naive_holds += low <= 0.7 <= high
    assert 0.90 <= holds / 200 <= 0.98
    assert naive_holds / 200 < 0.7  # so that this test can fail


@pytest.mark.parametrize(
    ("credits", "clusters", "complaint"),
    [
        ([], [], "no mean"),
        ([0.5], ["p", "q"], "no mean"),
        ([1.5], ["p"], "1.5"),
        ([-0.1], ["p"], "-0.1"),
        ([np.nan], ["p"], "nan"),
    ],
)
def test_what_are_no_credits_is_refused(credits, clusters, complaint):
    with pytest.raises(ValueError, match=complaint):
        bootstrap_mean(credits, clusters)
