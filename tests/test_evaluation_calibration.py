"""Calibration: by hand, against numpy's one-hot arithmetic, and of models made to be calibrated or not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.evaluation.calibration import calibration


@st.composite
def forecasts(draw):
    """Draw questions of 2-5 options: probabilities, on a coarse grid so that there are ties, and the answer."""
    questions = []
    for _ in range(draw(st.integers(1, 25))):
        weights = draw(st.lists(st.integers(0, 6), min_size=2, max_size=5).filter(any))
        options = [weight / sum(weights) for weight in weights]
        questions.append((options, draw(st.integers(0, len(options) - 1))))
    return questions


def drawn(n, sharpness, seed=3):
    """Draw answers from probabilities, and tell the model's: those to the power of `sharpness`."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet([0.7] * 4, size=n)
    answers = [int(rng.choice(4, p=row)) for row in truth]
    told = truth**sharpness
    return (told / told.sum(axis=1, keepdims=True)).tolist(), answers


def test_four_questions_by_hand():
    chances = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]]
    result = calibration(chances, [0, 1, 1, 1], bins=2)
    # bins {0.6, 0.7}: mean 0.65, 1 of 2 right; {0.8, 0.9}: mean 0.85, 2 of 2 right
    assert [(row.n, row.right) for row in result.bins] == [(2, 0.5), (2, 1.0)]
    assert [row.confidence for row in result.bins] == pytest.approx([0.65, 0.85])
    assert result.expected_error == pytest.approx((2 * 0.15 + 2 * 0.15) / 4)
    assert result.brier == pytest.approx((2 * 0.01 + 2 * 0.04 + 2 * 0.36 + 2 * 0.09) / 4)


def test_briers_ends_and_the_score_of_knowing_nothing():
    assert calibration([[1, 0], [0, 1]], [0, 1]).brier == 0
    assert calibration([[1, 0], [0, 1]], [1, 0]).brier == 2
    assert calibration([[0.25] * 4] * 8, [0, 1, 2, 3] * 2).brier == pytest.approx(0.75)


def test_a_guess_that_is_right_as_often_as_it_says_has_no_error():
    result = calibration([[0.75, 0.25]] * 8, [0] * 6 + [1] * 2)
    assert result.expected_error == 0
    assert len(result.bins) == 1
    assert calibration([[0.75, 0.25]] * 8, [0] * 8).expected_error == pytest.approx(0.25)


def test_bins_have_equal_mass_where_confidences_are_skewed():
    confidence = 1 - 0.5 * np.random.default_rng(0).random(1003) ** 4  # most are near 1
    result = calibration([[c, 1 - c] for c in confidence], [0] * 1003)
    assert {row.n for row in result.bins} == {100, 101}
    assert len(result.bins) == 10
    by_bin = np.split(np.sort(confidence), np.cumsum([row.n for row in result.bins])[:-1])
    assert [row.confidence for row in result.bins] == pytest.approx([part.mean() for part in by_bin])


@given(forecasts())
def test_figures_are_those_of_one_hot_arithmetic(questions):
    chances, answers = (list(column) for column in zip(*questions, strict=True))
    result = calibration(chances, answers)
    told, one_hot = np.zeros((len(chances), 5)), np.zeros((len(chances), 5))
    for row, options in enumerate(chances):
        told[row, : len(options)] = options
    one_hot[np.arange(len(answers)), answers] = 1
    right = told.argmax(axis=1) == answers
    assert result.brier == pytest.approx(((told - one_hot) ** 2).sum(axis=1).mean())
    assert sum(row.n for row in result.bins) == result.n == len(chances)
    assert sum(row.n * row.right for row in result.bins) == pytest.approx(right.sum())
    assert sum(row.n * row.confidence for row in result.bins) == pytest.approx(told.max(axis=1).sum())
    # no split into bins hides a gap between the means, and none makes more of it than single questions do
    gaps = told.max(axis=1) - right
    assert abs(gaps.mean()) - 1e-12 <= result.expected_error <= np.abs(gaps).mean() + 1e-12
    confidences = [row.confidence for row in result.bins]
    assert confidences == sorted(confidences)
    assert len(confidences) <= 10


@given(forecasts(), st.randoms())
def test_the_order_of_questions_does_not_matter(questions, random):
    first = calibration(*zip(*questions, strict=True))
    random.shuffle(questions)
    again = calibration(*zip(*questions, strict=True))
    assert [row.n for row in again.bins] == [row.n for row in first.bins]
    assert (again.expected_error, again.brier) == pytest.approx((first.expected_error, first.brier))


def test_a_calibrated_model_has_little_error_and_the_best_brier():
    honest = calibration(*drawn(4000, 1.0))
    boastful = calibration(*drawn(4000, 3.0))
    timid = calibration(*drawn(4000, 0.4))
    assert honest.expected_error < 0.03
    assert boastful.expected_error > 0.1
    assert timid.expected_error > 0.1
    assert honest.brier < min(boastful.brier, timid.brier) - 0.02
    assert all(row.confidence > row.right for row in boastful.bins[1:-1])
    assert all(row.confidence < row.right for row in timid.bins[1:-1])


def test_it_is_json():
    data = calibration(*drawn(50, 1.0)).as_json()
    assert json.loads(json.dumps(data)) == data
    assert set(data) == {"n", "expected_calibration_error", "brier", "bins"}
    assert len(data["bins"]) == 10


@pytest.mark.parametrize(
    ("chances", "answers", "complaint"),
    [
        ([], [], "0 questions"),
        ([[0.5, 0.5]], [0, 1], "2 answers for the options of 1 questions"),
        ([[0.5, 0.5], [0.7, 0.7]], [0, 0], "question 1: probabilities add up to 1.4"),
        ([[]], [0], "question 0: probabilities add up to 0"),
        ([[1.2, -0.2]], [0], "question 0: .* not all in 0-1"),
        ([[float("nan"), 1.0]], [0], "question 0: .* not all in 0-1"),
        ([[0.5, 0.5]], [2], "question 0: answer 2 is none of 2 options"),
        ([[0.5, 0.5]], [-1], "question 0: answer -1 is none of 2 options"),
    ],
)
def test_what_is_no_forecast_is_refused(chances, answers, complaint):
    with pytest.raises(ValueError, match=complaint):
        calibration(chances, answers)


def test_no_bins_are_refused():
    with pytest.raises(ValueError, match="0 bins"):
        calibration([[0.5, 0.5]], [0], bins=0)
