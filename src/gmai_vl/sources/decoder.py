"""Decodes compressed DICOM frames in a child process: damaged ones can make a decoder end the process it runs in."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import pixel_array
from pydicom.uid import HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL, JPEGExtended12Bit, RLELossless

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
    zlib.error,
)
"""What pydicom and its decoders raise on damaged files. Their texts may quote the header, so only the kind is told."""


def decoded_frame(path: Path, frame: int) -> NDArray[Any]:
    """Return one frame of a DICOM file as stored, luminance and chroma as RGB. Raises BadItem."""
    try:
        (shape, dtype), data = ask("gmai_vl.sources.decoder", [str(path), frame])
    except BadItem as bad:
        raise BadItem(f"its pixels {bad}") from None
    return np.frombuffer(data, dtype=dtype).reshape(shape)


_PLUGINS = {RLELossless: "pydicom", **dict.fromkeys((HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL), "pylibjpeg")}
"""Syntax -> what decodes it, where that is not GDCM; of pylibjpeg only OpenJPEG knows these."""


def _by_gdcm_itself(path: str, frame: int, ds: Dataset) -> NDArray[Any]:
    """Decode a frame of 12-bit JPEG, which pydicom does not hand to GDCM though that knows it."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    if not reader.Read():
        raise ValueError("GDCM cannot read it")
    shape = (int(ds.get("NumberOfFrames") or 1), int(ds.Rows), int(ds.Columns))
    values = np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"), np.dtype("<u2"))
    return np.ascontiguousarray(values.reshape(shape)[frame])


def _answer(request: tuple[str, int]) -> tuple[Any, Buffer]:
    path, frame = request
    try:
        ds = dcmread(path)
        syntax = ds.file_meta.TransferSyntaxUID
        if syntax == JPEGExtended12Bit and ds.BitsAllocated == 16:
            pixels = _by_gdcm_itself(path, frame, ds)
        else:
            # Named, so that a decoder under another licence is never picked up because it happens to be installed.
            plugin = _PLUGINS.get(syntax, "gdcm")
            pixels = np.ascontiguousarray(pixel_array(ds, index=frame, decoding_plugin=plugin))
    except FAULTS as error:
        raise BadItem(f"cannot be decoded ({type(error).__name__})") from None
    return (pixels.shape, pixels.dtype.str), pixels.tobytes()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(_answer)
