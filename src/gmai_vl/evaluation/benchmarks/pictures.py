"""Images of a benchmark, decoded when they are asked for: in folders, in zips, in columns of Parquet or TSV files."""

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gmai_vl.evaluation.benchmarks.rows import Row, rows_of
from gmai_vl.foundation import BadItem, UserError
from gmai_vl.sources.entries import MAX_UNPACKED
from gmai_vl.sources.images import SUFFIXES, read_image, read_image_bytes

MAX_BYTES = 2**28
"""Of one packed image file."""

ROWS_A_PIECE = 16
"""Rows of a Parquet file that are unpacked at a time."""


def in_folder(root: Path, names: Iterable[str]) -> Callable[[str], NDArray[np.uint8]]:
    """Return what gives the image of a name: a path below `root`, or the end of one, in folders or in zips there.

    Raises UserError where one of `names` is not there, or could be one of several.
    """
    places = _by_ending(root, set(names))
    missing = [name for name in dict.fromkeys(names) if name not in places]
    if missing:
        raise UserError(f"{root}: {len(missing)} images are missing, the first is {missing[0]}; download them")

    def image(name: str) -> NDArray[np.uint8]:
        archive, inside = places[name]
        if archive is None:
            return read_image(Path(inside))
        return read_image_bytes(_unzipped(archive, inside), name)

    return image


def _by_ending(root: Path, names: set[str]) -> dict[str, tuple[Path | None, str]]:
    """Return where each name is found: archive and path in it, or None and the path of a file."""
    endings = {PurePosixPath(name).parts: name for name in names}
    lengths = {len(parts) for parts in endings}
    found: dict[str, tuple[Path | None, str]] = {}
    for archive, path in _pictures_below(root):
        parts = PurePosixPath(path).parts
        for length in lengths & set(range(1, len(parts) + 1)):
            name = endings.get(parts[-length:])
            if name is None:
                continue
            if name in found:
                raise UserError(f"{root}: {name} could be {found[name][1]} or {path}; give a folder with one of them")
            found[name] = (archive, path)
    return found


def _pictures_below(root: Path) -> Iterator[tuple[Path | None, str]]:
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            yield None, path.as_posix()
        elif path.suffix.lower() == ".zip":
            try:
                with zipfile.ZipFile(path) as archive:
                    inside = sorted(archive.namelist())
            except (zipfile.BadZipFile, OSError) as error:
                raise UserError(f"{path}: is no zip: {error}; download it again") from None
            yield from ((path, name) for name in inside if name.lower().endswith(SUFFIXES))


@lru_cache(maxsize=8)
def _opened(archive: Path) -> zipfile.ZipFile:
    """Open a zip once: reading the list of 149,000 entries for every image took 0.9 s each."""
    return zipfile.ZipFile(archive)


def _unzipped(archive: Path, inside: str) -> bytes:
    try:
        with _opened(archive).open(inside) as stream:
            return _whole(stream, f"{archive.name}: {inside}")
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise BadItem(f"{archive.name}: {inside}: cannot be unpacked: {error}") from None


def _whole(stream: IO[bytes], name: str) -> bytes:
    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise BadItem(f"{name}: is larger than {MAX_BYTES} bytes")
    return content


def rows_with_images(files: Sequence[Path], columns: Sequence[str]) -> Iterator[tuple[int, Row, str]]:
    """Yield the number of its file, the row, and the name of what its column `image` holds, as `in_parquet` takes it.

    Rows with the same image have the name of the first of them: answers about one image are not independent. Raises
    UserError, with the row, where there is no image.
    """
    first: dict[bytes, str] = {}
    for number, file in enumerate(files):
        for row, name in zip(rows_of(file, [*columns, "image"]), parquet_names(file), strict=True):
            cell = row.values["image"]
            content = cell.get("bytes") if isinstance(cell, dict) else cell
            if not isinstance(content, bytes):
                raise UserError(f"{row.place}: `image` holds no picture; download it again")
            yield number, row, first.setdefault(hashlib.sha256(content).digest(), name)


def in_parquet(column: str) -> Callable[[str], NDArray[np.uint8]]:
    """Return what gives the image of a name as `parquet_names` makes it, from a column of {bytes, path}, or bytes."""
    image = in_columns()
    return lambda name: image(f"{name}#{column}")


def parquet_names(file: Path) -> Iterator[str]:
    """Yield the name of the image in each row of a Parquet file, in order."""
    with pq.ParquetFile(file) as opened:
        for group in range(opened.metadata.num_row_groups):
            for row in range(opened.metadata.row_group(group).num_rows):
                yield f"{file}#{group}#{row}"


def in_columns() -> Callable[[str], NDArray[np.uint8]]:
    """Return what gives the image of a name as `column_names` makes it: FILE#GROUP#ROW#COLUMN."""
    held: dict[tuple[str, str, str], pa.ChunkedArray] = {}  # of the row group that was read last: rows come in order
    reading = Lock()  # images are asked for by many threads where a server is asked

    def image(name: str) -> NDArray[np.uint8]:
        file, group, row, column = name.rsplit("#", 3)
        with reading:
            if (file, group, column) not in held:
                if any(key[:2] != (file, group) for key in held):
                    held.clear()
                pieces = [piece.column(0) for piece in _pieces(Path(file), int(group), [column])]
                held[file, group, column] = pa.chunked_array(pieces)
            cell = held[file, group, column][int(row)].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise BadItem(f"{Path(file).name}: row {row} of group {group} has no image in `{column}`")
        return read_image_bytes(content, f"{Path(file).name}, row {row} of group {group}, `{column}`")

    return image


def column_names(file: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield column -> name of its image for each row of a Parquet file, in order, without cells that hold none.

    Columns that the file lacks hold none. Raises UserError where the file cannot be read.
    """
    try:
        with pq.ParquetFile(file) as opened:
            groups = range(opened.metadata.num_row_groups)
            there = [column for column in columns if column in opened.schema_arrow.names]
        for group in groups:
            row = 0
            for piece in _pieces(file, group, there):
                filled = {column: _is_filled(piece.column(column)) for column in there}
                for index in range(piece.num_rows):
                    yield {column: f"{file}#{group}#{row}#{column}" for column in there if filled[column][index]}
                    row += 1
    except (BadItem, OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read: {error}; download it again") from None


def _is_filled(cells: Any) -> list[bool]:
    filled = cells.is_valid()
    if pa.types.is_struct(cells.type):
        filled = pc.and_(filled, cells.field("bytes").is_valid())
    filled_list: list[bool] = filled.to_pylist()
    return filled_list


def _pieces(file: Path, group: int, columns: Sequence[str]) -> Iterator[Any]:
    """Yield a row group in pieces. Raises BadItem where it is damaged or unpacks to far more than the file holds."""
    try:
        room = MAX_UNPACKED + 100 * file.stat().st_size
        with pq.ParquetFile(file) as opened:
            for piece in opened.iter_batches(ROWS_A_PIECE, row_groups=[group], columns=list(columns)):
                room -= piece.nbytes
                if room < 0:
                    raise BadItem(f"{file.name}: unpacks to more than 100 times its size")
                yield piece
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BadItem(f"{file.name}: is no readable Parquet: {' '.join(str(error).split())[:200]}") from None
