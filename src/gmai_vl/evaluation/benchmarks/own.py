"""People's own questions: a table with a row each, or JSON lines of messages, beside the images they name.

A table is CSV, TSV, JSON, JSON lines or Parquet, with the columns `question` and `answer`. Besides it may have `id`,
`image` (a path below the folder of the table, several separated by `;`; in Parquet also the picture itself), `A` to `I`
(options), `kind` (mcq, closed or open), `language` (en or zh) and `patient`; every other column becomes a label, by
whose values scores are given too. So items.parquet of `gmai eval build` is such a table.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, ImageOf
from gmai_vl.evaluation.benchmarks.checks import distinct
from gmai_vl.evaluation.benchmarks.messages import conversation_of
from gmai_vl.evaluation.benchmarks.pictures import in_parquet, rows_with_images
from gmai_vl.evaluation.benchmarks.rows import Row, files_of, rows_of
from gmai_vl.evaluation.prompts import Asked, turns_of
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import BadItem, UserError, is_inside, nearest
from gmai_vl.records import ImageRef, Turn
from gmai_vl.sources.entries import READERS
from gmai_vl.sources.images import read_image
from gmai_vl.vocabulary import Language

NAME = "own"
KNOWN: dict[int, str] = {}
"""No form of them is published."""

LETTERS = "ABCDEFGHI"
FIELDS = (
    "question", "answer", "id", "index", "image", "kind", "language", "patient", "patient_id", "messages", *LETTERS
)  # fmt: skip
"""Columns that become no labels."""

YES_OR_NO = ("yes", "no", "是", "否")

_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")


def read_own(data: Path, prompt: str = "direct") -> Benchmark:
    """Read a file of questions, or the one file in a folder that is called `questions` and ends as tables do.

    Without `kind`, a question with options is mcq, one answered by yes or no (是 or 否) closed, any other open. The
    answer to an mcq is a letter, or else the text of exactly one option. A row with `messages` is a conversation: each
    has a `role` and a `content`, a text or a list of {"type": "text", "text": ...} and {"type": "image", "image":
    path}; the last one, the assistant's, is the answer, and no prompt is put around the others. Raises UserError, with
    the row, where a value is missing or none of those, and where an image is missing or outside of the folder.
    """
    files = [data] if data.is_file() else [file for end in READERS for file in files_of(data, f"questions{end}")]
    if len(files) != 1 or files[0].suffix.lower() not in READERS:
        raise UserError(f"{data}: holds {len(files)} tables; give a file that ends in {', '.join(READERS)}")
    columns = _columns(files[0])
    needed = [] if "messages" in columns else ["question", "answer"]
    others = [name for name in columns if name and name not in needed]
    labels = [name for name in others if name not in FIELDS]
    holds_pictures = _holds_pictures(files[0])
    rows = _with_names(files[0], columns) if holds_pictures else rows_of(files[0], [*needed, *others], may_lack=others)
    questions = distinct([_question(row, prompt, labels) for row in rows], files[0])
    names = [name for question in questions for name in question.images]
    image = in_parquet("image") if holds_pictures else _in_folder(files[0].parent, names)
    return Benchmark(name=NAME, variant=f"{files[0].name} ({len(questions):,})", questions=questions, image=image)


def _columns(file: Path) -> list[str]:
    """Return the columns of a table, in JSON those of any entry."""
    try:
        if file.suffix.lower() == ".parquet":
            return list(pq.read_schema(file).names)
        entries = READERS[file.suffix.lower()](file, [])
        return list(dict.fromkeys(name for entry in entries if isinstance(entry, dict) for name in entry))
    except (BadItem, OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None


def _holds_pictures(file: Path) -> bool:
    """Say whether a table has the pictures themselves in its column `image`: bytes, or bytes with a path."""
    if file.suffix.lower() != ".parquet":
        return False
    schema = pq.read_schema(file)
    kind = schema.field("image").type if "image" in schema.names else None
    return kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind))


def _with_names(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows with the name of a picture in place of its bytes."""
    for _, row, name in rows_with_images([file], [column for column in columns if column != "image"]):
        yield Row(row.file, row.number, row.values | {"image": [name]})


def _in_folder(root: Path, names: Sequence[str]) -> ImageOf:
    missing = [name for name in dict.fromkeys(names) if not _is_there(root, name)]
    if missing:
        said = f"{len(missing)} images are missing or outside of it, the first is {missing[0][:200]!r}"
        raise UserError(f"{root}: {said}; paths count from this folder")
    return lambda name: read_image(root / name)


def _is_there(root: Path, name: str) -> bool:
    try:
        return (root / name).is_file() and is_inside(root / name, root)
    except (OSError, ValueError):  # too long, or no name at all
        return False


def _question(row: Row, prompt: str, labels: Sequence[str]) -> Question:
    options = {letter: text for letter in LETTERS if (text := _given(row, letter))} or None
    turns: tuple[Turn, ...] = ()
    if row.values.get("messages") is None:
        images = _images(row)
        stem, told = _needed(row, "question"), _needed(row, "answer")
    else:
        turns, images, told = conversation_of(row)
        stem = turns[-1].text
    language, kind = _language(row, stem), _kind(row, told, options)
    if not turns:
        turns = _asked(row, prompt, stem, options, kind, language, len(images))
    return Question(
        id=f"{NAME}-{_given(row, 'id') or row.number}",
        kind=kind,
        language=language,
        turns=turns,
        stem=stem,
        images=images,
        options=options,
        answer=_letter(row, told, options) if options else told,
        source=NAME,
        labels={name: text for name in labels if (text := _label(row.values.get(name)))},
        patient_id=_given(row, "patient") or _given(row, "patient_id"),
    )


def _given(row: Row, column: str) -> str | None:
    """Return the text of a cell; None where it is absent, blank or not a number. `None` and `nan` are texts."""
    value = row.values.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return row.text(column) or None


def _needed(row: Row, column: str) -> str:
    text = _given(row, column)
    if text is None:
        raise UserError(f"{row.place}: `{column}` is empty")
    return text


def _label(value: Any) -> str | None:
    """Return a value to give scores by; lists and objects are none."""
    if value is None or isinstance(value, list | dict | bytes) or value != value:  # the last: not a number
        return None
    return str(value).strip()


def _images(row: Row) -> tuple[str, ...]:
    if isinstance(row.values.get("image"), list):
        return tuple(row.listed("image"))
    return tuple(name.strip() for name in (_given(row, "image") or "").split(";") if name.strip())


def _kind(row: Row, answer: str, options: dict[str, str] | None) -> Asked:
    guess: Asked = "mcq" if options else "closed" if answer.lower() in YES_OR_NO else "open"
    kinds: dict[str, Asked] = {kind: kind for kind in get_args(Asked)}
    told = _given(row, "kind") or guess
    if told not in kinds:
        raise UserError(f"{row.place}: `kind` is {told!r}; {nearest(told, kinds)}")
    if (told == "mcq") != bool(options):
        raise UserError(f"{row.place}: `kind` is {told}, and it has {len(options or {})} options")
    return kinds[told]


def _letter(row: Row, answer: str, options: dict[str, str]) -> str:
    if answer in options:
        return answer
    letters = [letter for letter, text in options.items() if text == answer]
    if len(letters) != 1:
        raise UserError(f"{row.place}: the answer {answer!r} is {len(letters)} of its options; give a letter")
    return letters[0]


def _language(row: Row, stem: str) -> Language:
    languages: dict[str, Language] = {language: language for language in get_args(Language)}
    told = _given(row, "language") or ("zh" if _CHINESE.search(stem) else "en")
    if told not in languages:
        raise UserError(f"{row.place}: `language` is {told!r}; {nearest(told, languages)}")
    return languages[told]


def _asked(
    row: Row, prompt: str, stem: str, options: dict[str, str] | None, kind: Asked, language: Language, images: int
) -> tuple[Turn, ...]:
    try:
        turns = turns_of(prompt, stem, options, kind, language, images=images)
    except ValueError as error:
        raise UserError(f"{row.place}: {error}") from None
    shown = {part for turn in turns for part in turn.content if isinstance(part, ImageRef)}
    if len(shown) < images:
        raise UserError(f"{row.place}: has {images} images, but marks for {len(shown)}; mark all of them or none")
    return turns
