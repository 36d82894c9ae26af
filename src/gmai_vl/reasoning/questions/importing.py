"""An official file of GMAI-Reasoning10K, read: each row is an item with its side, or is left out with its reason."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gmai_vl.evaluation import Question
from gmai_vl.foundation import BadItem, UserError, is_inside, progress, stable_fraction, visible
from gmai_vl.reasoning.items import About, Side
from gmai_vl.reasoning.questions.gather import check_held_out
from gmai_vl.reasoning.questions.item import Item, sound
from gmai_vl.reasoning.questions.r10k import COLUMNS, Record, record_of
from gmai_vl.records import pixel_sha256
from gmai_vl.sources.entries import Entry, read_entries
from gmai_vl.sources.images import read_image

MOST_WRONG = 0.2
"""Share of rows that may be wrong; more of them mean that the file or the folder of images is not the one meant."""

UNTIL: dict[Side, float] = {"train": 0.8, "val": 0.9, "test": 1.0}
"""Side -> up to which fraction of chance an image goes there; the official files have no sides."""

NO_DATASET = "unknown"
"""Source of images whose path names no dataset."""

_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """What a file holds."""

    items: list[Item]
    """In row order."""

    wrong: list[dict[str, Any]]
    """Row, reason and image of what cannot be used."""

    rows: int


def read_official(file: Path, images: Path, hold_out: Collection[str], seed: int) -> Read:
    """Read a file of either record form whose image paths count from the folder `images`.

    An image has one side, by `seed` and its pixels; those of a dataset in `hold_out` go to held_out. Raises UserError
    if the file or folder cannot be read, or no row of it names a dataset of `hold_out`.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; give one of GMAI-Reasoning10K's JSON lines")
    if not images.is_dir():
        raise UserError(f"--images {images}: no such folder; give the one that the paths of the images count from")
    try:
        rows = list(read_entries(file, str(file), COLUMNS))
    except (BadItem, OSError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    items: list[Item] = []
    wrong: list[dict[str, Any]] = []
    hashes: dict[Path, str] = {}
    for number, row in progress(rows, "reading", len(rows)):
        try:
            if isinstance(row, BadItem):
                raise row
            items.append(_item(row, number, images, hashes))
        except BadItem as bad:
            wrong.append(wrong_row(number, str(bad), None if isinstance(row, BadItem) else row.get("image")))
    check_held_out(hold_out, {item.question.source for item in items})
    sided = [replace(item, side=_side_of(item, hold_out, seed)) for item in items]
    return Read(items=sided, wrong=wrong, rows=len(rows))


def wrong_row(number: int, reason: str, image: Any = None) -> dict[str, Any]:
    """Return a line of left_out.jsonl; what somebody else wrote is made printable and cut."""
    named = {"image": visible(image)[:300]} if isinstance(image, str) else {}
    return {"row": number, "reason": visible(reason)[:300], **named}


def reason_of(told: str) -> str:
    """Return a reason without the value behind its colon, to be counted by."""
    return told.split(": ")[0]


def check_share(file: Path, wrong: Sequence[dict[str, Any]], rows: int) -> None:
    """Raise UserError if more of a file's rows are wrong than may be."""
    if len(wrong) > MOST_WRONG * rows:
        reasons = Counter(reason_of(row["reason"]) for row in wrong).most_common(3)
        told = "; ".join(f"{reason} ({number:,})" for reason, number in reasons)
        first = f"row {wrong[0]['row']}: {wrong[0]['reason'][:120]}"
        raise UserError(
            f"{file}: {len(wrong):,} of {rows:,} rows cannot be used, more than {MOST_WRONG:.0%}: {told}; "
            f"the first is {first}; check the file and --images"
        )


def _item(row: Entry, number: int, images: Path, hashes: dict[Path, str]) -> Item:
    record = record_of(row)
    picture = _picture(images, record.image)
    if picture not in hashes:
        try:
            hashes[picture] = pixel_sha256(read_image(picture))
        except BadItem as bad:
            raise BadItem(f"its image cannot be read: {bad}") from None
    return Item(
        question=_question(record, hashes[picture]),
        side="train",
        license=None,
        about=About(),
        picture=picture,
        place=f"row {number}",
    )


def _question(record: Record, image: str) -> Question:
    return sound(
        Question(
            id="",
            kind="mcq",
            language="zh" if _CHINESE.search(record.stem) else "en",
            turns=(),
            stem=record.stem,
            images=(image,),
            options=record.options,
            answer=record.answer,
            modality=record.modality,
            source=record.dataset or NO_DATASET,
        )
    )


def _picture(images: Path, name: str) -> Path:
    try:
        path = images / name
        if not is_inside(path, images):
            raise BadItem(f"its image lies outside of --images: {name}")
        if not path.is_file():
            raise BadItem(f"its image is missing: {name}")
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a name that no file has
        raise BadItem(f"its image is missing: {name}") from None
    return path


def _side_of(item: Item, hold_out: Collection[str], seed: int) -> Side:
    if item.question.source in hold_out:
        return "held_out"
    fraction = stable_fraction(seed, "side", item.image)
    return next(side for side, until in UNTIL.items() if fraction < until)
