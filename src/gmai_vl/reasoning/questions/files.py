"""A folder of questions on disk: a file for each side, the images, the training side as GMAI-Reasoning10K writes it."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmai_vl.corpus.images import load_image, write_png
from gmai_vl.foundation import (
    BadItem,
    UserError,
    atomic_folder,
    canonical_json,
    is_inside,
    progress,
    sha256_of_text,
    write_json,
)
from gmai_vl.reasoning.items import OF_ESTIMATES, SIDES, Side, side_file
from gmai_vl.reasoning.questions.item import Item
from gmai_vl.reasoning.questions.r10k import RL_FILE, Record, rl_entry
from gmai_vl.records import pixel_sha256
from gmai_vl.sources.images import read_image

FORM = "reasoning-questions"
"""What the manifest calls such a folder."""

MANIFEST = "manifest.json"
LEFT_OUT = "left_out.jsonl"
IMAGES = "images"

Row = dict[str, Any]
Put = Callable[[Item, Path], None]
"""From an item and a path to its image, there as a PNG."""


def row_of(item: Item, patient: str) -> Row:
    """Return the line of an item; `patient` is what stands for its patient."""
    question = item.question
    return {
        "id": item.id,
        "question": question.stem,
        **item.options,
        "answer": question.reference,
        "image": image_name(item),
        "language": question.language,
        "patient": patient,
        "source": question.source,
        "modality": question.modality,
        "form": question.form,
        "department": question.department,
        "clinical_task": question.clinical_task,
        "about": item.about.model_dump(exclude_none=True),
    }


def image_name(item: Item) -> str:
    """Return the path of an item's image in its folder."""
    return f"{IMAGES}/{item.image[:2]}/{item.image}.png"


def fingerprint(rows_by_side: Mapping[Side, Sequence[Row]]) -> str:
    """Return the sha256 over the canonical JSON of all lines, but for where the corpora lie."""
    lines = [
        canonical_json([side, row | {"about": {**row["about"], "corpus": None}}])
        for side, rows in rows_by_side.items()
        for row in rows
    ]
    return sha256_of_text("\n".join(sorted(lines)))


def write_folder(
    out: Path,
    items_by_side: Mapping[Side, Sequence[Item]],
    rows_by_side: Mapping[Side, Sequence[Row]],
    manifest: Mapping[str, Any],
    put: Put,
    left_out: Sequence[Row] | None = None,
) -> None:
    """Write a folder as a whole, its manifest last; `put` gives the images. A side without questions has no file.

    Raises UserError if an image is missing or not the one that it was.
    """
    items = [item for side in SIDES for item in items_by_side.get(side, ())]
    with atomic_folder(out) as folder:
        pictures = {item.image: item for item in items}
        for item in progress(pictures.values(), "images", len(pictures)):
            target = folder / image_name(item)
            target.parent.mkdir(parents=True, exist_ok=True)
            put(item, target)
        for side, rows in rows_by_side.items():
            if rows:
                _write_lines(side_file(folder, side), rows)
        _write_lines(folder / RL_FILE, [rl_entry(_record(item)) for item in items_by_side.get("train", ())])
        if left_out is not None:
            _write_lines(folder / LEFT_OUT, left_out)
        write_json(folder / MANIFEST, manifest)


def linked(item: Item, target: Path) -> None:
    """Put the image of a corpus there: a hard link where the disk allows one, else a copy."""
    corpus = item.picture.parents[2]
    load_image(corpus, item.image)  # raises UserError if it is not what its name says
    try:
        os.link(item.picture.resolve(), target)
    except OSError:
        shutil.copyfile(item.picture, target)


def encoded(item: Item, target: Path) -> None:
    """Put a picture of any format there, as a PNG of the same pixels."""
    try:
        pixels = read_image(item.picture)
    except BadItem:  # it could be read before
        pixels = None
    if pixels is None or pixel_sha256(pixels) != item.image:
        raise UserError(f"{item.picture}: was changed while it was read; run the command again")
    write_png(pixels, target)


def check_out(out: Path, sources: Sequence[Path], *, may_hold_out: bool = False) -> None:
    """Refuse a folder that is in the way: one with anything else in it, or about what is read or, if corpora, in it.

    Estimates of difficulty may be there: they are replaced with the questions that they were made of.
    """
    for source in sources:
        if is_inside(source, out) or (not may_hold_out and is_inside(out, source)):
            raise UserError(f"{out}: lies about {source} or in it; give another --out")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder")
    there = set(out.iterdir()) if out.exists() else set()
    known = (MANIFEST, LEFT_OUT, IMAGES, RL_FILE, *(side_file(out, side).name for side in SIDES), *OF_ESTIMATES)
    strangers = {path for path in there if not any(path.match(pattern) for pattern in known)}
    if there and (strangers or _form_of(out / MANIFEST) != FORM):
        stranger = min(strangers or there).name
        raise UserError(f"{out}: holds `{stranger}`, which no folder of questions has; give a new or an empty folder")


def _write_lines(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _record(item: Item) -> Record:
    question = item.question
    return Record(image=image_name(item), stem=question.stem, options=dict(item.options), answer=question.reference)


def _form_of(manifest: Path) -> Any:
    try:
        return json.loads(manifest.read_text(encoding="utf-8"))["form"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
