"""Entries of a file of texts: JSON, JSON lines, CSV, TSV or Parquet, their values as they stand, lists and all."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gmai_vl.foundation import BadItem, UserError, nearest

Entry = dict[str, Any]
"""Column -> value."""

MAX_BYTES = 2**30
"""Of a JSON file, which has to be in memory as a whole."""
MAX_LINE = 2**25
"""Bytes of one line of JSON lines."""
MAX_FIELD = 2**24
"""Characters of one CSV field; as it comes the limit is 131,072, less than a long dialogue."""
MAX_UNPACKED = 2**26
"""Bytes that a Parquet file may unpack to, and 100 times its own size besides: a value repeated without end costs it
nothing."""
ENTRY_BYTES = 200
"""What an entry costs beside its values."""


def read_entries(
    path: Path, place: str, wanted: Sequence[str], may_lack: Sequence[str] = ()
) -> Iterator[tuple[int, Entry | BadItem]]:
    """Yield (number, entry) with the wanted columns, counted from 1; one that cannot be read comes as its BadItem.

    A column that a JSON object lacks is None. Raises BadItem if the file as a whole cannot be read; UserError,
    beginning with `place`, if it is of no known kind or no entry has a wanted column, those in `may_lack` apart.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{place}: {path.name} does not end in {', '.join(READERS)}")
    known: dict[str, None] = {}
    number = 0
    for number, entry in enumerate(reader(path, wanted), start=1):
        if isinstance(entry, BadItem):
            yield number, entry
            continue
        known |= dict.fromkeys(entry)
        yield number, {column: entry.get(column) for column in wanted}
    if known:
        check_columns(path, [column for column in wanted if column not in may_lack], known, place)
    if number == 0:
        raise BadItem(f"{path.name}: holds no entries")


def filled_columns(path: Path, place: str, wanted: Sequence[str], most: int) -> set[str]:
    """Return which of `wanted` hold a value in the first `most` entries.

    Raises UserError, beginning with `place`, if the file is of no known kind or cannot be read.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{place}: {path.name} does not end in {', '.join(READERS)}")
    try:
        entries = [entry for entry in islice(reader(path, wanted), most) if not isinstance(entry, BadItem)]
    except BadItem as bad:
        raise UserError(f"{place}: cannot be read: {bad}") from None
    return {column for entry in entries for column in wanted if entry.get(column) is not None}


def check_columns(path: Path, wanted: Sequence[str], known: Iterable[str], place: str) -> None:
    """Raise UserError, beginning with `place`, if one of the `wanted` columns is none of those that a file has."""
    known = list(known)
    for column in wanted:
        if column not in known:
            raise UserError(f"{place}: {path.name} has no column `{column}`; {nearest(column, known)}")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds. Raises BadItem, with line and column, if it is none or too large."""
    if path.stat().st_size > MAX_BYTES:
        raise BadItem(f"{path.name}: is larger than {MAX_BYTES} bytes; write it as JSON lines or Parquet")
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text)
    except UnicodeDecodeError:
        raise BadItem(f"{path.name}: is not UTF-8; convert it") from None
    except json.JSONDecodeError as error:
        raise BadItem(f"{path.name}: is no JSON: {_comma_too_many(text, error) or error}") from None
    except (ValueError, RecursionError) as error:
        raise BadItem(f"{path.name}: is no JSON: {error}") from None


def _comma_too_many(text: str, error: json.JSONDecodeError) -> str | None:
    """Say so where a comma stands before a closing bracket: Python's own words for it help nobody."""
    before, after = text[: error.pos].rstrip(), text[error.pos :].lstrip()
    if before.endswith(","):  # up to Python 3.12 the error is at the bracket, later at the comma
        comma, bracket = len(before) - 1, after[:1]
    elif after.startswith(","):
        comma, bracket = len(text) - len(after), after[1:].lstrip()[:1]
    else:
        return None
    line = text.count("\n", 0, comma) + 1
    return f"line {line} has a comma too many before `{bracket}`; remove it" if bracket in ("}", "]") else None


def _json(path: Path, wanted: Sequence[str]) -> Iterator[Entry | BadItem]:
    data = read_json(path)
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list)]
        if len(lists) != 1:
            raise BadItem(f"{path.name}: holds {len(lists)} lists; write one list of objects")
        data = lists[0]
    if not isinstance(data, list):
        raise BadItem(f"{path.name}: is no list of objects")
    yield from map(_as_entry, data)


def _as_entry(value: Any) -> Entry | BadItem:
    return value if isinstance(value, dict) else BadItem(f"is a {type(value).__name__}, not an object with columns")


def _json_lines(path: Path, wanted: Sequence[str]) -> Iterator[Entry | BadItem]:
    with path.open("rb") as stream:
        while line := stream.readline(MAX_LINE):
            if len(line) == MAX_LINE:
                raise BadItem(f"{path.name}: has a line of more than {MAX_LINE} bytes")
            if not line.strip():
                continue
            try:
                yield _as_entry(json.loads(line.decode("utf-8-sig")))
            except UnicodeDecodeError:
                yield BadItem("is not UTF-8")
            except (ValueError, RecursionError) as error:
                yield BadItem(f"is no JSON: {error}")


def _separated(path: Path, wanted: Sequence[str]) -> Iterator[Entry | BadItem]:
    csv.field_size_limit(MAX_FIELD)
    delimiter = "," if path.suffix.lower() == ".csv" else "\t"
    with path.open(encoding="utf-8-sig", newline="") as stream:
        # Strict: a quotation mark that nobody closes would else swallow all lines after it.
        lines = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            head = [name.strip() for name in next(lines, [])]
            named = [name for name in head if name]
            if len(set(named)) < len(named):
                raise BadItem(f"{path.name}: two columns have the same name")
            for fields in lines:
                if len(fields) > len(head):
                    yield BadItem(f"has {len(fields)} fields, the first line {len(head)}")
                elif fields:
                    yield dict.fromkeys(head) | dict(zip(head, fields, strict=False))
        except UnicodeDecodeError:
            raise BadItem(f"{path.name}: is not UTF-8; convert it") from None
        except csv.Error as error:
            raise BadItem(f"{path.name}: line {lines.line_num}: {error}") from None


def _parquet(path: Path, wanted: Sequence[str]) -> Iterator[Entry | BadItem]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            room = MAX_UNPACKED + 100 * path.stat().st_size
            groups = range(file.metadata.num_row_groups)
            if max((file.metadata.row_group(number).total_byte_size for number in groups), default=0) > room:
                raise BadItem(f"{path.name}: says that it unpacks to more than {room} bytes")
            for batch in file.iter_batches(256, columns=[name for name in wanted if name in names]):
                room -= batch.nbytes + ENTRY_BYTES * batch.num_rows
                if room < 0:
                    raise BadItem(f"{path.name}: unpacks to more than 100 times its size")
                yield from (dict.fromkeys(names) | entry for entry in batch.to_pylist())
    except (OSError, ValueError, pa.ArrowException) as error:
        fault = " ".join(str(error).replace(str(path), path.name).split())
        raise BadItem(f"{path.name}: is no readable Parquet: {fault[:200]}") from None


READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[Entry | BadItem]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _separated,
    ".tsv": _separated,
    ".parquet": _parquet,
}
"""Ending -> reader."""
