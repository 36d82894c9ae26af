"""Boxes that a response draws, against the boxes of the annotation."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from gmai_vl.evaluation.answers.extraction import LONGEST_RESPONSE
from gmai_vl.evaluation.answers.wording import plain
from gmai_vl.evaluation.question import Question
from gmai_vl.writing.markup import ShareBox, parse_boxes

RIGHT_FROM = 0.5
"""IoU from which a grounding answer counts as right."""


def iou(one: ShareBox, other: ShareBox) -> float:
    """Return intersection over union of two boxes, 0-1; 0 where either has no area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = _area(one) + _area(other) - width * height
    return width * height / union


def _area(box: ShareBox) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def matched_iou(drawn: Sequence[ShareBox], wanted: Sequence[ShareBox]) -> float:
    """Return the mean IoU of the best one-to-one match; a box too many or too few counts as 0.

    Raises ValueError if nothing is wanted.
    """
    if not wanted:
        raise ValueError("no box is wanted")
    if not drawn:
        return 0.0
    table = np.array([[iou(one, other) for other in wanted] for one in drawn])
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum()) / max(len(drawn), len(wanted))


def wanted_boxes(question: Question) -> list[ShareBox]:
    """Return the boxes of the annotation as shares of width and height, not rounded."""
    return [
        (x1 / question.width, y1 / question.height, x2 / question.width, y2 / question.height)
        for x1, y1, x2, y2 in (region.box for region in question.regions)
    ]


def grounding_iou(question: Question, response: str) -> float | None:
    """Return the matched IoU of a response's boxes, whatever their labels; None if it draws no box.

    The question names what to find, so a label in the response adds nothing. A box drawn twice counts once.
    """
    text = plain(response)
    if len(text) > LONGEST_RESPONSE:
        return None
    drawn = list(dict.fromkeys(box for _, box in parse_boxes(text)))
    return matched_iou(drawn, wanted_boxes(question)) if drawn else None
