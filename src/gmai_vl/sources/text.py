"""Existing questions and dialogues: rows about one picture become one case, rows without a picture one case each."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from gmai_vl.foundation import BadItem, canonical_json, stable_fraction
from gmai_vl.records import Case, Conversation, Rejected, pixel_sha256
from gmai_vl.sources.dialogue import cleaned, conversation_of, images_named
from gmai_vl.sources.entries import READERS, Entry, read_entries
from gmai_vl.sources.files import file_of, list_files, plain_name
from gmai_vl.sources.images import read_image
from gmai_vl.sources.labels import patient_of
from gmai_vl.sources.published import agreed, published_conversation, told_of
from gmai_vl.sources.spec import TextSource

MOST_VALUES = 50
"""Values of a column of `where` that the ledger names one by one."""
MAX_ID = 100
"""Characters of an id; a longer one gives way to the number of the row."""


class _Numbered(NamedTuple):
    """A row and what it is called: `file@row=12`, counted from 1, or `file@id=...`."""

    name: str
    row: Entry


@dataclass(frozen=True, slots=True)
class _Index:
    """All rows of a source by the item that they belong to."""

    rows: dict[str, list[_Numbered]] = field(default_factory=lambda: defaultdict(list))
    rejected: dict[str, list[Rejected]] = field(default_factory=lambda: defaultdict(list))
    """What became of files and rows that belong to no item: by file, or by row."""

    names: set[str] = field(default_factory=set)
    """Of all rows."""

    ids: set[str] = field(default_factory=set)
    """Of the samples that an export holds."""

    long_ids: Counter[str] = field(default_factory=Counter)
    """File -> rows whose id is longer than `MAX_ID`."""

    def reject(self, name: str, reason: str, *, excluded: bool = False) -> None:
        """Write down what cannot be used, or with `excluded` is not wanted."""
        outcome = "excluded" if excluded else "quarantined"
        self.rejected[name].append(Rejected(item=name, outcome=outcome, reason=reason))  # type: ignore[arg-type]


def list_items(spec: TextSource, root: Path) -> list[str]:
    """Return the pictures that have rows, the rows without a picture, and the files and rows that cannot be used.

    Raises UserError if there is no file or a file lacks a column.
    """
    index = _index(spec, root)
    return sorted({*index.rows, *index.rejected})


def read_item(spec: TextSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read all questions about one picture, or one row of text: one case, and which rows it leaves out. Raises BadItem.

    A row that asks and answers the same as one before it about the same picture is excluded.
    """
    index = _index(spec, root)
    results: list[Case | Rejected] = list(index.rejected.get(item, ()))
    rows = index.rows.get(item, [])
    has_image = bool(rows) and rows[0].name != item
    conversations: dict[object, Conversation] = {}
    told = []
    for name, row in rows:
        try:
            conversation = _conversation(spec, row, name, int(has_image))
        except BadItem as bad:
            results.append(Rejected(item=name, outcome="quarantined", reason=str(bad)))
            continue
        id = conversation.published.id if conversation.published else None
        first = conversations.setdefault((conversation.turns, str(conversation.options), id), conversation)
        if first is not conversation:
            reason = f"asks and answers the same as {first.name}"
            results.append(Rejected(item=name, outcome="excluded", reason=reason))
        told += [each] if (each := told_of(spec, row)) else []
    if not conversations:
        return results
    common = agreed(told)
    pixels = read_image(file_of(root, item, spec.images)) if has_image else np.zeros((0, 0), np.uint8)
    if common.get("image_sha256") not in (None, pixel_sha256(pixels)):
        raise BadItem("its picture has other pixels than the export that tells of it; export it again")
    case = Case(
        source=spec.name,
        item=item,
        pixels=pixels,
        modality=common.get("modality") or spec.modality,
        department=common.get("department") or spec.department,
        clinical_task=common.get("clinical_task") or spec.clinical_task,
        task="qa",
        dimension="2d" if has_image else "text",
        conversations=tuple(conversations.values()),
        patient_id=_patient(spec, root, item, [row for _, row in rows]),
        license=common.get("license") or spec.license,
        url=spec.url,
    )
    return [case, *results]


def _conversation(spec: TextSource, row: Entry, name: str, images: int) -> Conversation:
    told = told_of(spec, row)
    if told is None:
        return conversation_of(spec, row, name, images)
    return published_conversation(spec, row, told, name, images_named(spec, row))


def _patient(spec: TextSource, root: Path, item: str, rows: list[Entry]) -> str | None:
    if spec.patient is not None:
        return patient_of(spec.patient, root, item)
    if spec.patient_column is None:
        return None
    named = {cleaned(row[spec.patient_column], "the patient") for row in rows}
    if len(named) > 1 or None in named:
        raise BadItem(f"its rows name {len(named - {None})} patients in `{spec.patient_column}`, some may name none")
    return named.pop()


def _index(spec: TextSource, root: Path) -> _Index:
    files = sorted(spec.sample_ratios)
    if not files:
        files = list_files(spec.name, root, spec.annotations, tuple(READERS), "annotations")
    states = [(file, (root / file).stat().st_size, (root / file).stat().st_mtime_ns) for file in files]
    return _read_index(canonical_json(spec.model_dump(mode="json")), root, tuple(states))


@lru_cache(maxsize=2)
def _read_index(spec_json: str, root: Path, states: tuple[tuple[str, int, int], ...]) -> _Index:
    """Read all files once; `states` (their sizes and times) makes a changed file be read again."""
    spec = TextSource.model_validate_json(spec_json)
    index = _Index()
    for file, _, _ in states:
        unwanted: Counter[tuple[str, str]] = Counter()
        try:
            path = file_of(root, file, file if spec.sample_ratios else spec.annotations)
            place = f"source `{spec.name}`: annotations"
            rows: Iterable[tuple[int, Entry | BadItem]] = read_entries(path, place, spec.columns, spec.may_lack)
            for number, row in _share_of(spec, index, file, rows):
                _place(spec, index, unwanted, file, number, row)
        except BadItem as bad:
            index.reject(file, str(bad))
        _count_unwanted(index, file, unwanted)
        if number := index.long_ids[file]:
            reason = f"the ids of {number} rows have more than {MAX_ID} characters; the rows go by their numbers"
            index.reject(f"{file}@id", reason, excluded=True)
    return index


def _share_of(
    spec: TextSource, index: _Index, file: str, rows: Iterable[tuple[int, Entry | BadItem]]
) -> Iterable[tuple[int, Entry | BadItem]]:
    """Return the share of the rows that `sample_ratios` takes, in their order; write down how many it leaves out."""
    ratio = spec.sample_ratios.get(file, 1.0)
    if ratio == 1:
        return rows
    numbered = list(rows)
    chance = {number: stable_fraction("sample_ratio", file, number) for number, _ in numbered}
    taken = set(sorted(chance, key=lambda number: chance[number])[: max(round(ratio * len(numbered)), 1)])
    if left := len(numbered) - len(taken):
        reason = f"{left} of {len(numbered)} rows are left out by sample_ratio {ratio:g}"
        index.reject(f"{file}@sample_ratio", reason, excluded=True)
    return [(number, row) for number, row in numbered if number in taken]


def _place(
    spec: TextSource, index: _Index, unwanted: Counter[tuple[str, str]], file: str, number: int, row: Entry | BadItem
) -> None:
    """Put a row where it belongs: to a picture, to itself, or to what is not used."""
    name = f"{file}@row={number}"
    try:
        if isinstance(row, BadItem):
            raise row
        for column, values in spec.where.items():
            value = cleaned(row[column], f"`{column}`") or ""
            if value not in values:
                unwanted[column, value] += 1
                return
        if told_of(spec, row) is None:
            name = _named_by_id(spec, index, row, file) or name
        elif (id := str(row[spec.id_column or "id"])) in index.ids:
            raise BadItem(f"its id stands in another row too: {plain_name(id)[:100]}")
        else:
            index.ids.add(id)
        if name in index.names:  # an id that stands twice
            name = f"{file}@row={number}"
        index.names.add(name)
        images = images_named(spec, row)
        if len(images) > 1:
            raise BadItem(f"shows {len(images)} images; one is what can be read so far")
        item = _below_images(spec, images[0]) if images else name
    except BadItem as bad:
        index.reject(name, str(bad))
        return
    index.rows[item].append(_Numbered(name, row))


def _named_by_id(spec: TextSource, index: _Index, row: Entry, file: str) -> str | None:
    if spec.id_column is None:
        return None
    id = cleaned(row[spec.id_column], "the id")
    index.long_ids[file] += id is not None and len(id) > MAX_ID
    return f"{file}@id={id}" if id is not None and len(id) <= MAX_ID and id.isprintable() else None


def _below_images(spec: TextSource, path: str) -> str:
    """Return the item of a picture that a row names. Raises BadItem if that is no path below `images`."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path or plain_name(path) != path:
        raise BadItem(f"its image {plain_name(path)[:200]!r} is no path below `images`")
    return (PurePosixPath(spec.images) / parts).as_posix()


def _count_unwanted(index: _Index, file: str, unwanted: Counter[tuple[str, Any]]) -> None:
    """Write down how many rows of a file `where` leaves out, by column and value."""
    by_number = sorted(unwanted.items(), key=lambda entry: (-entry[1], entry[0]))
    for (column, value), number in by_number[:MOST_VALUES]:
        index.reject(f"{file}@{column}={plain_name(value)[:100]}", f"{number} rows are not in `where`", excluded=True)
    if rest := by_number[MOST_VALUES:]:
        number = sum(count for _, count in rest)
        index.reject(f"{file}@where", f"{number} rows of {len(rest)} other values are not in `where`", excluded=True)
