"""Grounding markup: `<ref>label</ref><box>[[x1, y1, x2, y2]]</box>`, shares of width and height, two decimals."""

import re
from collections.abc import Sequence

from gmai_vl.records import Box

ShareBox = tuple[float, float, float, float]
"""Box as shares of width and height, 0-1."""

# No part can run over a bracket of another, so that hostile text takes linear time.
_MARKED = re.compile(r"(?:<ref>(?P<label>[^<>]*)</ref>\s*)?<box>\s*\[(?P<boxes>[^<>]*)\]\s*</box>")
_NUMBER = r"\s*(\d+(?:\.\d+)?|\.\d+)\s*"
_ONE_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")


def share_box(box: Box, width: int, height: int) -> ShareBox:
    """Return the pixel box as shares of the image, rounded to two decimals."""
    x1, y1, x2, y2 = box
    return round(x1 / width, 2), round(y1 / height, 2), round(x2 / width, 2), round(y2 / height, 2)


def box_markup(box: Box, width: int, height: int) -> str:
    """Return one box as "[[0.10, 0.20, 0.30, 0.40]]"."""
    return boxes_markup([box], width, height)


def boxes_markup(boxes: Sequence[Box], width: int, height: int) -> str:
    """Return boxes as "[[0.10, 0.20, 0.30, 0.40], [0.50, 0.60, 0.70, 0.80]]", in the order given."""
    shares = (share_box(box, width, height) for box in boxes)
    return "[" + ", ".join("[" + ", ".join(f"{share:.2f}" for share in one) + "]" for one in shares) + "]"


def grounding_markup(label: str, boxes: Sequence[Box], width: int, height: int) -> str:
    """Return `<ref>label</ref><box>[[..], ..]</box>`. Raises ValueError if the label itself could be read as markup."""
    if "<" in label or ">" in label:
        raise ValueError(f"label `{label}` holds an angle bracket")
    return f"<ref>{label}</ref><box>{boxes_markup(boxes, width, height)}</box>"


def parse_boxes(text: str) -> list[tuple[str | None, ShareBox]]:
    """Return every well-formed box of `text` with the label before it, None where there is none.

    A box counts if its shares lie in 0-1 and x1 < x2, y1 < y2; what does not is left out, since a model wrote it.
    """
    found = []
    for marked in _MARKED.finditer(text):
        for numbers in _ONE_BOX.findall(marked["boxes"]):
            x1, y1, x2, y2 = map(float, numbers)
            if 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1:
                found.append((marked["label"], (x1, y1, x2, y2)))
    return found
