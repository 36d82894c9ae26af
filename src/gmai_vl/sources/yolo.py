"""YOLO: one text file per image, a class number and shares of width and height on each line."""

import math
from pathlib import Path

from gmai_vl.foundation import BadItem
from gmai_vl.records import Case, Rejected
from gmai_vl.sources.boxes import Annotated, boxed_case, masked, whole_box
from gmai_vl.sources.files import annotation_of, file_of, list_annotated
from gmai_vl.sources.images import SUFFIXES, read_image
from gmai_vl.sources.polygons import filled
from gmai_vl.sources.spec import YoloSource

MAX_BYTES = 2**24
"""Of one annotation file."""


def list_items(spec: YoloSource, root: Path) -> list[str]:
    """Return the pictures, and the annotation files that have none. Raises UserError if there are no pictures."""
    return list_annotated(spec, root, SUFFIXES, ".txt")


def read_item(spec: YoloSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read one picture and its lines: one case, and what was left out of it. Raises BadItem.

    A line is `class x y width height` with the middle of the box, or `class x1 y1 x2 y2 x3 y3 ...` with the corners of
    a polygon, all as shares of the image. Without a file there are no boxes, as the trainers of this format read it.
    """
    if item.lower().endswith(".txt"):
        raise BadItem("has no picture of its name")
    pixels = read_image(file_of(root, item, spec.images))
    height, width = pixels.shape[:2]
    annotation = annotation_of(spec, root, item, ".txt")
    lines = _lines(annotation) if annotation else []
    annotated = [_annotated(line, spec, width, height) for line in lines if line.strip()]
    return boxed_case(spec, root, item, pixels, annotated, spec.names)


def _lines(path: Path) -> list[str]:
    if path.stat().st_size > MAX_BYTES:
        raise BadItem(f"{path.name}: is larger than {MAX_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise BadItem(f"{path.name}: is no text in UTF-8") from None


def _annotated(line: str, spec: YoloSource, width: int, height: int) -> Annotated:
    try:
        number, *shares = (float(word) for word in line.split())
    except ValueError:
        raise BadItem(f"the line `{line[:60]}` is not made of numbers") from None
    if number not in range(len(spec.names)):
        raise BadItem(f"class {number:g} is not in `names`, which has 0-{len(spec.names) - 1}")
    name = spec.names[int(number)]
    if len(shares) == 4:
        x, y, w, h = shares[0] * width, shares[1] * height, shares[2] * width, shares[3] * height
        # Shares are written with six digits or so: what is a whole pixel but for rounding is one.
        x1, y1, x2, y2 = (_snapped(end) for end in (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
        return Annotated(source_label=name, box=whole_box(x1, y1, x2, y2, width, height))
    if len(shares) < 6 or len(shares) % 2:
        raise BadItem(f"a line of {len(shares)} numbers after the class; a box has 4, a polygon 6 or more in pairs")
    corners = [share * (height if place % 2 else width) for place, share in enumerate(shares)]
    return masked(name, filled([corners], width, height))


def _snapped(end: float) -> float:
    return round(end) if math.isfinite(end) and abs(end - round(end)) < 0.01 else end
