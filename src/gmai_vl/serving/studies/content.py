"""What a file is, told by its first bytes; its name tells nothing."""

import struct
import zlib
from pathlib import Path
from typing import Literal

Content = Literal["zip", "dicom", "picture", ".nii", ".nii.gz", ".nrrd", ".mha"]
"""Volumes by the suffix that their readers know them by."""

HEAD = 1024
"""Bytes that are looked at."""

_PICTURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF8",
    b"BM",
    *(mark + version for mark, version in ((b"II", b"*\0"), (b"MM", b"\0*"), (b"II", b"+\0"), (b"MM", b"\0+"))),
)
"""PNG, JPEG, GIF, BMP and TIFF; WebP is a RIFF file of a kind."""

_REAL_NUMBERS = frozenset({2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280})
"""NIfTI's codes for integers and floats of up to 8 bytes."""


def content_of(path: Path) -> Content | None:
    """Return what a file is, None for anything that is not read here."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(_PICTURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "picture"
    if head[:2] == b"\x1f\x8b":
        return ".nii.gz" if _is_nifti(_unpacked(head)) else None
    if _is_nifti(head):
        return ".nii"
    if head.startswith(b"NRRD0"):
        return ".nrrd"
    return ".mha" if head.lstrip().startswith((b"ObjectType", b"NDims")) else None


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(head, HEAD)
    except zlib.error:
        return b""


def _is_nifti(head: bytes) -> bool:
    return _nifti_order(head) is not None


def _nifti_order(head: bytes) -> str | None:
    """Return the byte order of a NIfTI file in one piece, for `struct`."""
    for order in "<>":
        size = struct.unpack(order + "i", head[:4].ljust(4, b"\0"))[0]
        if (size == 348 and head[344:348] == b"n+1\0") or (size == 540 and head[4:7] == b"n+2"):
            return order
    return None


def holds_real_numbers(path: Path) -> bool:
    """Say whether a NIfTI file says that its voxels are integers or floats of up to 8 bytes."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    head = _unpacked(head) if head[:2] == b"\x1f\x8b" else head
    order, place = _nifti_order(head), 12 if head[4:7] == b"n+2" else 70
    return order is not None and struct.unpack_from(order + "h", head, place)[0] in _REAL_NUMBERS
