"""Overlap of boxes against counted pixels, and the best match against all matches."""

from itertools import permutations

import numpy as np
import pytest
from evaluation_samples import grounding
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.evaluation import grounding_iou, iou, judge, matched_iou

COORDINATE = st.integers(0, 10)
PIXEL_BOX = (
    st.tuples(COORDINATE, COORDINATE, COORDINATE, COORDINATE)
    .map(lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])))
    .filter(lambda box: box[0] < box[2] and box[1] < box[3])
)


def shares(box):
    return tuple(side / 10 for side in box)


def pixels(box):
    mask = np.zeros((10, 10), dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


@given(PIXEL_BOX, PIXEL_BOX)
def test_iou_is_that_of_the_pixels(one, other):
    expected = (pixels(one) & pixels(other)).sum() / (pixels(one) | pixels(other)).sum()
    assert iou(shares(one), shares(other)) == pytest.approx(expected)


@given(st.lists(PIXEL_BOX, min_size=1, max_size=4), st.lists(PIXEL_BOX, min_size=1, max_size=4))
def test_the_match_is_the_best_of_all_matches(drawn, wanted):
    drawn, wanted = [shares(box) for box in drawn], [shares(box) for box in wanted]
    few, many = sorted([drawn, wanted], key=len)
    best = max(sum(map(iou, few, order)) for order in permutations(many, len(few)))
    assert matched_iou(drawn, wanted) == pytest.approx(best / len(many))
    assert matched_iou(wanted, drawn) == pytest.approx(matched_iou(drawn, wanted))


def test_a_greedy_match_would_be_worse():
    wanted = [(0.0, 0.0, 0.4, 1.0), (0.3, 0.0, 0.7, 1.0)]
    drawn = [(0.1, 0.0, 0.5, 1.0), (0.0, 0.0, 0.3, 1.0)]
    assert matched_iou(drawn, wanted) == pytest.approx((0.75 + 1 / 3) / 2)


@pytest.mark.parametrize(
    ("response", "overlap"),
    [
        ("<ref>mass</ref><box>[[0.10, 0.20, 0.30, 0.60]]</box>", 1.0),
        ("<box>[[0.10, 0.20, 0.30, 0.40]]</box>", 0.5),
        ("<box>[[0.10, 0.20, 0.30, 0.60]]</box> <box>[[0.10, 0.20, 0.30, 0.60]]</box>", 1.0),  # drawn twice
        ("<box>[[0.10, 0.20, 0.30, 0.60], [0.50, 0.50, 0.60, 0.60]]</box>", 0.5),  # one box too many
        ("<box>[[0.60, 0.60, 0.90, 0.90]]</box>", 0.0),
        ("<think><box>[[0.10, 0.20, 0.30, 0.60]]</box></think>", None),
        ("<box>[[0.30, 0.20, 0.10, 0.60]]</box>", None),
        ("in the upper left", None),
        ("", None),
    ],
)
def test_overlap_of_a_response(response, overlap):
    asked = grounding(1, (10, 10, 30, 30))
    assert grounding_iou(asked, response) == (None if overlap is None else pytest.approx(overlap))
    (judged,) = judge([asked], {"q001": response})
    assert judged.unparsed == (overlap is None)
    assert judged.correct == (overlap is not None and overlap >= 0.5)
    assert judged.iou == pytest.approx(overlap or 0.0)


def test_reference_boxes_are_not_rounded():
    asked = grounding(1, (0, 0, 1, 1), width=1000, height=1000)
    assert grounding_iou(asked, "<box>[[0.00, 0.00, 0.01, 0.01]]</box>") == pytest.approx(0.01)
