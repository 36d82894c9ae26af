"""Pictures: PNG, JPEG, BMP, WebP, GIF and TIFF, whose pages are frames."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gmai_vl.foundation import BadItem
from gmai_vl.serving.costly import PAGES, Costly, checked
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.pictures import picture_of_bytes
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.studies.series import Series, Stack
from gmai_vl.sources.images import FAULTS, page_count, shown_pixels


def read_picture(path: Path, limits: Limits) -> Series:
    """Read a picture once, so that damage shows; its slices are read from the file again. Raises BadItem."""
    if path.stat().st_size > limits.image_bytes:
        raise BadItem(f"has more than {limits.image_bytes} bytes, the limit of a picture")
    try:
        checked(path.read_bytes(), limits.image_pixels)
    except Costly as costly:
        raise BadItem(str(costly)) from None
    pages = _pages(path)
    if pages == 1:
        pixels = _picture(path, limits)
        return Series(
            kind="picture",
            planes=(_stack(1, pixels),),
            shown=lambda _plane, _index, _window: _picture(path, limits),
            files=frozenset({path}),
        )
    first = _page(path, 0, limits)

    def shown(_plane: str, index: int, _window: str) -> NDArray[np.uint8]:
        pixels = _page(path, index, limits)
        if pixels.shape[:2] != first.shape[:2]:
            raise BadItem("this page has another size than the first")
        return pixels

    return Series(kind="frames", planes=(_stack(pages, first),), shown=shown, files=frozenset({path}))


def _stack(slices: int, pixels: NDArray[np.uint8]) -> Stack:
    return Stack(name="stored", slices=slices, width=pixels.shape[1], height=pixels.shape[0])


def _picture(path: Path, limits: Limits) -> NDArray[np.uint8]:
    """Return a picture as one that is sent with a question."""
    try:
        return picture_of_bytes(path.read_bytes(), limits, "picture")
    except Refusal as refusal:
        raise BadItem(_reason(refusal.line)) from None


def _pages(path: Path) -> int:
    """Return how many pages are shown: all of a TIFF of several, else one."""
    try:
        with Image.open(path, formats=("TIFF",)) as picture:
            return page_count(picture, PAGES)
    except UnidentifiedImageError:
        return 1
    except FAULTS:
        raise BadItem("cannot be decoded") from None


def _page(path: Path, page: int, limits: Limits) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=("TIFF",)) as picture:
            picture.seek(page)
            if picture.width * picture.height > limits.image_pixels:
                raise BadItem(f"has pages of more than {limits.image_pixels} pixels, the limit of a picture")
            picture.load()
            return shown_pixels(picture, "picture")
    except BadItem as bad:
        raise BadItem(_reason(str(bad))) from None
    except FAULTS:
        raise BadItem("cannot be decoded") from None


def _reason(line: str) -> str:
    """Return what is wrong, without its place and without what a library says about the content."""
    return line.removeprefix("picture: ").partition(": ")[0]
