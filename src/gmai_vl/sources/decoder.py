"""Decodes compressed DICOM frames in a child process: damaged ones can make a decoder end the process it runs in."""

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from gmai_vl.foundation import BadItem
from gmai_vl.sources.child import Buffer, ask, serve

FAULTS = (
    BytesLengthException,
    InvalidDicomError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and its decoders raise on damaged files. Their texts may quote the header, so only the kind is told."""


def decoded_frame(path: Path, frame: int) -> NDArray[Any]:
    """Return one frame of a DICOM file as stored, luminance and chroma as RGB. Raises BadItem."""
    try:
        (shape, dtype), data = ask("gmai_vl.sources.decoder", [str(path), frame])
    except BadItem as bad:
        raise BadItem(f"its pixels {bad}") from None
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _answer(request: tuple[str, int]) -> tuple[Any, Buffer]:
    path, frame = request
    try:
        ds = dcmread(path)
        # Named, so that a decoder under another licence is never picked up because it happens to be installed.
        plugin = "pydicom" if ds.file_meta.TransferSyntaxUID == RLELossless else "gdcm"
        pixels = np.ascontiguousarray(pixel_array(ds, index=frame, decoding_plugin=plugin))
    except FAULTS as error:
        raise BadItem(f"cannot be decoded ({type(error).__name__})") from None
    return (pixels.shape, pixels.dtype.str), pixels.tobytes()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(_answer)
