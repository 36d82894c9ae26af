"""Pictures and masks from PNG, JPEG, GIF, TIFF, BMP and WebP files; the size is checked before anything is decoded."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gmai_vl.foundation import BadItem
from gmai_vl.sources.geometry import percentile_window, to_uint8

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")
MAX_PIXELS = 2**26
"""67 million, 200 MB in colour: four times the largest camera picture of the usual sources."""

FAULTS = (
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow raises on damaged files."""

DEEP_GREY = ("I", "F", "I;16", "I;16B", "I;16L")
"""Pillow's modes with more than 8 bits a pixel."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return [H, W] grey or [H, W, 3] RGB. Raises BadItem if the file is damaged, too large or has several pages.

    Grey of more than 8 bits is shown between its percentiles 0.5 and 99.5; transparency is left out; pixels stay as
    they are stored (no EXIF turn), because annotations refer to those.
    """
    return shown_pixels(_load(path, path.name), path.name)


def read_image_bytes(content: bytes, name: str) -> NDArray[np.uint8]:
    """Return what `read_image` would return of a file with this content; `name` is what a message calls it."""
    return shown_pixels(_load(io.BytesIO(content), name), name)


def shown_pixels(picture: Image.Image, name: str) -> NDArray[np.uint8]:
    """Return what `read_image` returns, of the page that an opened file stands at. Raises BadItem and `FAULTS`."""
    if picture.mode in DEEP_GREY:
        values = np.asarray(picture)
        if not np.isfinite(values).all():
            raise BadItem(f"{name}: holds values that are not finite")
        return to_uint8(values, *percentile_window(values))
    grey = picture.mode in ("1", "L", "LA") or (picture.mode == "P" and _is_grey_palette(picture))
    return np.array(picture.convert("L" if grey else "RGB"))


def page_count(picture: Image.Image, most: int = 1000) -> int:
    """Return how many pages an opened file has, `most` where a TIFF has more: a small one can chain a million."""
    if picture.format in ("JPEG", "MPO"):  # a camera's JPEG may carry a preview; it is still one picture
        return 1
    if picture.format != "TIFF":
        return int(getattr(picture, "n_frames", 1))
    pages = 1
    while pages < most and _has_page(picture, pages):
        pages += 1
    picture.seek(0)
    return pages


def _has_page(picture: Image.Image, page: int) -> bool:
    try:
        picture.seek(page)
    except EOFError:
        return False
    return True


def read_mask(path: Path) -> NDArray[Any]:
    """Return [H, W] integers as the file stores them: grey values, or palette indices unless the palette is grey.

    Raises BadItem, as `read_image`, and if the mask is coloured or holds fractions.
    """
    picture = _load(path, path.name)
    if picture.mode == "P" and _is_grey_palette(picture):
        picture = picture.convert("L")
    if picture.mode in ("1", "L", "P", *DEEP_GREY):
        values = np.array(picture)
        if values.dtype == np.bool_:
            return values.astype(np.uint8)
        if not np.issubdtype(values.dtype, np.integer):
            return _as_integers(values, path.name)
        return values
    colours = np.array(picture.convert("RGB"))
    if not (colours == colours[..., :1]).all():
        raise BadItem(f"{path.name}: is a coloured mask; a mask holds one number a pixel")
    return colours[..., 0]


def _as_integers(values: NDArray[Any], name: str) -> NDArray[Any]:
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) >= 2**31 or (values != np.rint(values)).any():
        raise BadItem(f"{name}: holds values that are no integers, so it is no mask")
    return values.astype(np.int32)


def _is_grey_palette(picture: Image.Image) -> bool:
    palette = np.array(picture.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    used = np.unique(np.asarray(picture))
    if used.size == 0 or int(used[-1]) >= len(palette):
        return False
    return bool((palette[used] == palette[used][:, :1]).all())


def _load(source: Path | io.BytesIO, name: str) -> Image.Image:
    """Open and decode a file, its size checked in between."""
    try:
        with Image.open(source, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise BadItem(f"{name}: {width} x {height} pixels are more than the limit of {MAX_PIXELS}")
            if (pages := page_count(picture)) != 1:
                raise BadItem(f"{name}: has {pages} pages; a picture has one")
            picture.load()
            return picture
    except UnidentifiedImageError:
        raise BadItem(f"{name}: is no {', '.join(FORMATS)} picture, or its beginning is damaged") from None
    except FAULTS as error:
        # `strerror` where there is one: the full text of an OSError names the folders of this machine.
        raise BadItem(f"{name}: cannot be decoded: {getattr(error, 'strerror', None) or error}") from None
