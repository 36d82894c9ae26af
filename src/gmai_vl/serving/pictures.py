"""Pictures that come with a request: base64 within it, held against the limits before they are decoded."""

import base64
import binascii
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gmai_vl.foundation import BadItem
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.sources.images import FAULTS, FORMATS, read_image_bytes

SCHEME = "data:"
MEDIA_TYPES = frozenset(f"image/{name}" for name in ("png", "jpeg", "jpg", "gif", "tiff", "bmp", "webp"))

ORIENTATION = 0x0112
"""EXIF tag (EXIF 2.32, 4.6.4): how a camera was held."""


def picture_of(url: str, limits: Limits, place: str) -> NDArray[np.uint8]:
    """Return the pixels, [H, W] or [H, W, 3], of a `data:image/...;base64,` address; `place` is where it stands.

    Raises Refusal: 400 for what is no such address, 413 for a file and 422 for a picture beyond the limits, 422 for a
    file that is no picture. What the file is its content tells, whatever the address calls it.
    """
    if url[: len(SCHEME)].lower() != SCHEME:
        kind = "start the server with --allow-remote-images for https" if url[:6].lower() == "https:" else "send base64"
        raise Refusal(400, f"{place}: is no data: address; {kind}", param=place)
    head, comma, data = url[len(SCHEME) :].partition(",")
    media_type, *parameters = head.lower().split(";")
    if not comma or media_type.strip() not in MEDIA_TYPES or parameters[-1:] != ["base64"]:
        raise Refusal(400, f"{place}: must begin with data:image/png;base64, or another type of picture", param=place)
    if len(data) // 4 * 3 - 2 > limits.image_bytes:
        raise Refusal(413, f"{place}: more than {limits.image_bytes} bytes, the limit of a picture", param=place)
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"{place}: what follows `base64,` is no base64", param=place) from None
    return picture_of_bytes(content, limits, place)


def picture_of_bytes(content: bytes, limits: Limits, place: str) -> NDArray[np.uint8]:
    """Return the pixels, [H, W] or [H, W, 3], of a file, turned as its EXIF says: what people see elsewhere is meant.

    Raises Refusal: 413 for a file and 422 for a picture beyond the limits, and 422 for a file that is no picture.
    """
    if len(content) > limits.image_bytes:
        raise Refusal(413, f"{place}: more than {limits.image_bytes} bytes, the limit of a picture", param=place)
    width, height, turn = _header(content, place)
    if width * height > limits.image_pixels:
        line = f"{width} x {height} pixels are more than {limits.image_pixels}, the limit of a picture; make it smaller"
        raise Refusal(422, f"{place}: {line}", param=place)
    try:
        pixels = read_image_bytes(content, place)
    except BadItem as bad:
        raise Refusal(422, str(bad), param=place) from None
    return _turned(pixels, turn)


def _header(content: bytes, place: str) -> tuple[int, int, int]:
    """Return width, height and EXIF orientation, 1 where none is told. Nothing is decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            turn = picture.getexif().get(ORIENTATION, 1) if picture.format in ("JPEG", "MPO") else 1
            return picture.width, picture.height, turn if isinstance(turn, int) else 1
    except UnidentifiedImageError:
        raise Refusal(422, f"{place}: is no {', '.join(FORMATS)} picture", param=place) from None
    except FAULTS as error:
        raise Refusal(422, f"{place}: cannot be read as a picture ({type(error).__name__})", param=place) from None


def _turned(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Return pixels as they are to be seen. From 5 on rows and columns are exchanged."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
