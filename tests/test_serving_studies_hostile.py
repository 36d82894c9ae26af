"""Uploads that mean no good, or are broken: refused or left out with a reason, within bounds, and nobody is named."""

import gzip
import io
import re
import struct
import subprocess
import sys
import tracemalloc
import zlib

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian
from serving_studies import (
    HOSTILE_LIMITS,
    MARKER,
    axial_slices,
    body,
    everything_below,
    good_picture,
    left_out_beside,
    write_series,
    zip_of,
)
from test_deidentify import planted, traces
from test_sources_dicom import RAMP, dataset

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.studies import StudyStore, open_study

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::UserWarning:PIL")


@pytest.fixture
def opened(tmp_path):
    (tmp_path / "unpacked").mkdir()
    return lambda files, limits=HOSTILE_LIMITS: open_study(files, limits, tmp_path / "unpacked")


def written(tmp_path, ds, name="bad"):
    ds.save_as(tmp_path / name, enforce_file_format=True)
    return tmp_path / name


# DICOM


def test_dicom_files_cut_short_anywhere(tmp_path, opened):
    content = written(tmp_path, dataset(RAMP, PatientName=MARKER)).read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut").write_bytes(content[:length])
        reasons = left_out_beside(tmp_path / "good.png", opened, tmp_path / "cut")
        assert sum(reasons.values()) == 1
        assert not traces(str(reasons))


BOMBS = {
    "a header of 20,000 x 20,000": {"Rows": 20_000, "Columns": 20_000},
    "a hundred thousand frames": {"NumberOfFrames": 100_000},
    "frames below zero": {"NumberOfFrames": -3},
    "no rows": {"Rows": 0},
    "a million frames of 512": {"NumberOfFrames": 10**6, "Rows": 512, "Columns": 512},
    "frames without end": {"NumberOfFrames": 10**30},
    "many samples": {"SamplesPerPixel": 60_000},
    "odd bits": {"BitsAllocated": 13},
}


@pytest.mark.parametrize("what", BOMBS)
def test_headers_that_promise_more_than_there_is(tmp_path, opened, what):
    ds = dataset(RAMP)
    for keyword, value in BOMBS[what].items():
        setattr(ds, keyword, value)
    tracemalloc.start()
    try:
        reasons = left_out_beside(tmp_path / "good.png", opened, written(tmp_path, ds))
        assert tracemalloc.get_traced_memory()[1] < 3 * 10**7
    finally:
        tracemalloc.stop()
    assert sum(reasons.values()) == 1


def test_a_deflated_bomb(tmp_path, opened):
    whole = written(tmp_path, dataset(RAMP, syntax=DeflatedExplicitVRLittleEndian)).read_bytes()
    head = whole[: 144 + struct.unpack_from("<I", whole, 140)[0]]
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 2**28))
    for _ in range(2**8 + 1):
        packed += packer.compress(bytes(2**20))
    (tmp_path / "bad").write_bytes(head + packed + packer.flush())
    assert (tmp_path / "bad").stat().st_size < 10**6
    (reason,) = left_out_beside(tmp_path / "good.png", opened, tmp_path / "bad")
    assert "unpacks to more" in reason


def with_elements(tmp_path, elements):
    """Write a DICOM file that begins with some elements."""
    whole = written(tmp_path, dataset(RAMP)).read_bytes()
    start = 144 + struct.unpack_from("<I", whole, 140)[0]
    (tmp_path / "bad").write_bytes(whole[:start] + elements + whole[start:])
    return tmp_path / "bad"


def test_a_million_small_elements_and_a_sequence_of_bytes_do_not_fill_the_memory(tmp_path, opened):
    endless = struct.pack("<HH2sHI", 0x0008, 0x0001, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    many = with_elements(tmp_path, endless + item * 500_000 + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    assert set(left_out_beside(tmp_path / "good.png", opened, many)) == {"its header has too many elements"}
    large = with_elements(tmp_path, struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 2**25) + bytes(2**25))
    (reason,) = left_out_beside(tmp_path / "good.png", opened, large)
    assert "its header has more than" in reason


def test_a_series_with_a_damaged_file_is_shown_without_it(tmp_path, opened):
    files = write_series(tmp_path / "s", axial_slices(body()))
    content = files[3].read_bytes()
    files[3].write_bytes(content[:-20])
    study = opened(files)
    assert [(one.kind, one.planes[0].slices) for one in study.series] == [("frames", 6)]
    ((reason, count),) = study.left_out
    assert count == 1
    assert "cut short" in reason


# Volumes


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volumes_cut_short_anywhere(tmp_path, opened, suffix):
    nibabel.save(nibabel.Nifti1Image(body(), np.eye(4)), tmp_path / f"a{suffix}")
    content = (tmp_path / f"a{suffix}").read_bytes()
    for length in range(0, len(content) - 32, 53):
        (tmp_path / f"{MARKER}{suffix}").write_bytes(content[:length])
        reasons = left_out_beside(tmp_path / "good.png", opened, tmp_path / f"{MARKER}{suffix}")
        assert sum(reasons.values()) == 1
        assert not traces(str(reasons))


def nifti(tmp_path, name="bad", packed=False, **header):
    """Write a NIfTI header with some values changed, and few voxels."""
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
    image.header["descrip"] = MARKER.encode()
    image.to_filename(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    for place, form, values in header.values():
        struct.pack_into(form, content, place, *values)
    (tmp_path / name).write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return tmp_path / name


HEADERS = {
    "30,000 cubed": {"dim": (40, "<4h", (3, 30_000, 30_000, 30_000))},
    "a dimension below zero": {"dim": (40, "<4h", (3, -4, 4, 4))},
    "more than the limit": {"dim": (40, "<4h", (3, 101, 100, 100))},
    "time": {"dim": (40, "<5h", (4, 2, 2, 2, 8))},
    "complex numbers": {"datatype": (70, "<2h", (2048, 256))},
    "colours": {"datatype": (70, "<2h", (128, 24))},
    "no such numbers": {"datatype": (70, "<2h", (4711, 16))},
    "no orientation": {"codes": (252, "<2h", (0, 0))},
    "a flat affine": {"srow": (280, "<12f", (0,) * 12)},
    "not finite": {"srow": (280, "<12f", (float("nan"),) * 12)},
    "a scale that is not finite": {"slope": (112, "<2f", (1.0, float("inf")))},
    "voxels far away": {"offset": (108, "<f", (1e12,))},
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("what", HEADERS)
def test_volumes_whose_header_is_no_good(tmp_path, opened, what, packed):
    tracemalloc.start()
    try:
        reasons = left_out_beside(tmp_path / "good.png", opened, nifti(tmp_path, packed=packed, **HEADERS[what]))
        assert tracemalloc.get_traced_memory()[1] < 3 * 10**7
    finally:
        tracemalloc.stop()
    assert sum(reasons.values()) == 1
    assert not traces(str(reasons))


def test_small_files_that_are_large_volumes_fill_the_memory_of_one_study_only(tmp_path, opened):
    nibabel.save(nibabel.Nifti1Image(np.zeros((90, 100, 100), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    files = []
    for number in range(8):
        files.append(tmp_path / f"{number}.nii.gz")
        files[-1].write_bytes((tmp_path / "a.nii.gz").read_bytes())
    assert files[0].stat().st_size < 10_000
    study = opened(files, Limits(study_memory=8 * 10**6))
    assert sum(one.nbytes for one in study.series) <= 8 * 10**6
    assert len(study.series) == 3
    assert dict(study.left_out) == {"does not fit into the memory of a study beside the rest": 5}


# Pictures


def png_of(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def tiff_of_pages(count):
    """Return a TIFF of so many pages of one pixel."""
    pages = bytearray(b"II*\0" + struct.pack("<I", 8))
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 0), (277, 1), (278, 1), (279, 1)]
    for page in range(count):
        pages += struct.pack("<H", len(tags))
        for tag, value in tags:
            pages += struct.pack("<HHII", tag, 4, 1, value)
        following = len(pages) + 4
        pages += struct.pack("<I", following if page + 1 < count else 0)
    return bytes(pages)


POSING = {
    "a header of 20,000 x 20,000": png_of(20_000, 20_000),
    "html": b"<html><script>alert(1)</script></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "html behind a mark": b"\x89PNG\r\n\x1a\n<html></html>",
    "svg behind a mark": b"\xff\xd8\xff<svg/>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0",
    "pages without end": tiff_of_pages(5_000),
    "gzip of nothing": gzip.compress(b""),
    "the beginning of a NIfTI": gzip.compress(struct.pack("<i", 348)),
    "a RIFF that is no picture": b"RIFF\0\0\0\0WAVE",
    "nrrd": b"NRRD0004\ntype: short\ndimension: 3\nsizes: 3000 3000 3000\ndata file: /etc/passwd\n\n",
    "mha": b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementDataFile = ../../etc/passwd\n",
}


@pytest.mark.parametrize("what", POSING)
def test_what_poses_as_a_picture_or_a_volume(tmp_path, opened, what):
    (tmp_path / f"{MARKER}.png").write_bytes(POSING[what])
    tracemalloc.start()
    try:
        reasons = left_out_beside(tmp_path / "good.png", opened, tmp_path / f"{MARKER}.png")
        assert tracemalloc.get_traced_memory()[1] < 3 * 10**7
    finally:
        tracemalloc.stop()
    assert sum(reasons.values()) == 1
    assert not re.search(f"passwd|html|{MARKER}", str(reasons))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_pictures_cut_short_anywhere(tmp_path, opened, kind):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file, kind)
    content = file.getvalue()
    for length in range(0, len(content) - 100, 41):
        (tmp_path / "cut").write_bytes(content[:length])
        study = opened([good_picture(tmp_path / "good.png"), tmp_path / "cut"])
        assert len(study.series) + len(study.left_out) == 2  # some decoders take what there is


# Names


NAMED = """
import sys, tempfile
from pathlib import Path
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.studies import open_study
for path in sorted(Path(sys.argv[1]).iterdir()):
    with tempfile.TemporaryDirectory() as folder:
        try:
            study = open_study([path], Limits(), Path(folder))
            print(study)
            for series in study.series:
                for stack in series.planes:
                    for window in ("stored", "auto", "none"):
                        try:
                            series.slice(stack.name, stack.first, window)
                        except Refusal as refusal:
                            print(refusal.body(), refusal.headers)
        except Refusal as refusal:
            print(refusal.body(), refusal.headers)
"""


def test_nobody_is_named_in_what_is_told_or_printed_or_logged(tmp_path):
    """In a process of its own, where warnings and logs go where they go in the server."""
    (tmp_path / "files").mkdir()
    ds = planted()
    ds.SeriesInstanceUID = "1.3.6.1.4.1.99999.4711.8150"
    whole = written(tmp_path / "files", ds, f"{MARKER} 1").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(12):
        garbled = bytearray(whole)
        place = int(rng.integers(132, len(whole) - 40))
        garbled[place : place + 4] = rng.bytes(4)
        (tmp_path / "files" / f"{MARKER} garbled {number}").write_bytes(garbled[: None if number % 2 else place + 1000])
    for number, (keyword, value) in enumerate(
        [
            ("Rows", 9000),
            ("Modality", MARKER),
            ("PhotometricInterpretation", MARKER),
            ("SOPClassUID", "1.3.6.1.4.1.99999.4711.8150"),
            ("BitsStored", 99),
        ]
    ):
        bad = dcmread(io.BytesIO(whole))
        setattr(bad, keyword, value)
        written(tmp_path / "files", bad, f"{MARKER} bad {number}")
    bad = dcmread(io.BytesIO(whole))
    bad.file_meta.TransferSyntaxUID = "1.3.6.1.4.1.99999.4711.8150"
    bad.save_as(tmp_path / "files" / MARKER, enforce_file_format=True, implicit_vr=False, little_endian=True)
    zip_of(tmp_path / "files", [(f"{MARKER}/{MARKER}", whole), (f"{MARKER}.txt", MARKER.encode())], f"{MARKER}.zip")
    for number, header in enumerate(HEADERS.values()):
        nifti(tmp_path / "files", f"{MARKER} {number}.nii", **header)
    (tmp_path / "files" / "a.nii").unlink()
    said = subprocess.run(
        [sys.executable, "-W", "default", "-c", NAMED, str(tmp_path / "files")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.count("\n") > 30
    told = said.stdout.replace(str(tmp_path), "")
    # The study itself knows its files; what is told of it does not.
    told = re.sub(r"PosixPath\('[^']*'\)", "", told)
    assert not traces(told), [line for line in told.splitlines() if traces(line)][:3]
    assert not traces(said.stderr), said.stderr[:2000]


def test_nothing_outside_the_folder_is_touched(tmp_path):
    (tmp_path / "upload").mkdir()
    files = write_series(tmp_path / "upload" / "s", axial_slices(body()))
    files += [nifti(tmp_path / "upload"), good_picture(tmp_path / "upload" / "p")]
    files.append(zip_of(tmp_path / "upload", [("../../x", files[0].read_bytes())]))
    before = everything_below(tmp_path)
    store = StudyStore(tmp_path / "kept", HOSTILE_LIMITS)
    room = store.room()
    copies = []
    for number, path in enumerate(files):
        copies.append(room / str(number))
        copies[-1].write_bytes(path.read_bytes())
    store.add(room, copies)
    store.close()
    after = everything_below(tmp_path)
    assert after.pop(tmp_path / "kept")
    assert after == before
