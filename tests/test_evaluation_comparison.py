"""Comparison of two runs: against enumeration and textbooks, properties, and how often the tests are wrong or right."""

import json
from fractions import Fraction
from itertools import product
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.evaluation.comparison import clustered_test, compare, detectable_difference, holm, mcnemar
from gmai_vl.evaluation.statistics import effective_number

A, B, BOTH, NEITHER = (True, False), (False, True), (True, True), (False, False)

runs = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 8)), min_size=1, max_size=60)
"""Right of A, right of B, cluster of each question."""


def columns(questions):
    return tuple([list(column) for column in zip(*questions, strict=True)])


def repeated(*counts):
    """Return the two columns of answers from (verdicts, how often) pairs."""
    return columns([verdicts for verdicts, count in counts for _ in range(count)])


def by_counting_tosses(heads, tails):
    n = heads + tails
    tail = sum(comb(n, k) for k in range(min(heads, tails) + 1))
    return float(min(Fraction(1), 2 * Fraction(tail, 2**n)))


def by_flipping_all_signs(questions):
    gains = [sum(a - b for a, b, of in questions if of == cluster) for cluster in {of for *_, of in questions}]
    totals = [sum(sign * gain for sign, gain in zip(signs, gains, strict=True)) for signs in signs_of(len(gains))]
    return sum(abs(total) >= abs(sum(gains)) for total in totals) / len(totals)


def signs_of(count):
    return list(product((-1, 1), repeat=count))


def test_comparison_by_hand():
    questions = [(*A, "p"), (*A, "p"), (*BOTH, "p"), (*A, "q"), (*B, "q"), (*NEITHER, "q"), (*A, "r"), (*BOTH, "r")]
    result = compare(*columns(questions))
    assert (result.n, result.clusters) == (8, 3)
    assert (result.both, result.only_a, result.only_b, result.neither) == (2, 4, 1, 1)
    assert (result.share_a, result.share_b, result.difference.value) == (6 / 8, 3 / 8, 3 / 8)
    assert result.p_mcnemar == pytest.approx(2 * (1 + 5) / 32)
    # gains 2, 0 and 1: +-2 +-1 is as far out as 3 for 2 choices of 4
    assert result.p_clustered == pytest.approx(0.5)


def test_agrestis_approval_ratings():
    """Agresti, Categorical Data Analysis, table 10.1: 944 of 1600 approve, then 880; z^2 = 17.36, difference 0.04."""
    first, second = repeated((BOTH, 794), (A, 150), (B, 86), (NEITHER, 570))
    result = compare(first, second, range(1600))
    assert result.difference.value == pytest.approx(0.04)
    assert result.difference.interval == pytest.approx((0.021, 0.059), abs=0.0015)
    assert result.p_mcnemar == pytest.approx(by_counting_tosses(150, 86), rel=1e-9)
    assert 3.1e-5 < result.p_mcnemar < 4.1e-5  # chi^2(1) beyond 17.36 is 3.1e-5, beyond (64 - 1)^2 / 236 it is 4.1e-5


@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar_counts_tosses(heads, tails):
    assert mcnemar(heads, tails) == pytest.approx(by_counting_tosses(heads, tails), rel=1e-9)


@given(runs)
def test_clustered_test_is_the_share_of_all_signs(questions):
    assert clustered_test(*columns(questions)) == pytest.approx(by_flipping_all_signs(questions), rel=1e-9)


@given(runs)
def test_one_question_per_cluster_is_mcnemar(questions):
    a, b, _ = columns(questions)
    only_a, only_b = list(zip(a, b, strict=True)).count(A), list(zip(a, b, strict=True)).count(B)
    assert clustered_test(a, b, range(len(a))) == pytest.approx(mcnemar(only_a, only_b), rel=1e-9)


def test_many_clusters_agree_with_drawn_signs():
    rng = np.random.default_rng(4)
    clusters = rng.integers(0, 70, size=600)
    a, b = rng.random(600) < 0.62, rng.random(600) < 0.56
    gains = np.bincount(clusters, weights=a.astype(float) - b)
    totals = rng.choice([-1, 1], size=(40_000, len(gains))) @ gains
    drawn = (np.abs(totals) >= abs(gains.sum())).mean()
    exact = clustered_test(a.tolist(), b.tolist(), clusters.tolist())
    assert 0.01 < exact < 0.2
    assert exact == pytest.approx(drawn, abs=4 * sqrt(drawn / 40_000))


@given(runs)
def test_runs_that_change_places_turn_the_sign(questions):
    a, b, clusters = columns(questions)
    one, other = compare(a, b, clusters), compare(b, a, clusters)
    assert (one.only_a, one.only_b, one.share_a) == (other.only_b, other.only_a, other.share_b)
    assert one.difference.value == -other.difference.value
    assert one.difference.interval == pytest.approx(tuple(-end for end in reversed(other.difference.interval)))
    assert (one.p_mcnemar, one.p_clustered) == pytest.approx((other.p_mcnemar, other.p_clustered), rel=1e-9)
    assert (one.effective_n, one.detectable) == pytest.approx((other.effective_n, other.detectable))


@given(runs)
def test_a_run_does_not_differ_from_itself(questions):
    a, _, clusters = columns(questions)
    same = compare(a, a, clusters)
    assert (same.p_mcnemar, same.p_clustered, same.difference.value) == (1, 1, 0)


@given(runs)
def test_the_difference_lies_in_its_interval_and_p_in_0_to_1(questions):
    result = compare(*columns(questions))
    low, high = result.difference.interval
    assert -1 <= low <= result.difference.value + 1e-12
    assert result.difference.value - 1e-12 <= high <= 1
    assert 0 < result.p_mcnemar <= 1
    assert 0 < result.p_clustered <= 1
    assert result.both + result.only_a + result.only_b + result.neither == result.n == len(questions)


@given(runs, st.randoms())
def test_neither_order_of_questions_nor_names_of_clusters_matter(questions, random):
    names = dict(enumerate(random.sample("abcdefghi", 9)))
    renamed = [(a, b, names[cluster]) for a, b, cluster in questions]
    random.shuffle(renamed)
    one, other = compare(*columns(questions)).as_json(), compare(*columns(renamed)).as_json()
    assert one.pop("interval") == other.pop("interval")
    assert one == pytest.approx(other)


def test_alike_questions_say_less():
    """The same verdicts, scattered over patients or heaped on a few of them."""
    a, b = repeated((A, 40), (B, 20), (BOTH, 60))
    scattered = compare(a, b, [index % 12 for index in range(120)])
    heaped = compare(a, b, [index // 10 for index in range(120)])
    assert scattered.p_mcnemar == heaped.p_mcnemar < 0.02
    assert scattered.p_clustered < 0.02
    assert heaped.p_clustered > 0.2
    assert heaped.effective_n < scattered.effective_n / 2
    assert heaped.detectable > scattered.detectable * 1.5


def test_groups_are_compared_as_if_alone():
    rng = np.random.default_rng(2)
    a, b = (rng.random(300) < 0.8).tolist(), (rng.random(300) < 0.6).tolist()
    clusters = rng.integers(0, 40, size=300).tolist()
    groups = [("x-ray", "mr", "ct", None)[index] for index in (0, *rng.integers(0, 4, size=299))]
    result = compare(a, b, clusters, groups, seed=5)
    assert list(result.groups) == ["ct", "mr", "x-ray"]
    assert sum(group.n for group in result.groups.values()) == 300 - groups.count(None) < 300
    for name, group in result.groups.items():
        chosen = [index for index in range(300) if groups[index] == name]
        alone = compare(*([column[index] for index in chosen] for column in (a, b, clusters)), seed=5)
        expected = alone.as_json()
        given = group.as_json()
        assert given.pop("p_holm") == group.p_holm
        assert given == expected
    ps = [group.p_clustered for group in result.groups.values()]
    assert [group.p_holm for group in result.groups.values()] == holm(ps) != ps
    whole = result.as_json()
    assert {key: value for key, value in whole.items() if key != "groups"} == compare(a, b, clusters, seed=5).as_json()
    assert json.loads(json.dumps(whole)) == whole


def test_holm_of_four_by_hand():
    # 4 * 0.005 = 0.02, 3 * 0.01 = 0.03, 2 * 0.03 = 0.06, and 0.04 not below its forerunner
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_stepping_down_rejects(ps, level):
    left = sorted(ps)
    while left and left[0] * len(left) <= level:
        left.pop(0)
    rejected = [adjusted <= level for adjusted in holm(ps)]
    assert sum(rejected) == len(ps) - len(left)
    assert sorted(p for p, gone in zip(ps, rejected, strict=True) if not gone) == left


def test_connors_sample_size():
    """0.45 discordant one way and 0.05 the other: published calculators by Connor (1987) ask for 23 pairs."""
    needed = ((1.95996 * sqrt(0.5) + 0.84162 * sqrt(0.5 - 0.4**2)) / 0.4) ** 2
    assert 22 < needed < 23
    assert detectable_difference(needed, 0.5) == pytest.approx(0.4, abs=1e-5)


@given(st.floats(4, 20_000), st.floats(0, 1))
def test_detectable_difference_solves_connors_equation(effective, discordance):
    found = detectable_difference(effective, discordance)
    assert 0 < found <= 1
    q = max(discordance, found)
    right_side = 1.959964 * sqrt(q) + 0.8416212 * sqrt(max(0.0, q - found**2))
    assert found * sqrt(effective) == pytest.approx(right_side, rel=1e-5)
    assert detectable_difference(effective * 2, discordance) < found


def test_nothing_is_detectable_of_too_few():
    assert detectable_difference(3.8, 0.5) is None
    a, b = repeated((A, 50), (B, 50), (BOTH, 100))
    few = compare(a, b, [index % 5 for index in range(200)])
    assert few.detectable is None
    assert compare(a, b, [index % 6 for index in range(200)]).detectable is not None
    alone = compare([True] * 9, [False] * 9, ["p"] * 9)
    assert (alone.effective_n, alone.detectable, alone.p_clustered) == (None, None, 1)
    assert alone.difference.interval == (-1, 1)
    assert alone.p_mcnemar < 0.01  # which is why it is not the one to go by


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="paired"):
        compare([True], [True, False], ["p"])
    with pytest.raises(ValueError, match="paired"):
        compare([], [], [])
    with pytest.raises(ValueError, match="1 groups for 2 questions"):
        compare([True, True], [True, False], ["p", "q"], ["ct"])


def drawn(rng, clusters, each, discordance, difference, likeness):
    """Draw two runs. In each cluster the discordant questions lean to A or B by a chance of its own, from a beta
    distribution whose intracluster correlation is `likeness`."""
    mean = (1 + difference / discordance) / 2
    weight = 1 / likeness - 1
    lean = np.repeat(rng.beta(mean * weight, (1 - mean) * weight, size=clusters), each)
    discordant = rng.random(clusters * each) < discordance
    for_a, agreed = rng.random(clusters * each) < lean, rng.random(clusters * each) < 0.6
    a, b = np.where(discordant, for_a, agreed), np.where(discordant, ~for_a, agreed)
    return a.tolist(), b.tolist(), np.repeat(np.arange(clusters), each).tolist()


def discordant_counts(a, b):
    verdicts = list(zip(a, b, strict=True))
    return verdicts.count(A), verdicts.count(B)


def test_without_a_difference_one_in_twenty_is_found_and_mcnemar_finds_many():
    rng = np.random.default_rng(11)
    trials, clustered_finds, mcnemar_finds = 1000, 0, 0
    for _ in range(trials):
        a, b, clusters = drawn(rng, 20, 20, 0.4, 0.0, 0.4)
        clustered_finds += clustered_test(a, b, clusters) <= 0.05
        mcnemar_finds += mcnemar(*discordant_counts(a, b)) <= 0.05
    error = sqrt(0.05 * 0.95 / trials)
    assert clustered_finds / trials == pytest.approx(0.05, abs=3 * error)
    assert mcnemar_finds / trials > 0.2


@pytest.mark.parametrize(
    ("clusters", "each", "discordance", "likeness"),
    [(250, 1, 0.2, 1e-6), (60, 8, 0.3, 0.3), (15, 20, 0.3, 0.3)],
    ids=["independent", "alike", "few"],
)
def test_four_of_five_detectable_differences_are_detected(clusters, each, discordance, likeness):
    """The difference is the mean of those called detectable where there is none; then it is there."""
    rng = np.random.default_rng(7)
    called = []
    for _ in range(200):
        a, b, of = drawn(rng, clusters, each, discordance, 0.0, likeness)
        effective = effective_number([x - y for x, y in zip(a, b, strict=True)], of)
        called.append(detectable_difference(effective, sum(discordant_counts(a, b)) / len(a)))
    difference = float(np.mean(called))
    trials = 600
    finds = smaller = 0
    for _ in range(trials):
        finds += clustered_test(*drawn(rng, clusters, each, discordance, difference, likeness)) <= 0.05
        smaller += clustered_test(*drawn(rng, clusters, each, discordance, difference / 2, likeness)) <= 0.05
    assert finds / trials == pytest.approx(0.8, abs=0.06)
    assert smaller / trials < 0.5  # so that this test can fail
