"""Facts: what may be said of a case, held against computations of another kind."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from writing_cases import box_finding, cases, chest

from gmai_vl.foundation import BadItem
from gmai_vl.records import Finding
from gmai_vl.vocabulary import Term, term
from gmai_vl.writing import facts_of
from gmai_vl.writing.facts import POSITIONS, size_of


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 60), st.integers(1, 60))
def test_position_is_the_third_that_the_centre_of_the_box_falls_in(x, y, width, height):
    box = (x, y, min(100, x + width), min(100, y + height))
    fact = facts_of(chest(findings=(box_finding("lung nodule", box),))).findings[0]
    rows, columns = np.mgrid[0:3, 0:3] / 3
    centre_x, centre_y = (box[0] + box[2]) / 200, (box[1] + box[3]) / 200
    row = int((rows[:, 0] <= centre_y + 1e-12).sum()) - 1
    column = int((columns[0] <= centre_x + 1e-12).sum()) - 1
    assert fact.position == POSITIONS[row][column]
    assert fact.position not in fact.near


def test_a_box_that_reaches_every_third_has_no_position():
    assert facts_of(chest(findings=(box_finding("lung nodule", (10, 10, 90, 20)),))).findings[0].position is None


def test_a_box_close_to_a_border_of_the_grid_is_near_the_next_cell():
    near = facts_of(chest(findings=(box_finding("lung nodule", (26, 10, 36, 20)),))).findings[0].near
    assert near == (Term("upper middle", "上方中部"),)


@pytest.mark.parametrize(
    ("share", "size"), [(0.0, "small"), (0.0199, "small"), (0.02, "medium"), (0.0999, "medium"), (0.1, "large")]
)
def test_sizes_have_the_documented_limits(share, size):
    assert size_of(share).en == size


def test_a_mask_in_pieces_has_neither_position_nor_number():
    mask = np.zeros((100, 100), bool)
    mask[10:20, 10:20] = mask[40:50, 40:50] = True
    pieces = Finding(label=term("lung nodule"), source_label="1", box=(10, 10, 50, 50), area_share=0.02, mask=mask)
    facts = facts_of(chest(task="seg", findings=(pieces,)))
    assert facts.findings[0].position is None
    assert facts.counted == ()
    mask[20:40, 15] = mask[40, 15:41] = True  # now they hang together
    facts = facts_of(chest(task="seg", findings=(pieces,)))
    assert facts.findings[0].position is not None
    assert facts.counted == (term("lung nodule"),)


def test_organs_are_not_counted_and_a_part_spoils_the_number_of_its_whole():
    liver, cells = box_finding("liver", (0, 0, 9, 9)), [box_finding("blood cell", (i, 0, i + 5, 5)) for i in (0, 9, 20)]
    assert facts_of(chest(findings=(liver, *cells))).counted == (term("blood cell"),)
    red = box_finding("red blood cell", (50, 50, 60, 60))
    assert facts_of(chest(findings=(*cells, red))).counted == ()


def test_absent_is_what_could_have_been_given_and_cannot_be_true():
    labels = tuple(map(term, ("glioma", "brain tumor", "meningioma", "gray matter")))
    case = chest(findings=(Finding(label=term("glioma"), source_label="g"),), label_set=labels)
    assert facts_of(case).absent == (term("meningioma"), term("gray matter"))


@given(cases())
def test_facts_are_json_and_count_every_finding(case):
    told = facts_of(case).as_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert sum(told["counts"].values()) == len(told["findings"]) == len(case.findings)
    assert not {label.lower() for label in told["absent"]} & {finding.label.en.lower() for finding in case.findings}


@pytest.mark.parametrize("name", ["<image>", "a<|im_end|>", " ", "line\nbreak", "tab\tbed", "\x00", "right\u202eleft"])
def test_a_label_that_a_tokenizer_or_reader_could_take_for_more_than_a_name_is_refused(name):
    with pytest.raises(BadItem, match="label"):
        facts_of(chest(label_set=(Term(name),)))
