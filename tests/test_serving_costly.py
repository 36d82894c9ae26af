"""Small files that would keep a decoder busy for minutes are told from their structure; honest ones pass."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin
from serving_requests import picture
from test_serving_pictures import LIMITS, PLACE, file_of, url_of

from gmai_vl.serving.costly import HAS_LENGTH, Costly, checked
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.pictures import picture_of, picture_of_bytes
from gmai_vl.serving.refusals import Refusal

PIXELS = 10**6
JPEG, PNG = file_of(picture(0), "JPEG"), file_of(picture(0), "PNG")


def segment(kind, content=b""):
    return bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def scans(count):
    """Return a progressive JPEG whose last scan, which refines the picture, comes again and again."""
    whole = file_of(picture(0), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * count + whole[-2:]


def tiff(*changes, order="<", is_big=False):
    """Return a picture of 4 x 4, some of whose tags (number, type, values, value) are other ones or new."""
    tags = {256: (4, 1, 4), 257: (4, 1, 4), 258: (4, 1, 8), 259: (4, 1, 1), 262: (4, 1, 1), 273: (4, 1, 16)}
    tags |= {277: (4, 1, 1), 278: (4, 1, 4), 279: (4, 1, 16)}
    tags |= {tag: rest for tag, *rest in changes}
    entry, counted = ("HHQQ", "Q") if is_big else ("HHII", "H")
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if is_big else 42)
    start += struct.pack(order + "HHQ", 8, 0, 32) if is_big else struct.pack(order + "I", 32)
    listed = b"".join(
        struct.pack(order + entry, tag, kind, values, value << 32 if is_big and order == ">" else value)
        for tag, (kind, values, value) in sorted(tags.items())
    )
    return start.ljust(16, b"\0") + bytes(16) + struct.pack(order + counted, len(tags)) + listed + bytes(8)


def tiff_of_pages(count, *changes):
    """Return a TIFF whose pages after the first, whose pixels are the first's, have some tags of their own."""
    first, page = tiff(), tiff(*changes)[32:-8]
    whole = bytearray(first[:-8])
    for _ in range(count - 1):
        whole += struct.pack("<I", len(whole) + 4) + page
    return bytes(whole) + bytes(4)


COSTLY = {
    "scans": scans(100),
    "segments": JPEG[:2] + segment(0xE0) * 3000 + JPEG[2:],
    "bytes to fill up": JPEG[:2] + b"\xff" * 3000 + JPEG[2:],
    "bytes between segments": JPEG[:2] + bytes(3000) + JPEG[2:],
    "a marker whose length a decoder passes over": JPEG[:2] + segment(0xD0, bytes(3000)) + JPEG[2:],
    "chunks": PNG[:33] + chunk(b"aaAa") * 70_000 + PNG[33:],
    "strips": tiff((273, 4, 10**6, 8)),
    "strips of a large file": tiff((273, 4, 10**6, 8), is_big=True),
    "a tile": tiff((322, 4, 1, 40_000), (323, 4, 1, 50_000)),
    "a tile, the other way round": tiff((322, 4, 1, 40_000), (323, 4, 1, 50_000), order=">"),
    "strips of a later page": tiff_of_pages(2, (273, 4, 10**6, 8)),
    "strips of all pages": tiff_of_pages(50, (273, 4, 50_000, 8)),
    "tags": (big := tiff(is_big=True))[:32] + struct.pack("<Q", 2**21) + big[40:],
    "pages": tiff_of_pages(3000),
    "a tile of a later page": tiff_of_pages(3, (322, 4, 1, 40_000), (323, 4, 1, 50_000)),
    "a tile whose size is a fraction": tiff((322, 11, 1, 0x471C4000), (323, 11, 1, 0x47435000)),
}


@pytest.mark.parametrize("name", COSTLY)
def test_costly_files_are_refused(name):
    with pytest.raises(Costly):
        checked(COSTLY[name], PIXELS)
    with pytest.raises(Refusal) as refusal:
        picture_of_bytes(COSTLY[name], Limits(), PLACE)
    assert refusal.value.status == 422
    assert refusal.value.line.startswith(f"{PLACE}: cannot be read as a picture: it has ")


def test_as_many_parts_as_are_usual_are_taken():
    for content in (scans(20), JPEG[:2] + segment(0xE2, b"x" * 9) * 300 + JPEG[2:], PNG[:33] + chunk(b"aaAa") * 9000):
        assert checked(content, PIXELS) == content
    expected = np.asarray(Image.open(io.BytesIO(scans(20))))
    assert (picture_of_bytes(scans(20), LIMITS, PLACE) == expected).all()


@pytest.mark.parametrize(("order", "is_big"), [("<", False), (">", False), ("<", True)])
def test_a_plain_tiff_of_every_kind_that_pillow_reads_passes(order, is_big):
    assert picture_of_bytes(tiff(order=order, is_big=is_big), LIMITS, PLACE).shape == (4, 4)
    assert picture_of_bytes(tiff((322, 4, 1, 16), (323, 4, 1, 16)), LIMITS, PLACE).shape == (4, 4)


def test_as_many_pages_as_are_usual_pass_and_a_chain_ends_where_it_began():
    film = tiff_of_pages(300)
    assert checked(film, PIXELS) == film
    assert Image.open(io.BytesIO(film)).n_frames == 300
    ring = film[:-4] + struct.pack("<I", 32)
    assert checked(ring, PIXELS) == ring


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_tiff_with_many_strips_passes(compression):
    file = io.BytesIO()
    Image.fromarray(np.zeros((3000, 10), np.uint8)).save(file, "TIFF", compression=compression, strip_size=10)
    assert picture_of_bytes(file.getvalue(), LIMITS, PLACE).shape == (3000, 10)


def test_what_follows_a_jpeg_is_left_out():
    """A camera's film behind its photograph holds what looks like scans."""
    film = b"\xff\xda" * 1000
    assert checked(JPEG + film, PIXELS) == JPEG
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph = file_of(picture(1), "JPEG", exif=exif)
    assert (picture_of_bytes(photograph + film, LIMITS, PLACE) == np.rot90(picture_of_bytes(
        file_of(picture(1), "JPEG"), LIMITS, PLACE), -1)).all()  # fmt: skip


def test_segments_are_those_that_the_decoder_reads_by_their_length():
    """Else it would look for segments within what is passed over here."""
    read = {marker & 0xFF for marker, (*_, handler) in JpegImagePlugin.MARKER.items() if handler is not None}
    assert HAS_LENGTH.issubset(read - {0xDA})


def test_pages_are_not_counted_to_their_end():
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\0"
    assert picture_of_bytes(head + frame + b";", LIMITS, PLACE).shape[:2] == (1, 1)
    with pytest.raises(Refusal, match="has several pages") as refusal:
        picture_of_bytes(head + frame * 10**4 + b";", LIMITS, PLACE)
    assert refusal.value.status == 422


def test_what_pillow_says_of_a_file_is_not_passed_on():
    damaged = PNG[:33] + struct.pack(">I", 3) + b"Doe\x01" + PNG[33:]
    with pytest.raises(Refusal) as refusal:
        picture_of_bytes(damaged, LIMITS, PLACE)
    assert "Doe" not in refusal.value.line


def test_damaged_exif_is_no_reason_to_refuse_a_photograph():
    content = JPEG[:2] + segment(0xE1, b"Exif\0\0garbage of a phone") + JPEG[2:]
    assert (picture_of_bytes(content, LIMITS, PLACE) == picture_of_bytes(JPEG, LIMITS, PLACE)).all()


@pytest.mark.parametrize("head", ["image/png" + ";" * 10**6 + "base64", "image/" + "p" * 10**6, ";" * 10**6])
def test_a_head_without_end_is_not_taken_apart(head):
    with pytest.raises(Refusal) as refusal:
        picture_of(url_of(PNG).replace("image/png;base64", f"{head};base64"), Limits(), PLACE)
    assert refusal.value.status == 400
    assert len(refusal.value.line) < 200


def test_the_web_is_told_how_it_is_switched_on():
    for url in ("http://e.org/a.png", "HTTPS://e.org/a.png"):
        with pytest.raises(Refusal, match="--allow-remote-images"):
            picture_of(url, LIMITS, PLACE)


@given(
    st.binary(max_size=60),
    st.sampled_from([b"\xff\xd8", b"\xff\xd8\xff", PNG[:8], PNG[:30], b"II*\0", b"MM\0*", b"II+\0"]),
)
def test_any_bytes_pass_or_are_told(noise, start):
    try:
        assert (start + noise).startswith(checked(start + noise, PIXELS))
    except Costly as costly:
        assert str(costly).startswith(("has ", "is "))
