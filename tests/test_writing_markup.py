"""Grounding markup: what is written is read back, and what is malformed is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.writing import box_markup, boxes_markup, grounding_markup, parse_boxes, share_box


@st.composite
def boxes_in_images(draw):
    width, height = draw(st.integers(1, 2000)), draw(st.integers(1, 2000))
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))))
    return width, height, boxes


labels = st.text(min_size=1, max_size=20).filter(lambda text: "<" not in text and ">" not in text)


@given(boxes_in_images(), labels)
def test_markup_reads_back_within_half_a_hundredth(case, label):
    width, height, boxes = case
    read = parse_boxes(f"text {grounding_markup(label, boxes, width, height)} text")
    with_extent = [box for box in boxes if _has_extent(box, width, height)]
    assert len(read) == len(with_extent)
    for (name, shares), (x1, y1, x2, y2) in zip(read, with_extent, strict=True):
        assert name == label
        exact = (x1 / width, y1 / height, x2 / width, y2 / height)
        assert max(abs(share - true) for share, true in zip(shares, exact, strict=True)) <= 0.005 + 1e-9


def _has_extent(box, width, height):
    x1, y1, x2, y2 = share_box(box, width, height)
    return x1 < x2 and y1 < y2


def test_form_is_two_decimals_of_width_and_height():
    assert box_markup((10, 40, 30, 80), 100, 200) == "[[0.10, 0.20, 0.30, 0.40]]"
    assert boxes_markup([(0, 0, 1, 1), (1, 1, 2, 2)], 2, 2) == "[[0.00, 0.00, 0.50, 0.50], [0.50, 0.50, 1.00, 1.00]]"
    assert grounding_markup("肺结节", [(0, 0, 1, 2)], 2, 2) == "<ref>肺结节</ref><box>[[0.00, 0.00, 0.50, 1.00]]</box>"


@pytest.mark.parametrize(
    "text",
    [
        "no box",
        "[[0.1, 0.2, 0.3, 0.4]]",  # not marked
        "<box>[[0.1, 0.2, 0.3]]</box>",
        "<box>[[0.1, 0.2, 0.3, 0.4, 0.5]]</box>",
        "<box>[[0.3, 0.2, 0.1, 0.4]]</box>",
        "<box>[[0.1, 0.2, 1.3, 0.4]]</box>",
        "<box>[[-0.1, 0.2, 0.3, 0.4]]</box>",
        "<box>[[10, 20, 30, 40]]</box>",
        "<box>[[nan, 0.2, 0.3, 0.4]]</box>",
        "<box>[[0.1, 0.2, 0.3, 0.4]]",
    ],
)
def test_malformed_boxes_are_left_out(text):
    assert parse_boxes(text) == []


def test_a_model_may_leave_out_the_label_or_space_its_numbers_freely():
    text = "It is <box>[[ 0.1,0.2 , .3,1 ]]</box> and <ref>liver</ref> <box>[[0, 0, 0.5, 0.5]]</box>."
    assert parse_boxes(text) == [(None, (0.1, 0.2, 0.3, 1.0)), ("liver", (0.0, 0.0, 0.5, 0.5))]


@pytest.mark.parametrize("piece", ["<ref>", "<box>[", "[0.1,", "]", "<ref>a</ref> ", "<box>[[1 ", " "])
def test_hostile_text_is_read_in_linear_time(piece):
    """A quadratic pattern would take minutes."""
    assert parse_boxes("<ref><box>[[" + piece * 50_000) == []


def test_a_label_that_could_be_read_as_markup_is_refused():
    with pytest.raises(ValueError, match="angle bracket"):
        grounding_markup("a</ref><box>[[0, 0, 1, 1]]</box>", [(0, 0, 1, 1)], 2, 2)
