"""A child process that decodes compressed DICOM frames: damaged ones can make a decoder end the process it runs in."""

import json
import os
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from gmai_vl.foundation import BadItem

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

_children: dict[int, "subprocess.Popen[bytes]"] = {}
"""Process id -> its child, started when first needed; by process, for a fork must not talk to its parent's child."""


def decoded_frame(path: Path, frame: int) -> NDArray[Any]:
    """Return one frame of a DICOM file as stored, luminance and chroma as RGB. Raises BadItem."""
    child = _children.get(os.getpid())
    if child is None or child.poll() is not None:
        child = _children[os.getpid()] = _start()
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(json.dumps([str(path), frame]).encode() + b"\n")
        child.stdin.flush()
        answer = json.loads(child.stdout.readline())
    except (OSError, ValueError):  # a broken pipe, or no answer: it is gone
        child.kill()
        child.wait()
        raise BadItem("its pixels cannot be decoded (the decoder broke down)") from None
    if isinstance(answer, str):
        raise BadItem(f"its pixels cannot be decoded ({answer})")
    shape, dtype = answer
    pixels = np.frombuffer(child.stdout.read(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype=dtype)
    return pixels.reshape(shape)


def _start() -> "subprocess.Popen[bytes]":
    # Its complaints about damaged streams say nothing that the reason does not.
    command = [sys.executable, "-m", "gmai_vl.sources.decoder"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each line [path, frame] with a line [shape, dtype] and the bytes, or with a line "what went wrong"."""
    warnings.simplefilter("ignore")
    for request in requests:
        path, frame = json.loads(request)
        try:
            ds = dcmread(path)
            # Named, so that a decoder under another licence is never picked up because it happens to be installed.
            plugin = "pydicom" if ds.file_meta.TransferSyntaxUID == RLELossless else "gdcm"
            pixels = np.ascontiguousarray(pixel_array(ds, index=frame, decoding_plugin=plugin))
        except FAULTS as error:
            answers.write(json.dumps(type(error).__name__).encode() + b"\n")
        else:
            answers.write(json.dumps([pixels.shape, pixels.dtype.str]).encode() + b"\n" + pixels.tobytes())
        answers.flush()


if __name__ == "__main__":
    # Decoders write to the standard output too; the answers keep it for themselves.
    with os.fdopen(os.dup(1), "wb") as own_output:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        serve(sys.stdin.buffer, own_output)
