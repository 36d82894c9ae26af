"""Pictures with labels in a table: one row, or several, for each picture."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from gmai_vl.foundation import BadItem
from gmai_vl.records import Box, Case, Finding, Rejected
from gmai_vl.sources.boxes import whole_box
from gmai_vl.sources.fields import Label
from gmai_vl.sources.files import file_of, list_files, plain_name
from gmai_vl.sources.geometry import side_of
from gmai_vl.sources.images import SUFFIXES, read_image
from gmai_vl.sources.labels import look_up, negative_among, patient_of, severity_of, term_of, terms_of
from gmai_vl.sources.sheets import Cells, check_table, read_rows, unwanted
from gmai_vl.sources.spec import TableSource

_OTHERWISE = "otherwise"
_SET, _NOT_SET = ("1", "1.0", "true", "yes"), ("0", "0.0", "", "false", "no")


def list_items(spec: TableSource, root: Path) -> list[str]:
    """Return the pictures below `images` and those that the table names.

    Raises UserError if there are no pictures, or if the table is absent, damaged or lacks a column.
    """
    pictures = list_files(spec.name, root, spec.images, SUFFIXES)
    there = {name for picture in pictures for name in _names_of(spec, root, picture)}
    folder = spec.images if (root / spec.images).is_dir() else ""
    missing = [PurePosixPath(folder, name).as_posix() for name in _sheet(spec, root).rows_of if name not in there]
    return sorted(pictures + missing)


def read_item(spec: TableSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read one picture and its rows: one case, or why there is none. Raises BadItem.

    Several rows of one picture add up: their labels, or their boxes.
    """
    sheet = _sheet(spec, root)
    rows = [row for name in _names_of(spec, root, item) for row in sheet.rows_of.get(name, ())]
    if not rows:
        return [Rejected(item=item, outcome="excluded", reason=f"is not in {spec.annotations}")]
    reasons = [unwanted(row, spec.where) for row in rows]
    wanted = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    if not wanted:
        return [Rejected(item=item, outcome="excluded", reason=str(reasons[0]))]
    pixels = read_image(file_of(root, item, spec.images))
    given = [(name, _box(row, spec, *pixels.shape[1::-1])) for row in wanted for name in _labels(row, spec)]
    known = spec.labels | ({_OTHERWISE: spec.otherwise} if spec.otherwise else {})
    meant = [(name, box, look_up(name, known, spec.unknown_labels)) for name, box in dict.fromkeys(given)]
    told = [(name, box, label) for name, box, label in meant if label is not None]
    if not told:
        names = ", ".join(dict.fromkeys(f"`{name}`" for name, _, _ in meant))
        return [Rejected(item=item, outcome="excluded", reason=f"the recipe excludes {names}")]
    negative = negative_among([(name, label) for name, _, label in told])
    findings = [_finding(name, box, label, *pixels.shape[1::-1]) for name, box, label in told if not label.negative]
    case = Case(
        source=spec.name,
        item=item,
        pixels=pixels,
        modality=spec.modality,
        department=spec.department,
        clinical_task=spec.clinical_task,
        task="det" if any(finding.box for finding in findings) else "cls",
        findings=tuple(findings),
        negative=negative,
        label_set=terms_of(sheet.labels or spec.label_columns, spec.labels, spec.unknown_labels),
        severity=severity_of(spec.severity, spec.labels),
        patient_id=_patient(wanted, spec, root, item),
        license=spec.license,
        url=spec.url,
    )
    return [case]


def _labels(row: Cells, spec: TableSource) -> list[str]:
    """Return the source labels of a row; one name for what `otherwise` says."""
    if spec.label_column is not None:
        names = split_labels(row[spec.label_column], spec.label_separator)
        if not all(names):
            raise BadItem(f"its cell in `{spec.label_column}` is empty")
        return names
    names = set_columns(row, spec.label_columns)
    if not names and spec.otherwise is None:
        raise BadItem("no one of `label_columns` is set; `otherwise` says what this means")
    return names or [_OTHERWISE]


def set_columns(row: Cells, columns: Iterable[str]) -> list[str]:
    """Return the columns that hold 1. Raises BadItem for one that holds neither 1 nor 0."""
    names = []
    for column in columns:
        value = row[column].lower()
        if value not in (*_SET, *_NOT_SET):
            raise BadItem(f"its cell in `{column}` is `{row[column][:40]}`; a label is set with 1 and not set with 0")
        if value in _SET:
            names.append(column)
    return names


def split_labels(cell: str, separator: str | None) -> list[str]:
    """Return the labels of a cell."""
    return [name.strip() for name in cell.split(separator)] if separator else [cell]


def _box(row: Cells, spec: TableSource, width: int, height: int) -> Box | None:
    """Return the box of a row, None where all four cells are empty."""
    if spec.box_columns is None or not any(row[column] for column in spec.box_columns):
        return None
    try:
        x1, y1, x2, y2 = (float(row[column]) for column in spec.box_columns)
    except ValueError:
        cells = ", ".join(row[column][:20] or "(empty)" for column in spec.box_columns)
        raise BadItem(f"its box is {cells}; all four are numbers, or all four are empty") from None
    if spec.box_form == "xywh":
        x2, y2 = x1 + x2, y1 + y2
    return whole_box(x1, y1, x2, y2, width, height)


def _finding(name: str, box: Box | None, label: Label, width: int, height: int) -> Finding:
    return Finding(
        label=term_of(name, label),
        source_label=name,
        box=box,
        area_share=None if box is None else (box[2] - box[0]) * (box[3] - box[1]) / (width * height),
        side=None if box is None else side_of(box, width),
    )


def _patient(rows: Iterable[Cells], spec: TableSource, root: Path, item: str) -> str | None:
    if spec.patient_column is None:
        return patient_of(spec.patient, root, item) if spec.patient else None
    patients = list(dict.fromkeys(row[spec.patient_column] for row in rows))
    if len(patients) > 1:
        raise BadItem(f"its rows name {len(patients)} patients in `{spec.patient_column}`")
    if not patients[0]:
        raise BadItem(f"its cell in `{spec.patient_column}` is empty")
    return patients[0]


@dataclass(frozen=True, slots=True)
class _Sheet:
    rows_of: dict[str, list[Cells]]
    """Picture as the table names it -> its rows."""

    labels: tuple[str, ...]
    """All that stands in the label column, sorted."""


def _sheet(spec: TableSource, root: Path) -> _Sheet:
    path, place = root / spec.annotations, f"source `{spec.name}`: annotations"
    check_table(path, place)
    pattern = spec.image_pattern or f"{{{spec.image_column}}}"
    picture = re.findall(r"\{(.+?)\}", pattern)
    patient = [spec.patient_column] if spec.patient_column else []
    labels = (spec.label_column,) if spec.label_column else spec.label_columns
    columns = (*picture, *labels, *(spec.box_columns or ()), *patient, *spec.where)
    return _read(path, place, columns, pattern, spec.label_column, spec.label_separator, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read(
    path: Path,
    place: str,
    columns: tuple[str, ...],
    pattern: str,
    label_column: str | None,
    separator: str | None,
    changed: int,
) -> _Sheet:
    """Read and sort a table once in a process; `changed` (its time) makes a changed file be read again."""
    rows_of: dict[str, list[Cells]] = defaultdict(list)
    seen: set[str] = set()
    for row in read_rows(path, place, columns):
        rows_of[_filled(pattern, row)].append(row)
        if label_column is not None:
            seen.update(split_labels(row[label_column], separator))
    return _Sheet(rows_of=dict(rows_of), labels=tuple(sorted(seen - {""})))


def _filled(pattern: str, row: Cells) -> str:
    return plain_name(re.sub(r"\{(.+?)\}", lambda column: row[column[1]], pattern))


def _names_of(spec: TableSource, root: Path, item: str) -> list[str]:
    """Return what a table may call a picture: its path below `images` or below `root`, or its file name."""
    folder = root / spec.images
    below = [os.path.relpath(root / item, folder)] if folder.is_dir() else []
    return list(dict.fromkeys([*(Path(path).as_posix() for path in below), item, PurePosixPath(item).name]))
