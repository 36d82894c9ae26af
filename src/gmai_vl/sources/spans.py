"""Labels over time: which labels a table gives to a moment of a video."""

import math
import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from gmai_vl.foundation import BadItem
from gmai_vl.sources.files import plain_name, stem_of
from gmai_vl.sources.sheets import Cells, read_rows
from gmai_vl.sources.spec import VideoSource
from gmai_vl.sources.table import set_columns, split_labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Labels that hold from `start` up to, but not at, `end`; where both are equal, at that moment."""

    start: float
    """Seconds from the first frame, or number of the frame, as the source's `unit` says."""

    end: float
    labels: tuple[str, ...]
    """Source labels; none where a row names none."""


def spans_of(spec: VideoSource, root: Path, item: str) -> tuple[Span, ...]:
    """Return the spans of a video in the order of their starts.

    Raises BadItem if the table has no row of it or one without a time, UserError if there is no table.
    """
    assert spec.annotations is not None
    rows = _rows_of(spec, root, item)
    if not rows:
        raise BadItem(f"has no row in the table {spec.annotations}")
    starts = [_time(row, spec.start_column) for row in rows]
    if None in starts:
        raise BadItem(f"a row of it has no time in `{spec.start_column}`")
    known = sorted({start for start in starts if start is not None})
    spans = []
    for row, start in zip(rows, starts, strict=True):
        assert start is not None
        end = _time(row, spec.end_column) if spec.end_column is not None else None
        if end is None:
            later = bisect_right(known, start)
            end = known[later] if later < len(known) else math.inf
        if end < start:
            raise BadItem(f"a span of it ends at {end:g}, before it starts at {start:g}")
        spans.append(Span(start=start, end=end, labels=_labels(row, spec)))
    return tuple(sorted(spans, key=lambda span: span.start))


def moments_in(spans: tuple[Span, ...]) -> list[float]:
    """Return the moments, in rising order, that bear a label without a duration."""
    return sorted({span.start for span in spans if span.start == span.end})


def labels_at(spans: tuple[Span, ...], at: float, begin: float, end: float) -> list[str]:
    """Return the labels that hold at a time, and those of moments from `begin` up to `end`; each once."""
    found = [
        label
        for span in spans
        if span.start <= at < span.end or (span.start == span.end and begin <= span.start < end)
        for label in span.labels
    ]
    return list(dict.fromkeys(found))


def _labels(row: Cells, spec: VideoSource) -> tuple[str, ...]:
    if spec.label_column is None:
        return tuple(set_columns(row, spec.label_columns))
    return tuple(name for name in split_labels(row[spec.label_column], spec.label_separator) if name)


def _time(row: Cells, column: str) -> float | None:
    """Return a cell as seconds or frames: a number, or hours:minutes:seconds; None for an empty one."""
    cell = row[column]
    if not cell:
        return None
    parts = cell.split(":")
    if len(parts) <= 3 and all(re.fullmatch(r"\d{1,15}(\.\d+)?", part) for part in parts):
        return sum(float(part) * 60**place for place, part in enumerate(reversed(parts)))
    raise BadItem(f"its cell in `{column}` is `{cell[:40]}`; a time is a number or hours:minutes:seconds")


def _rows_of(spec: VideoSource, root: Path, item: str) -> list[Cells]:
    assert spec.annotations is not None
    columns = [spec.start_column, *([spec.end_column] if spec.end_column else [])]
    columns += [spec.label_column] if spec.label_column else spec.label_columns
    place = f"source `{spec.name}`: annotations"
    if "{stem}" in spec.annotations:
        path = root / spec.annotations.replace("{stem}", stem_of(item))
        if not path.is_file():
            raise BadItem(f"has no table at `{spec.annotations.replace('{stem}', stem_of(item))}`")
        return read_rows(path, place, columns)
    path = root / spec.annotations
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    sheet = _by_video(path, place, tuple(columns), spec.video_column, changed)
    below = PurePosixPath(item).relative_to(spec.images).as_posix() if _is_below(item, spec.images) else item
    names = dict.fromkeys((item, below, PurePosixPath(item).name, stem_of(item)))
    return [row for name in names for row in sheet.get(name, ())]


def _is_below(item: str, folder: str) -> bool:
    return PurePosixPath(item).is_relative_to(folder)


@lru_cache(maxsize=2)
def _by_video(path: Path, place: str, columns: tuple[str, ...], video: str, changed: int) -> dict[str, list[Cells]]:
    """Read a table once in a process; `changed` (its time) makes a changed file be read again."""
    rows: dict[str, list[Cells]] = defaultdict(list)
    for row in read_rows(path, place, (*columns, video)):
        rows[plain_name(row[video])].append(row)
    return dict(rows)
