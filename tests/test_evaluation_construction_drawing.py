"""Regions drawn into the images of a benchmark, and those that cannot be told."""

import dataclasses

import numpy as np
from construction_corpus import is_closed
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from gmai_vl.evaluation.construction.draw import draw, frame, line_width, outline
from gmai_vl.evaluation.construction.subjects import fault_of, subjects_of
from gmai_vl.records import Case, Finding
from gmai_vl.vocabulary import term


@st.composite
def masks(draw_from: st.DrawFn) -> np.ndarray:
    side = draw_from(st.integers(8, 40))
    cells = draw_from(st.lists(st.tuples(*[st.integers(0, side - 1)] * 4), min_size=1, max_size=4))
    mask_HW = np.zeros((side, side), np.bool_)
    for y, x, height, width in cells:
        mask_HW[y : y + height + 1, x : x + width + 1] = True
    return mask_HW


@given(masks())
def test_lines_hug_their_region_also_at_the_end_of_the_image(mask_HW: np.ndarray) -> None:
    side = len(mask_HW)
    line = max(1, side // 10)
    drawn_HW = outline(mask_HW, line)
    assert is_closed(drawn_HW, mask_HW)
    rim_HW = np.pad(np.zeros((side - 2, side - 2), np.bool_), 1, constant_values=True)
    assert drawn_HW[mask_HW & rim_HW].all()  # a mask that ends with the image has a line there too
    assert not drawn_HW[ndimage.distance_transform_edt(~mask_HW) > (line + 1) // 2].any()
    rows, columns = np.nonzero(mask_HW)
    x1, y1, x2, y2 = (int(end) for end in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    left, top, right, bottom = max(x1 - line, 0), max(y1 - line, 0), min(x2 + line, side), min(y2 + line, side)
    frame_HW = frame((x1, y1, x2, y2), side, side, line)
    for y, x in np.ndindex(side, side):
        depth = min(x - left, y - top, right - 1 - x, bottom - 1 - y)  # below the outer edge of the line
        assert frame_HW[y, x] == (0 <= depth < line)


def test_drawing_leaves_its_image_alone_and_tells_the_color_apart() -> None:
    for value in (0, 90, 255):
        pixels = np.full((40, 40), value, np.uint8)
        mask_HW = np.zeros((40, 40), np.bool_)
        mask_HW[10:30, 10:30] = True
        finding = Finding(label=term("liver"), source_label="1", box=(10, 10, 30, 30), mask=mask_HW)
        for granularity in ("box", "mask", "contour"):
            drawn = draw(pixels, finding, granularity)
            assert drawn.shape == (40, 40, 3) and (pixels == value).all()
            changed = drawn[(drawn != value).any(axis=-1)].astype(int)
            assert np.abs(changed - value).max(axis=-1).min() > 60
    assert [line_width(side, side) for side in (35, 336, 1024)] == [1, 2, 8]


def region(box: tuple[int, int, int, int], mask_HW: np.ndarray | None = None) -> tuple[Finding, Case]:
    finding = Finding(label=term("liver"), source_label="1", box=box, mask=mask_HW)
    pixels = np.zeros((300, 400), np.uint8)
    case = Case(source="s", item="i", pixels=pixels, modality="CT", task="seg", findings=(finding,))
    return finding, case


def test_regions_that_cannot_be_told_are_left_out_with_their_reason() -> None:
    for box, reason in {
        (0, 0, 400, 300): "region covers nearly the whole image",
        (10, 10, 17, 200): "region too small to be seen",
        (10, 10, 20, 20): None,
    }.items():
        assert fault_of(region(box)[0], "box", region(box)[1]) == reason
    two_HW = np.zeros((300, 400), np.bool_)
    two_HW[10:40, 10:40] = two_HW[250:290, 340:390] = True
    finding, case = region((10, 10, 390, 290), two_HW)
    faults = {level: fault_of(finding, level, case) for level in ("box", "mask", "contour")}
    assert faults == {"box": "box shows little of what it is about", "mask": None, "contour": None}
    two_HW[10:290, 10:40] = True
    two_HW[10:290, 60:390] = False
    two_HW[10:290, 45:90] = True
    finding, case = region((10, 10, 90, 290), two_HW)
    assert fault_of(finding, "box", case) == "box is about several pieces"
    two_HW[200, 40:45] = True  # a bridge
    assert fault_of(finding, "box", case) is None
    speck_HW = np.zeros((300, 400), np.bool_)
    speck_HW[10, 10] = speck_HW[60, 60] = True
    finding, case = region((10, 10, 61, 61), speck_HW)
    assert subjects_of(case)[1] == {
        "box shows little of what it is about": 1,
        "region too small to be seen": 2,
    }


def test_equal_regions_count_once_and_nothing_found_is_right_only_where_nothing_is() -> None:
    finding, case = region((10, 10, 60, 60))
    twice = dataclasses.replace(case, findings=(finding, finding), negative=term("no finding"))
    assert [(each.granularity, each.label.en) for each in subjects_of(twice)[0]] == [("box", "liver")]
    none = dataclasses.replace(case, findings=(), negative=term("no finding"))
    assert [(each.granularity, each.label.en) for each in subjects_of(none)[0]] == [("image", "no finding")]
