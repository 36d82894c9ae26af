"""The pixels of one DICOM file: read, held against the limits before anything is decoded, and brought to a screen."""

import logging
import struct
import zlib
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from gmai_vl.foundation import BadItem
from gmai_vl.sources.decoder import decoded_frame
from gmai_vl.sources.geometry import percentile_window, to_uint8

# pydicom's messages quote values of the header, and those may name a person.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

MAX_PIXELS = 2**26
"""Of one frame, times samples a pixel."""
MAX_PIXELS_OF_ALL_FRAMES = 2**31
MAX_UNPACKED_BYTES = 2**28
"""Of a deflated data set."""
MAX_HEADER_BYTES = 2**24
"""Of all elements but the pixels; a thousand frames with a header of their own take 1 MB."""
MAX_READS = 400_000
"""Of one file: two or three an element, which takes some hundred bytes of memory however small it is in the file."""

PIXEL_DATA = 0x7FE00010
_PREAMBLE, _GROUP_LENGTH = 132, 12
"""Bytes before the file meta information, and of its first element, which tells how long the rest is (PS3.10 7.1)."""


def read_file(path: Path) -> Dataset:
    """Return a file with its pixels not yet decoded. Raises BadItem, and what pydicom raises on damaged files."""
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        ds = _inflated(path, meta)
    else:
        with _Counted(FileIO(path)) as stream:
            ds = dcmread(stream)
    # Sequences of a told length are bytes still; once read they take fifty times as much.
    values = [ds.get_item(tag).value for tag in ds.keys() if tag != PIXEL_DATA]  # noqa: SIM118  not the elements
    if sum(len(value) for value in values if isinstance(value, bytes)) > MAX_HEADER_BYTES:
        raise BadItem(f"its header has more than {MAX_HEADER_BYTES} bytes")
    return ds


class _Counted(BufferedReader):
    """A file that is given up after so many reads."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise BadItem("its header has too many elements")
        return super().read(size)


def _inflated(path: Path, meta: FileMetaDataset) -> Dataset:
    """Read a deflated data set (PS3.5 A.5) into bounded memory. Raises BadItem if it unpacks to more."""
    unpacker = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    packed = path.read_bytes()[_PREAMBLE + _GROUP_LENGTH + int(meta.FileMetaInformationGroupLength) :]
    unpacked = unpacker.decompress(packed, MAX_UNPACKED_BYTES)
    if unpacker.unconsumed_tail:
        raise BadItem(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    ds = read_dataset(_Counted(BytesIO(unpacked)), is_implicit_VR=False, is_little_endian=True)
    ds.file_meta = meta
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def frame_count(ds: Dataset) -> int:
    """Return how many frames a file says that it has."""
    return int(ds.get("NumberOfFrames") or 1)


def checked_size(ds: Dataset, frame: int, frames: int) -> tuple[int, int]:
    """Return rows and columns, held against the limits and the frame's own header before anything is decoded."""
    rows, columns, samples = int(ds.Rows), int(ds.Columns), int(ds.get("SamplesPerPixel") or 1)
    if min(rows, columns, samples, frames) < 1:
        raise BadItem(f"says it has {columns} x {rows} pixels, {samples} samples and {frames} frames")
    count = rows * columns * samples
    if count > MAX_PIXELS or count * frames > MAX_PIXELS_OF_ALL_FRAMES:
        raise BadItem(f"{columns} x {rows} x {samples} pixels, {frames} frames, are more than the limit")
    syntax = ds.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        wanted = count * frames * int(ds.BitsAllocated) // 8
        if ds.PhotometricInterpretation == "YBR_FULL_422":
            wanted = wanted * 2 // 3  # two pixels share their two chroma values
        if len(ds.PixelData) < wanted:
            raise BadItem(f"is cut short: {len(ds.PixelData)} bytes of pixels instead of {wanted}")
    elif syntax != RLELossless:
        coded = _coded_size(get_frame(ds.PixelData, frame, number_of_frames=frames))
        if coded is None:
            raise BadItem(f"its pixels cannot be decoded ({syntax.name})")
        if coded != (rows, columns):
            raise BadItem(f"its compressed frame is {coded[1]} x {coded[0]} pixels, its header says {columns} x {rows}")
    return rows, columns


START_OF_JP2 = b"\x00\x00\x00\x0cjP  "
START_OF_JPEG2000 = b"\xff\x4f\xff\x51"
START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""Markers after which JPEG (T.81) and JPEG-LS (T.87, F7) write height and width."""


def _coded_size(frame: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream declares; None if it declares none."""
    if frame.startswith(START_OF_JP2):
        # A whole JP2 file instead of its stream is against the standard, but met with: boxes of length, kind, content.
        position = 0
        while frame[position + 4 : position + 8] != b"jp2c":
            position += max(8, *struct.unpack_from(">I", frame, position))
        frame = frame[position + 8 :]
    if frame.startswith(START_OF_JPEG2000):
        right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
        return bottom - top, right - left
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        if frame[position + 1] in START_OF_FRAME:
            rows, columns = struct.unpack_from(">HH", frame, position + 5)
            return rows, columns
        position += 2 + int(struct.unpack_from(">H", frame, position + 2)[0])
    return None


class Grey(NamedTuple):
    """A grey frame as its modality means it."""

    values: NDArray[Any]
    """[H, W], rescaled: Hounsfield units in CT."""

    window: tuple[float, float] | None
    """Values that are black and white, where the header tells them by a centre and a width."""

    is_inverted: bool
    """Whether low values are bright (MONOCHROME1)."""

    is_for_the_screen: bool
    """Whether the values are 8 bits that were made to be seen as they are."""


def shown_frame(ds: Dataset, path: Path, frame: int) -> NDArray[np.uint8]:
    """Decode one frame and return it as it is shown: [H, W] grey or [H, W, 3] RGB."""
    pixels = _decoded(ds, path, frame)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixels, ds)
        return _eight_bits(colours[..., :3], int(ds.RedPaletteColorLookupTableDescriptor[2]))
    if pixels.ndim == 3:
        return _eight_bits(pixels, int(ds.BitsStored))
    return _shown_grey(ds, _meant(ds, frame, pixels))


def grey_frame(ds: Dataset, path: Path, frame: int) -> Grey | None:
    """Decode one frame and return its values, None where it is in colour."""
    if ds.PhotometricInterpretation == "PALETTE COLOR" or int(ds.get("SamplesPerPixel") or 1) > 1:
        return None
    return _meant(ds, frame, _decoded(ds, path, frame))


def _decoded(ds: Dataset, path: Path, frame: int) -> NDArray[Any]:
    compressed = ds.file_meta.TransferSyntaxUID.is_compressed
    return decoded_frame(path, frame) if compressed else pixel_array(ds, index=frame)


def _eight_bits(colours: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Keep the upper 8 bits of unsigned colours."""
    return (colours >> max(bits - 8, 0)).astype(np.uint8)


def _meant(ds: Dataset, frame: int, pixels: NDArray[Any]) -> Grey:
    """Apply the modality's rescaling to stored values."""
    values = apply_modality_lut(pixels, _transform(ds, frame))
    window = None
    center, width = floats(ds, frame, "WindowCenter", 1), floats(ds, frame, "WindowWidth", 1)
    if center and width and width[0] > 1:
        # PS3.3 C.11.2.1.2.1, the linear function.
        middle, half = center[0] - 0.5, (width[0] - 1) / 2
        window = middle - half, middle + half
    screen = pixels.dtype == np.uint8 and int(ds.BitsStored) == 8 and values is pixels
    return Grey(values, window, ds.PhotometricInterpretation == "MONOCHROME1", screen)


def _shown_grey(ds: Dataset, grey: Grey) -> NDArray[np.uint8]:
    """Bring values through the header's window to 0-255."""
    if grey.window:
        shown = to_uint8(grey.values, *grey.window)
    elif "VOILUTSequence" in ds:
        shown = to_uint8(apply_voi(grey.values, ds), 0, 2 ** int(ds.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    elif grey.is_for_the_screen:
        shown = grey.values
    else:
        shown = to_uint8(grey.values, *percentile_window(grey.values))
    return 255 - shown if grey.is_inverted else shown


def _transform(ds: Dataset, frame: int) -> Dataset:
    """Return a data set with the modality transformation of one frame alone."""
    transform = Dataset()
    if "ModalityLUTSequence" in ds:
        transform.ModalityLUTSequence = ds.ModalityLUTSequence
    slope, intercept = floats(ds, frame, "RescaleSlope", 1), floats(ds, frame, "RescaleIntercept", 1)
    if slope and intercept:
        transform.RescaleSlope, transform.RescaleIntercept = slope[0], intercept[0]
    return transform


def floats(ds: Dataset, frame: int, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return the first `count` numbers of an attribute of one frame, None where it is absent or not finite.

    Enhanced multi-frame images keep it in their functional groups, for all frames or for each.
    """
    groups = [ds]
    for sequence, index in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        if index < len(ds.get(sequence) or ()):
            groups += [macro.value[0] for macro in ds[sequence][index] if macro.VR == "SQ" and macro.value]
    for group in groups:
        value = group.get(keyword)
        if value is None or value == "":
            continue
        numbers = tuple(float(each) for each in (value if hasattr(value, "__iter__") else (value,)))[:count]
        if len(numbers) == count and np.isfinite(numbers).all():
            return numbers
    return None
