"""COCO: one JSON file for all pictures, with boxes, polygons or run-length masks."""

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from gmai_vl.foundation import BadItem, UserError
from gmai_vl.records import Box, Case, Rejected
from gmai_vl.sources.boxes import Annotated, boxed_case, masked, whole_box
from gmai_vl.sources.files import file_of, list_files, plain_name
from gmai_vl.sources.images import SUFFIXES, read_image
from gmai_vl.sources.polygons import filled, run_lengths
from gmai_vl.sources.spec import CocoSource

MAX_BYTES = 2**31
"""Of the annotation file, which is held in memory once parsed."""

_FEWEST_SHARED = 0.5
"""Overlap over union below which an annotation's box and its mask cannot both be right."""


@dataclass(frozen=True, slots=True)
class _Index:
    """An annotation file by picture."""

    items: tuple[str, ...]
    """Paths below root of the pictures that the file names."""

    size_of: dict[str, tuple[Any, Any]]
    """(width, height) as the file says."""

    annotations_of: dict[str, list[dict[str, Any]]]
    names: dict[int, str]
    """Category id -> name."""


def list_items(spec: CocoSource, root: Path) -> list[str]:
    """Return the pictures below `images` and those that the file names.

    Raises UserError if there are no pictures, or if the annotation file is absent or not of this format.
    """
    return sorted({*list_files(spec.name, root, spec.images, SUFFIXES), *_index(spec, root).items})


def read_item(spec: CocoSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read one picture and what the file says of it: one case, and what was left out of it. Raises BadItem.

    Boxes are [x, y, width, height] from 0, in fractions of pixels. A mask gives its own box.
    """
    index = _index(spec, root)
    if item not in index.size_of:
        return [Rejected(item=item, outcome="excluded", reason=f"is not in {spec.annotations}")]
    pixels = read_image(file_of(root, item, spec.images))
    height, width = pixels.shape[:2]
    if index.size_of[item] not in ((width, height), (None, None)):
        told = " x ".join(str(side) for side in index.size_of[item])
        raise BadItem(f"is {width} x {height} pixels, but {spec.annotations} says {told}")
    annotated = [_annotated(one, index, width, height) for one in index.annotations_of.get(item, ())]
    return boxed_case(spec, root, item, pixels, annotated, index.names.values())


def _annotated(one: dict[str, Any], index: _Index, width: int, height: int) -> Annotated:
    category = one.get("category_id")
    if type(category) is not int or category not in index.names:
        raise BadItem(f"category {category!r} is not among `categories`")
    name = index.names[category]
    box = _box(one["bbox"], width, height) if one.get("bbox") else None
    segmentation = one.get("segmentation")
    if not segmentation:
        if box is None:
            raise BadItem(f"a `{name}` with neither `bbox` nor `segmentation`")
        return Annotated(source_label=name, box=box)
    if isinstance(segmentation, dict):
        found = masked(name, run_lengths(segmentation, width, height))
    elif isinstance(segmentation, list) and all(_is_numbers(polygon) for polygon in segmentation):
        found = masked(name, filled(segmentation, width, height))
    else:
        raise BadItem(f"a `segmentation` of `{name}` that is neither polygons nor run lengths")
    if box is not None and _overlap(box, found.box) < _FEWEST_SHARED:
        raise BadItem(f"the box {list(box)} of a `{name}` is not that of its mask, {list(found.box)}")
    return found


def _box(numbers: Any, width: int, height: int) -> Box:
    if not _is_numbers(numbers) or len(numbers) != 4:
        raise BadItem(f"`bbox` is {str(numbers)[:60]}; it holds x, y, width and height")
    x, y, w, h = numbers
    return whole_box(x, y, x + w, y + h, width, height)


def _is_numbers(value: Any) -> bool:
    # Python's JSON reads integers of any length; as pixels they must be numbers that a float can hold.
    return isinstance(value, list) and all(
        type(each) is float or (type(each) is int and abs(each) < 2**53) for each in value
    )


def _overlap(one: Box, other: Box) -> float:
    width, height = (min(one[2 + side], other[2 + side]) - max(one[side], other[side]) for side in (0, 1))
    shared = max(0, width) * max(0, height)
    return shared / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared)


def _index(spec: CocoSource, root: Path) -> _Index:
    path = root / spec.annotations
    if not path.is_file():
        raise UserError(f"source `{spec.name}`: annotations: {path} is no file; set `annotations`, below `root`")
    state = path.stat()
    if state.st_size > MAX_BYTES:
        raise UserError(f"source `{spec.name}`: annotations: {path} is larger than {MAX_BYTES} bytes; split it")
    return _read(path, spec.images if (root / spec.images).is_dir() else "", state.st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: Path, images: str, changed: int) -> _Index:
    """Parse a file once in a process; `changed` (its time) makes a changed file be read again."""
    try:
        data = json.loads(path.read_bytes())
        file_name_of = {image["id"]: plain_name(str(image["file_name"])) for image in data["images"]}
        item_of = {key: PurePosixPath(images, name).as_posix() for key, name in file_name_of.items()}
        sizes = {item_of[image["id"]]: (image.get("width"), image.get("height")) for image in data["images"]}
        names = {int(category["id"]): str(category["name"]).strip() for category in data["categories"]}
        annotations: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for one in data["annotations"]:
            wanted = {key: one.get(key) for key in ("category_id", "bbox", "segmentation")}
            annotations[item_of[one["image_id"]]].append(wanted)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise UserError(
            f"annotations: {path}: is no COCO file with images, categories and annotations ({fault[:120]}); "
            "mend it, or set `annotations` to the right one"
        ) from None
    return _Index(items=tuple(sizes), size_of=sizes, annotations_of=dict(annotations), names=names)
