"""Pictures of a request: what passes is the pixels, what does not is refused before it costs anything."""

import base64
import io
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from serving_requests import data_url, picture

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.pictures import picture_of, picture_of_bytes
from gmai_vl.serving.refusals import Refusal

LIMITS = Limits(image_bytes=200_000, image_pixels=100_000)
PLACE = "messages[0].content[0].image_url.url"


def file_of(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def url_of(content, media="image/png"):
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


LINES = frozenset(
    {
        "is no data: address; start the server with --allow-remote-images for https",
        "is no data: address; send base64",
        "must begin with data:image/png;base64, or another type of picture",
        "more than N bytes, the limit of a picture",
        "what follows `base64,` is no base64",
        "N x N pixels are more than N, the limit of a picture; make it smaller",
        "its pixels are more than N, the limit of a picture; make it smaller",
        "has several pages; a picture has one",
        "is no PNG, JPEG, GIF, TIFF, BMP, WEBP picture",
        "cannot be decoded: it is damaged, cut off, or of a kind that is not read",
        "cannot be read as a picture: it is cut off",
        *(
            f"cannot be read as a picture: it has {what}"
            for what in (
                "bytes between its segments",
                "no picture where one is due",
                "tiles without a size",
                *(f"more than N {parts}" for parts in ("scans", "segments", "chunks")),
                "a list of more than N values",
                "tiles of more than N pixels",
            )
        ),
    }
)
"""All that is said of a file, but for numbers: nothing that stands in it can be among it."""


def refused(url, limits=LIMITS):
    with pytest.raises(Refusal) as refusal:
        picture_of(url, limits, PLACE)
    return told(refusal.value)


def told(refusal):
    """Return the status of a refusal that says where, and no word of what came."""
    place, _, line = refusal.line.partition(": ")
    assert place == refusal.param == PLACE
    assert re.sub(r"\b[0-9]+\b", "N", line) in LINES
    return refusal.status


LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "WEBP": {"lossless": True}}
GREY = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_pixels_come_out_as_they_went_in(kind):
    url = url_of(file_of(picture(0), kind, **LOSSLESS[kind]), f"image/{kind.lower()}")
    assert (picture_of(url, LIMITS, PLACE) == picture(0)).all()
    assert (picture_of(data_url(picture(0)), LIMITS, PLACE) == picture(0)).all()


@pytest.mark.parametrize("kind", [*LOSSLESS, "GIF"])
def test_grey_stays_grey(kind):
    out = picture_of_bytes(file_of(GREY, kind, **LOSSLESS.get(kind, {})), LIMITS, PLACE)
    assert (np.broadcast_to(GREY[..., None], (20, 30, 3)) == np.atleast_3d(out)).all()
    assert out.ndim == (3 if kind == "WEBP" else 2)  # WebP knows colours only


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WEBP"])
def test_what_is_lossy_comes_out_as_others_decode_it(kind):
    content = file_of(picture(0), kind)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert (picture_of_bytes(content, LIMITS, PLACE) == expected).all()


@pytest.mark.parametrize("kind", ["JPEG", *(kind for kind in LOSSLESS if kind != "BMP")])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photograph_is_seen_as_it_was_held(kind, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    content = file_of(picture(1), kind, exif=exif, **LOSSLESS.get(kind, {}))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert (picture_of_bytes(content, LIMITS, PLACE) == expected).all()


@pytest.mark.parametrize(
    ("kind", "count", "value"), [(3, 1, 0), (3, 1, 9), (3, 1, 65535), (2, 2, 6), (5, 1, 6), (99, 1, 6)]
)
def test_a_turn_that_is_none_is_left_out(kind, count, value):
    """Of another size, or as a text, a fraction, or a type that there is not."""
    exif = Image.Exif()
    exif[0x0112] = 6
    odd = exif.tobytes().replace(
        struct.pack(">HHIH", 0x0112, 3, 1, 6), struct.pack(">HHIH", 0x0112, kind, count, value)
    )
    assert odd != exif.tobytes()
    for form in ("JPEG", "PNG"):
        plain, content = file_of(picture(1), form), file_of(picture(1), form, exif=odd)
        assert (picture_of_bytes(content, LIMITS, PLACE) == picture_of_bytes(plain, LIMITS, PLACE)).all()


def test_exactly_the_limits_are_taken():
    content = file_of(picture(0), "PNG")  # 50 x 30
    assert picture_of(url_of(content), Limits(image_bytes=len(content), image_pixels=1500), PLACE).shape == (30, 50, 3)
    assert refused(url_of(content), Limits(image_bytes=len(content) - 1)) == 413
    assert refused(url_of(content), Limits(image_pixels=1499)) == 422


def png_header(width, height, data=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff_header(width, height):
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 4, height)]
    tags.append((279, 4, 1))
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def gif_header(screen, frame):
    size = struct.pack("<HH", frame, frame)
    return b"GIF89a" + struct.pack("<HH", screen, screen) + b"\0\0\0,\0\0\0\0" + size + b"\0\x02\0;"


BOMBS = {
    "a header alone": png_header(20_000, 20_000),
    "a valid small stream": png_header(20_000, 20_000, zlib.compress(bytes(20_001))),
    "a whole one": file_of(np.zeros((400, 400), np.uint8), "PNG"),
    "a tiff": tiff_header(60_000, 60_000),
    "a huge header": png_header(2**31 - 1, 2**31 - 1),
    "a gif": gif_header(60_000, 60_000),
    "a gif larger than its screen": gif_header(4, 60_000),
    "a bmp": b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "a webp": b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8L" + struct.pack("<IBI", 5, 0x2F, 2**28 - 1) + bytes(13),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_told_by_their_header(name):
    assert refused(url_of(BOMBS[name])) == 422


_DECODE = """
import resource, sys
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.pictures import picture_of_bytes
from gmai_vl.serving.refusals import Refusal
content = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    picture_of_bytes(content, Limits(), "p")
except Refusal as refusal:
    print(refusal.status, end=" ")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_bomb_of_sixty_million_pixels_takes_no_memory():
    """In a process of its own, whose peak is read."""
    bomb = png_header(8_000, 8_000, zlib.compress(bytes(8_001 * 8_000), 9))
    assert len(bomb) < 10**5
    said = subprocess.run([sys.executable, "-c", _DECODE], input=bomb, capture_output=True, check=True).stdout.split()
    assert said[0] == b"422"
    assert int(said[1]) < 20_000, "KiB"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
def test_cut_anywhere_it_is_a_picture_or_refused(kind):
    whole = file_of(picture(2), kind)
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        try:
            pixels = picture_of_bytes(whole[:length], LIMITS, PLACE)
        except Refusal as refusal:
            assert told(refusal) == 422
        else:
            assert pixels.shape[:2] == picture(2).shape[:2]


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<!doctype html><img src=x onerror=alert(1)>",
        b"%PDF-1.7",
        b"",
        b"\x89PNG\r\n\x1a\n" + b"<script>secret</script>",
    ],
)
def test_what_only_calls_itself_a_picture_is_refused_unquoted(content):
    assert refused(url_of(content)) == 422


def test_several_pages_are_no_picture():
    pages = [Image.fromarray(np.full((5, 5), shade, np.uint8)) for shade in range(3)]
    for kind in ("GIF", "TIFF"):
        file = io.BytesIO()
        pages[0].save(file, kind, save_all=True, append_images=pages[1:])
        assert refused(url_of(file.getvalue())) == 422


def test_a_document_of_many_pages_and_one_without_an_end():
    file = io.BytesIO()
    page = Image.fromarray(np.zeros((5, 5), np.uint8))
    page.save(file, "TIFF", save_all=True, append_images=[page] * 1500)
    assert refused(url_of(file.getvalue()), Limits()) == 422
    whole = bytearray(tiff_header(4, 4))
    whole[-4:] = struct.pack("<I", 8)  # the next page is the first one
    assert picture_of_bytes(bytes(whole), LIMITS, PLACE).shape == (4, 4)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://example.org/a.png", 400),
        ("http://127.0.0.1/a.png", 400),
        ("file:///etc/passwd", 400),
        ("javascript:alert(1)", 400),
        ("", 400),
        ("data:", 400),
        ("data:,x", 400),
        ("data:text/html;base64,eA==", 400),
        ("data:image/svg+xml;base64,eA==", 400),
        ("data:image/png,rawbytes", 400),
        ("data:image/png;base64", 400),
        ("data:image/png;base64,%%%", 400),
        ("data:image/png;base64,ab c=", 400),
        ("data:image/png;base64,abc", 400),
        ("data:image/png;base64,é", 400),
        ("data:image/png;base64,\ud800", 400),
        ("data:image/png;base64,\0", 400),
        ("data:image/png;base64,eA==\n", 400),
        ("data:image/png;base64,eA==eA==", 400),
        ("data:image/png;base64,_-_-", 400),
        ("data:image/png;base64,data:image/png;base64,eA==", 400),
        ("data:image/png;base64 ,eA==", 400),
        ("data:image/png;base64;x,eA==", 400),
        ("data:image/png;BASE64,eA==", 422),
        ("data: image/png ;base64,eA==", 422),
        ("data:image/png;base64,", 422),
        ("data:image/png;base64," + "A" * 266_672, 413),
    ],
)
def test_addresses_that_hold_no_picture(url, status):
    assert refused(url) == status


def test_the_head_may_name_parameters_and_any_case():
    url = data_url(picture(0)).replace("data:image/png;", "DATA:Image/PNG;name=a.png;")
    assert (picture_of(url, LIMITS, PLACE) == picture(0)).all()


HEADS = ("data:", "data:image/png;base64,", "data:image/png;", "https://")


@given(st.sampled_from(["", *HEADS]), st.text(st.characters(codec=None), max_size=200), st.binary(max_size=50))
def test_any_text_is_refused(start, text, content):
    for url in (start + text, start + base64.b64encode(content).decode()):
        assert refused(url) in (400, 422)


@given(st.binary(max_size=300), st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"]), st.integers(0, 200))
def test_any_damage_is_refused_or_a_picture(noise, kind, place):
    whole = bytearray(file_of(picture(0, 12, 12), kind))
    whole[place : place + len(noise)] = noise
    try:
        pixels = picture_of_bytes(bytes(whole), LIMITS, PLACE)
    except Refusal as refusal:
        assert told(refusal) == 422
    else:
        assert pixels.size <= 3 * LIMITS.image_pixels
