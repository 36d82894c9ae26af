"""MetaImage and NRRD volumes through SimpleITK, in a child process: damaged headers can end the one it runs in."""

import json
import re
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmai_vl.foundation import BadItem, UserError
from gmai_vl.sources.child import Buffer, ask, serve

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
MAX_HEADER = 2**20
"""Bytes of a header in text."""

SPACES = tuple(
    name
    for long in ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior")
    for name in (long, "".join(word[0] for word in long.split("-")))
)
"""What NRRD calls frames of the patient's body; others tell nothing about left and right."""


def data_file_of(path: Path, item: str) -> str | None:
    """Return the item that holds the voxels of a header file; None where the header's own file does.

    Raises BadItem if it cannot be told for sure, if they are in several files, or if the header does not tell the
    orientation.
    """
    with path.open("rb") as stream:
        head = stream.read(MAX_HEADER)
    name = _of_nrrd(head, item) if path.suffix.lower() in (".nrrd", ".nhdr") else _of_meta_image(head, item)
    if name is None:
        return None
    if re.search(r"^list\b|%", name, re.IGNORECASE):
        raise BadItem(f"{item}: its voxels are in several files ({name[:80]!r}); write them as one")
    if not name or not name.isprintable() or name.startswith("/") or "\\" in name:
        raise BadItem(f"{item}: its data file {name[:80]!r} is no path below the header's folder")
    return (PurePosixPath(item).parent / name).as_posix()


def _of_meta_image(head: bytes, item: str) -> str | None:
    fields: dict[str, str] = {}
    for number, line in enumerate(head.split(b"\n"), start=1):
        # Strict, so that the library cannot read another data file out of a line than we do.
        field = re.fullmatch(rb"\s*(\w+)\s*=\s*([^\0]*?)\s*", line)
        if field is None:
            raise BadItem(f"{item}: line {number} of its header is not `Key = value`")
        key = field[1].decode().lower()
        fields[key] = field[2].decode("latin-1")
        if key == "elementdatafile":
            break
    else:
        raise BadItem(f"{item}: its header has no ElementDataFile")
    if fields.get("ndims") != "3":
        raise BadItem(f"{item}: has {fields.get('ndims', 'no')[:20]} axes (NDims); a volume has three")
    if not {"transformmatrix", "orientation", "rotation"} & fields.keys():
        raise BadItem(f"{item}: does not tell its orientation (no TransformMatrix)")
    return None if fields["elementdatafile"].upper() == "LOCAL" else fields["elementdatafile"]


def _of_nrrd(head: bytes, item: str) -> str | None:
    lines = re.split(rb"\r?\n", re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0].rstrip(b"\r\n"))
    if not re.fullmatch(rb"NRRD\d{4}", lines[0]):
        raise BadItem(f"{item}: is no NRRD file by its content")
    fields: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if line.startswith(b"#") or re.match(rb"[^:]*:=", line):
            continue
        field = re.fullmatch(rb"([\w -]+):\s*([^\0]*?)\s*", line)
        if field is None:
            raise BadItem(f"{item}: line {number} of its header is not `field: value`")
        fields[re.sub(r"\s", "", field[1].decode().lower())] = field[2].decode("latin-1")
    if fields.get("dimension") != "3":
        raise BadItem(f"{item}: has {fields.get('dimension', 'no')[:20]} axes (dimension); a volume has three")
    if fields.get("space", "").lower() not in SPACES or "spacedirections" not in fields:
        raise BadItem(f"{item}: does not tell its orientation (no space of the patient's body with its directions)")
    return fields.get("datafile")


def read_header(path: Path, place: str) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return size (x, y, z) and the affine [4, 4] from voxel indices to RAS+ mm, no voxel read.

    Raises BadItem, beginning with `place`, and UserError where SimpleITK is not installed.
    """
    if find_spec("SimpleITK") is None:
        raise UserError(f"{place}: {path.suffix} needs the package `SimpleITK`; run `pip install 'gmai-vl[sources]'`")
    answer, _ = _ask(path, "header", place)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(answer["direction"], (3, 3)) * answer["spacing"]
    affine[:3, 3] = answer["origin"]
    # Theirs grows to the patient's left and back, ours to the right and front.
    return tuple(answer["size"]), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def read_voxels(path: Path, place: str) -> NDArray[Any]:
    """Return the voxels [X, Y, Z] as stored. Raises BadItem, beginning with `place`."""
    answer, data = _ask(path, "voxels", place)
    return np.frombuffer(data, dtype=answer["kind"]).reshape(answer["size"][::-1]).T


def _ask(path: Path, what: str, place: str) -> tuple[dict[str, Any], bytearray]:
    try:
        return ask("gmai_vl.sources.itk", [str(path), what])
    except BadItem as bad:
        raise BadItem(f"{place}: {bad}") from None


def _answer(request: tuple[str, str]) -> tuple[Any, Buffer]:
    import SimpleITK  # here, so that only the child needs it

    path, what = request
    reader = SimpleITK.ImageFileReader()
    try:
        reader.SetImageIO("NrrdImageIO" if path.lower().endswith((".nrrd", ".nhdr")) else "MetaImageIO")
        reader.SetFileName(path)
        reader.ReadImageInformation()
        header = {name: getattr(reader, f"Get{name.title()}")() for name in ("size", "spacing", "origin", "direction")}
        if reader.GetNumberOfComponents() != 1 or len(header["size"]) != 3:
            channels = reader.GetNumberOfComponents()
            raise BadItem(f"has {len(header['size'])} axes and {channels} values a voxel; a volume has three and one")
        json.dumps(header, allow_nan=False)
        if what == "header":
            return header, b""
        image = reader.Execute()
    except (RuntimeError, ValueError, MemoryError):
        raise BadItem("is cut short or damaged") from None
    voxels = SimpleITK.GetArrayFromImage(image)  # a copy: a view would not outlive its image
    return header | {"kind": voxels.dtype.str}, memoryview(voxels).cast("B")


if __name__ == "__main__":
    serve(_answer)
