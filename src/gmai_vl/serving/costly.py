"""Files of pictures that are small and yet keep a decoder busy for minutes: told from their structure.

Width times height does not tell them. Each has more parts than a picture of any size needs: segments and scans of a
JPEG, chunks of a PNG, strips of a TIFF, or one tile much larger than the picture.
"""

import struct
from dataclasses import dataclass

SEGMENTS = 2000
"""Of a JPEG before its first scan; colour profiles and notes of cameras take some hundred at most."""

SCANS = 64
"""Of a JPEG; a progressive one usually has ten. Each goes over the whole picture, however few bytes it has."""

CHUNKS = 2**16
"""Of a PNG: 20 MB in chunks of 300 bytes."""

VALUES = 2**17
"""Of one list in a TIFF: where 131,072 strips are, or tiles of 16 x 16 of 33 million pixels."""

HAS_LENGTH = frozenset({*range(0xC0, 0xD0), *range(0xDB, 0xE0), *range(0xE0, 0xF0), 0xFE} - {0xC8})
"""Second bytes of the markers that begin a segment with a length (ITU-T T.81, table B.1), all but extensions."""

START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

PAGES = 2000
"""Of a TIFF."""

PARTS = 2**20
"""Of a TIFF, all pages together: tags, and values of their lists, which are read to find the next page."""

TILE_WIDTH, TILE_LENGTH = 322, 323
TEXT_AND_BYTES = (1, 2, 6, 7)
"""Types of a TIFF's lists (TIFF 6.0, section 2) that stay bytes once they are read."""

INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


class Costly(Exception):  # noqa: N818  it says what the file is
    """The structure of a file is damaged, or much more than a picture needs; the message says so in a few words."""


def checked(content: bytes, pixels: int) -> bytes:
    """Return the file of a picture, a JPEG without what follows its end; other files pass as they are.

    Raises Costly. `pixels` is the most that a tile may have.
    """
    try:
        if content.startswith(b"\xff\xd8"):
            return _jpeg(content)
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            _check_png(content)
        elif content[:2] in (b"II", b"MM"):
            _check_tiff(content, pixels)
    except (IndexError, OverflowError, struct.error):
        raise Costly("is cut off") from None
    return content


def _jpeg(content: bytes) -> bytes:
    """Return a JPEG up to its end: what a decoder would find behind it is not counted here."""
    scan = _first_scan(content)
    end = content.find(END_OF_IMAGE, scan)
    whole = content if end < 0 else content[: end + len(END_OF_IMAGE)]
    if whole.count(START_OF_SCAN, scan) > SCANS:
        raise Costly(f"has more than {SCANS} scans")
    return whole


def _first_scan(content: bytes) -> int:
    """Return where the first scan begins. Bytes between segments are not passed over, as Pillow would one by one."""
    place = 2
    for _ in range(SEGMENTS):
        if content[place] != 0xFF:
            raise Costly("has bytes between its segments")
        kind = content[place + 1]
        if kind == 0xDA:
            return place
        if kind == 0xFF:  # a byte to fill up
            place += 1
        elif kind in HAS_LENGTH:
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        else:
            raise Costly("has no picture where one is due")
    raise Costly(f"has more than {SEGMENTS} segments")


def _check_png(content: bytes) -> None:
    place = 8
    for _ in range(CHUNKS):
        if place >= len(content) or content[place + 4 : place + 8] == b"IEND":
            return
        place += 12 + int.from_bytes(content[place : place + 4], "big")
    raise Costly(f"has more than {CHUNKS} chunks")


@dataclass(frozen=True, slots=True)
class _Form:
    """How the numbers of a TIFF are written, as `struct` says it."""

    order: str
    """Little-endian or big-endian: < or >."""

    start: str
    """Of the first list of tags, and of the next one."""

    count: str
    """Of the tags of a page."""

    entry: str
    """A tag: its number, type, how many values, the value or where they are."""


def _check_tiff(content: bytes, pixels: int) -> None:
    """Check the lists of tags of all pages."""
    order = "<" if content[:2] == b"II" else ">"
    is_big = content[2] == 43  # BigTIFF
    start, count, entry = ("Q", "Q", "HHQ8s") if is_big else ("I", "H", "HHI4s")
    form = _Form(order, start=order + start, count=order + count, entry=order + entry)
    (place,) = struct.unpack_from(form.start, content, 8 if is_big else 4)
    parts, seen = 0, set[int]()
    while place and place not in seen:  # decoders end there as well
        seen.add(place)
        if len(seen) > PAGES:
            raise Costly(f"has more than {PAGES} pages")
        parts, place = _check_page(content, place, form, pixels, parts)


def _check_page(content: bytes, place: int, form: _Form, pixels: int, parts: int) -> tuple[int, int]:
    """Check the list of tags of a page; return the parts so far with its own, and where the next list begins.

    The first of two tags with one number counts, as everywhere.
    """
    (entries,) = struct.unpack_from(form.count, content, place)
    first, size = place + struct.calcsize(form.count), struct.calcsize(form.entry)
    end = first + entries * size
    parts += entries
    sides: dict[int, int] = {}
    for offset in range(first, min(end, len(content)), size):
        tag, kind, values, data = struct.unpack_from(form.entry, content, offset)
        if values > VALUES and kind not in TEXT_AND_BYTES:
            raise Costly(f"has a list of more than {VALUES} values")
        parts += values if kind not in TEXT_AND_BYTES else 0
        if parts > PARTS:
            raise Costly(f"has more than {PARTS} tags and values")
        if tag in (TILE_WIDTH, TILE_LENGTH) and tag not in sides:
            if kind not in INTEGERS or values != 1:
                raise Costly("has tiles without a size")
            (sides[tag],) = struct.unpack_from(form.order + INTEGERS[kind], data)
    if len(sides) == 2 and sides[TILE_WIDTH] * sides[TILE_LENGTH] > pixels:
        raise Costly(f"has tiles of more than {pixels} pixels")
    return parts, struct.unpack_from(form.start, content, end)[0]
