"""Pictures that come with a request: base64 within it, held against the limits before they are decoded."""

import base64
import binascii
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gmai_vl.foundation import BadItem
from gmai_vl.serving.costly import Costly, checked
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.sources.images import FAULTS, FORMATS, read_image_bytes

SCHEME = "data:"
HEAD_CHARACTERS = 200
"""Before the comma of an address: type of the file and parameters."""

MEDIA_TYPES = frozenset(f"image/{name}" for name in ("png", "jpeg", "jpg", "gif", "tiff", "bmp", "webp"))

ORIENTATION = 0x0112
"""EXIF tag (EXIF 2.32, 4.6.4): how a camera was held."""


def picture_of(url: str, limits: Limits, place: str) -> NDArray[np.uint8]:
    """Return the pixels, [H, W] or [H, W, 3], of a `data:image/...;base64,` address; `place` is where it stands.

    Raises Refusal: 400 for what is no such address, 413 for a file and 422 for a picture beyond the limits, 422 for a
    file that is no picture. What the file is its content tells, whatever the address calls it.
    """
    if url[: len(SCHEME)].lower() != SCHEME:
        is_web = url[:8].lower().startswith(("http://", "https://"))
        kind = "start the server with --allow-remote-images for https" if is_web else "send base64"
        raise Refusal(400, f"{place}: is no data: address; {kind}", param=place)
    comma = url.find(",", 0, len(SCHEME) + HEAD_CHARACTERS)
    media_type, *parameters = url[len(SCHEME) : max(comma, 0)].lower().split(";")
    if comma < 0 or media_type.strip() not in MEDIA_TYPES or parameters[-1:] != ["base64"]:
        raise Refusal(400, f"{place}: must begin with data:image/png;base64, or another type of picture", param=place)
    data = url[comma + 1 :]
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
    try:
        content = checked(content, limits.image_pixels)
        turn = _turn(content, limits.image_pixels)
        return _turned(read_image_bytes(content, place), turn)
    except Costly as costly:
        line = f"cannot be read as a picture: it {costly}"
    except _TooLarge as large:
        line = f"{large} are more than {limits.image_pixels}, the limit of a picture; make it smaller"
    except _SeveralPages:
        line = "has several pages; a picture has one"
    except UnidentifiedImageError:
        line = f"is no {', '.join(FORMATS)} picture"
    except (BadItem, *FAULTS):  # what Pillow says may quote the file
        line = "cannot be decoded: it is damaged, cut off, or of a kind that is not read"
    raise Refusal(422, f"{place}: {line}", param=place)


class _TooLarge(Exception):  # noqa: N818  it says what the file is
    """More pixels than the limit; the message says how many."""


class _SeveralPages(Exception):  # noqa: N818  it says what the file is
    """A film, or a document."""


def _turn(content: bytes, most: int) -> int:
    """Return the EXIF orientation of a file whose header is that of one picture; 1 where none is told.

    Nothing is decoded. Raises _TooLarge and _SeveralPages, UnidentifiedImageError and FAULTS.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            if picture.width * picture.height > most:
                raise _TooLarge(f"{picture.width} x {picture.height} pixels")
            if picture.format in ("JPEG", "MPO"):  # a camera's may carry a preview; it is still one picture
                return _orientation(picture)
            if getattr(picture, "is_animated", False):  # their number is not asked for: it may be a million
                raise _SeveralPages
            # A TIFF is turned as it is decoded. One that is not in the header would be looked for behind the pixels.
            return _orientation(picture) if "exif" in picture.info and picture.format != "TIFF" else 1
    except Image.DecompressionBombError:
        raise _TooLarge("its pixels") from None


def _orientation(picture: Image.Image) -> int:
    try:
        turn = picture.getexif().get(ORIENTATION, 1)
    except FAULTS:  # other programs show such a picture as it is stored
        return 1
    return turn if isinstance(turn, int) else 1


def _turned(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Return pixels as they are to be seen. From 5 on rows and columns are exchanged."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
