"""PASCAL VOC: one XML file per image, boxes from 1 with both ends included."""

from pathlib import Path
from xml.etree import ElementTree

from gmai_vl.foundation import BadItem
from gmai_vl.records import Case, Rejected
from gmai_vl.sources.boxes import Annotated, boxed_case, whole_box
from gmai_vl.sources.files import annotation_of, file_of, list_annotated
from gmai_vl.sources.images import SUFFIXES, read_image
from gmai_vl.sources.spec import VocSource

MAX_BYTES = 2**24
"""Of one annotation file."""


def list_items(spec: VocSource, root: Path) -> list[str]:
    """Return the pictures, and the annotation files that have none. Raises UserError if there are no pictures."""
    return list_annotated(spec, root, SUFFIXES, ".xml")


def read_item(spec: VocSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read one picture and its XML file: one case, and what was left out of it. Raises BadItem.

    Pixel coordinates begin at 1 and both ends belong to the box (VOC development kit, section 2.3); ours are half-open
    from 0. Objects marked as difficult or truncated are objects.
    """
    if item.lower().endswith(".xml"):
        raise BadItem("has no picture of its name")
    annotation = annotation_of(spec, root, item, ".xml")
    if annotation is None:
        return [Rejected(item=item, outcome="excluded", reason="has no annotation file")]
    tree = _parsed(annotation)
    pixels = read_image(file_of(root, item, spec.images))
    height, width = pixels.shape[:2]
    told = tuple(_number(tree, f"size/{side}") for side in ("width", "height")) if tree.find("size") is not None else ()
    if any(told) and told != (width, height):
        raise BadItem(f"is {width} x {height} pixels, but {annotation.name} says {told[0]:g} x {told[1]:g}")
    annotated = []
    for thing in tree.iterfind("object"):
        left, top, right, bottom = (_number(thing, f"bndbox/{end}") for end in ("xmin", "ymin", "xmax", "ymax"))
        box = whole_box(left - 1, top - 1, right, bottom, width, height)
        annotated.append(Annotated(source_label=_text(thing, "name"), box=box))
    return boxed_case(spec, root, item, pixels, annotated, [one.source_label for one in annotated])


def _parsed(path: Path) -> ElementTree.Element:
    """Parse an XML file that may be hostile: no document type, hence no entities."""
    if path.stat().st_size > MAX_BYTES:
        raise BadItem(f"{path.name}: is larger than {MAX_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "<!DOCTYPE" in text:
            raise BadItem(f"{path.name}: declares a document type; an annotation has none")
        return ElementTree.fromstring(text)  # noqa: S314  without a document type there is nothing to expand
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError, RecursionError) as error:
        raise BadItem(f"{path.name}: is no XML in UTF-8: {error}") from None


def _text(element: ElementTree.Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise BadItem(f"an object without `{path}`")
    return text


def _number(element: ElementTree.Element, path: str) -> float:
    text = _text(element, path)
    try:
        return float(text)
    except ValueError:
        raise BadItem(f"`{path}` is `{text[:40]}`, no number") from None
