"""VLMEvalKit's TSV files: a question a row, its image in base64, in a list of several, or in the row of another index.

The form is told by open-compass/VLMEvalKit, docs/en/Development.md and vlmeval/dataset/image_base.py. Files are large
(VAL of GMAI-MMBench has 9.3 GB), so that they are read once and only the places of their rows are kept.
"""

import base64
import binascii
import csv
import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmai_vl.evaluation.benchmarks.benchmark import ImageOf
from gmai_vl.evaluation.benchmarks.pictures import MAX_BYTES
from gmai_vl.evaluation.benchmarks.rows import Row
from gmai_vl.foundation import BadItem, UserError, nearest
from gmai_vl.sources.images import read_image_bytes

MAX_LINE = 2 * MAX_BYTES
"""Bytes of a line, and characters of a cell: a PNG from a fundus camera can have more than the 2**24 of tables."""

MAX_INDEX = 64
"""Characters of a cell `image` that is the index of another row; the smallest picture has more (image_base.py)."""

ABSENT = ("", "nan")
"""Cells without a value: pandas writes `nan`. `None` and `NA` are texts, and may be options."""


class _Place(NamedTuple):
    """Where the base64 of an image is."""

    file: Path
    start: int
    """Of its row, in bytes."""
    number: int
    """Among the images of the row, from 0."""


def present(row: Row, column: str) -> str | None:
    """Return the text of a cell; None where it is absent, blank or the `nan` of pandas."""
    text = (row.optional(column) or "").strip()
    return None if text in ABSENT else text


def read_tsv(files: Sequence[Path], columns: Sequence[str]) -> tuple[list[Row], ImageOf]:
    """Return the rows, each with the names of its images in `image` instead of their base64, and what gives an image.

    A name is FILE#NUMBER, NUMBER that of the row from 1, and FILE#NUMBER#K for the K-th of several images; equal
    images have the name of the first of them. Cells are texts as they stand in the file. Raises UserError where a file
    is no TSV or lacks one of `columns`, an index stands twice, or a row has no image.
    """
    places: dict[str, _Place] = {}
    first: dict[bytes, str] = {}
    rows = [row for file in files for row in _named(file, columns, places, first)]

    def image(name: str) -> NDArray[np.uint8]:
        place = places[name]
        try:
            encoded = _encoded(_row_at(place)["image"])[place.number]
            content = base64.b64decode(encoded, validate=True)
        except (binascii.Error, csv.Error, LookupError, OSError, ValueError) as error:
            raise BadItem(f"{name}: `image` holds no base64: {error}") from None
        return read_image_bytes(content, name)

    return rows, image


def rows_of_tsv(file: Path) -> Iterator[tuple[Row, int]]:
    """Yield every row of a TSV file with its place in bytes. Raises UserError where the file is none."""
    try:
        with file.open("rb") as stream:
            records = _records(stream)
            head = [name.strip() for name in next(records, ([], 0))[0]]
            if len(set(head)) < len(head):
                raise UserError(f"{file}: two columns have the same name; download it again")
            for number, (cells, start) in enumerate(records, start=1):
                if len(cells) > len(head):
                    raise UserError(f"{file}: row {number}: has {len(cells)} fields, the first line {len(head)}")
                yield Row(file, number, dict.fromkeys(head, "") | dict(zip(head, cells, strict=False))), start
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: is no readable TSV: {error}; download it again") from None


def _named(file: Path, columns: Sequence[str], places: dict[str, _Place], first: dict[bytes, str]) -> Iterator[Row]:
    """Yield the rows of a file with names for their images, and write down where those are."""
    rows: dict[str, Row] = {}
    images: dict[str, list[str]] = {}
    for row, start in rows_of_tsv(file):
        if lacking := [column for column in ("index", "image", *columns) if column not in row.values]:
            raise UserError(f"{file}: has no column `{lacking[0]}`; {nearest(lacking[0], row.values)}")
        index, cell = row.text("index"), row.values["image"].strip()
        if index in rows:
            raise UserError(f"{row.place}: has the index {index} of row {rows[index].number}; download it again")
        rows[index] = Row(file, row.number, row.values | {"image": cell[: MAX_INDEX + 1]})
        if len(cell) <= MAX_INDEX:
            continue
        encoded = _encoded(cell)
        images[index] = []
        for number, text in enumerate(encoded):
            own = f"{file}#{row.number}" if len(encoded) == 1 else f"{file}#{row.number}#{number + 1}"
            name = first.setdefault(hashlib.sha256(text.encode()).digest(), own)
            if name == own:
                places[own] = _Place(file, start, number)
            images[index].append(name)
    for index, row in rows.items():
        names = images.get(index) or images.get(row.values["image"])
        if names is None:
            said = row.values["image"]
            raise UserError(f"{row.place}: `image` is {said!r}, neither base64 nor the index of a row that has it")
        yield Row(file, row.number, row.values | {"image": names})


def _encoded(cell: str) -> list[str]:
    """Return the base64 of each image of a cell: of one, or of a Python list of several, read without parsing it."""
    cell = cell.strip()
    if not cell.startswith("["):
        return [cell]
    return [text.strip(" \n'\"") for text in cell.strip("[] \n").split(",")]


def _row_at(place: _Place) -> dict[str, str]:
    with place.file.open("rb") as stream:
        head, _ = next(_records(stream))
        stream.seek(place.start)
        cells, _ = next(_records(stream))
    return dict(zip((name.strip() for name in head), cells, strict=False))


def _records(stream: BinaryIO) -> Iterator[tuple[list[str], int]]:
    """Yield the cells of each record and where it begins, in bytes; empty lines are none.

    A line without a quotation mark is split as it is, many times faster than the csv module goes through base64.
    """
    csv.field_size_limit(MAX_LINE)
    start = stream.tell()
    for line in (lines := _lines(stream)):
        if '"' in line:
            cells = next(csv.reader(chain([line], lines), delimiter="\t", strict=True))
        else:
            cells = line.rstrip("\r\n").split("\t")
        if cells != [""]:
            yield cells, start
        start = stream.tell()


def _lines(stream: BinaryIO) -> Iterator[str]:
    while line := stream.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise csv.Error(f"a line has more than {MAX_LINE} bytes")
        yield line.decode("utf-8-sig")
