"""MMMU, Health & Medicine: the parquet files of the five subjects, or VLMEvalKit's MMMU_DEV_VAL.tsv and MMMU_TEST.tsv.

Yue et al., CVPR 2024 (arXiv 2311.16502); the hub's MMMU/MMMU. Published scores differ in what they count: all 150
questions of validation, or the 145 with options. `question_of` reads the questions of MMMU-Pro as well.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, ImageOf, variant_of
from gmai_vl.evaluation.benchmarks.checks import distinct, letter_of, lettered
from gmai_vl.evaluation.benchmarks.pictures import column_names, in_columns
from gmai_vl.evaluation.benchmarks.rows import Row, files_of, rows_of
from gmai_vl.evaluation.benchmarks.tsv import present, read_tsv
from gmai_vl.evaluation.prompts import IMAGE_MARK, Asked, turns_of
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError, nearest

NAME = "mmmu-health"
KNOWN = {150: "validation", 25: "dev", 1_752: "test"}
"""Questions -> published form (arXiv 2311.16502, table 2)."""

Split = Literal["validation", "dev", "test"]

SUBJECTS = (
    "Basic_Medical_Science",
    "Clinical_Medicine",
    "Diagnostics_and_Laboratory_Medicine",
    "Pharmacy",
    "Public_Health",
)
IMAGES = tuple(f"image_{number}" for number in range(1, 8))
WITHHELD = "?"
"""Stands for the answers of test."""

_NEEDED = ("id", "question", "options", "answer", "question_type")
GIVEN = {"subfield": "subfield", "topic_difficulty": "difficulty", "img_type": "image type"}
"""Column -> label, of what the parquet files tell besides; img_type is a list in a string."""


def read_mmmu(data: Path, prompt: str = "mmmu", split: Split = "validation") -> Benchmark:
    """Read one split from a folder that holds `<Subject>/validation-*.parquet`, or a TSV file of VLMEvalKit.

    Options are a Python list in a string, their letters go by position; questions without options are open. Images
    stand where the question or an option marks them. Of a question with marks, images that none of them names are left
    out, as MMMU's own evaluation and VLMEvalKit do; a note tells of how many questions. Raises UserError where there
    is no file or no question of the five subjects, a marked image is missing, or a letter is none of its options.
    """
    if split not in get_args(Split):
        raise UserError(f"split {split}: no split of that name; {nearest(split, get_args(Split))}")
    if tables := files_of(data, "MMMU_TEST.tsv" if split == "test" else "MMMU_DEV_VAL.tsv"):
        asked, image = _of_tsv(tables[0], prompt, split)
    elif files := files_of(data, f"*/{split}-*.parquet", f"{split}-*.parquet"):
        asked, image = list(_of_hub(files, prompt)), in_columns()
    else:
        raise UserError(f"{data}: has neither <Subject>/{split}-*.parquet nor a TSV file of VLMEvalKit with {split}")
    questions = distinct([question for question, _ in asked], data)
    variant, notes = variant_of(NAME, len(questions), KNOWN)
    if lacking := [name for name in SUBJECTS if name not in {question.labels["subject"] for question in questions}]:
        notes += (f"{NAME}: has no questions of {', '.join(lacking)}",)
    notes += left_out(NAME, asked)
    return Benchmark(name=NAME, variant=variant, questions=questions, image=image, notes=notes)


Asking = tuple[Question, int]
"""A question, and how many of its images it does not show."""


def left_out(name: str, asked: Sequence[Asking]) -> tuple[str, ...]:
    """Return the note that some questions do not show all their images, if there are any."""
    count = sum(1 for _, unseen in asked if unseen)
    return (f"{name}: in {count:,} questions the marks leave out an image",) if count else ()


def _of_hub(files: Sequence[Path], prompt: str) -> Iterator[Asking]:
    for file in [file for file in files if file.parent.name in SUBJECTS] or files:
        rows = list(rows_of(file, [*_NEEDED, *GIVEN], may_lack=tuple(GIVEN)))
        for row, names in zip(rows, column_names(file, IMAGES), strict=True):
            id = row.text("id")
            subject = re.sub(r"^[a-z]+_|_\d+$", "", id)  # validation_Public_Health_12
            if subject not in SUBJECTS:
                continue
            texts = row.listed("options")
            if bool(texts) == (row.text("question_type") == "open"):
                raise UserError(f"{row.place}: has {len(texts)} options, but is {row.text('question_type')}")
            options = lettered(row, texts) if texts else None
            pictures = {IMAGES.index(column) + 1: name for column, name in names.items()}
            yield question_of(row, f"{NAME}-{id}", NAME, subject, options, pictures, prompt)


def _of_tsv(file: Path, prompt: str, split: Split) -> tuple[list[Asking], ImageOf]:
    """Read VLMEvalKit's form: the subject in `category`, options in columns, questions without any are open."""
    columns = ["question", "A", "answer", "category", *(["split"] if split != "test" else [])]
    rows, image = read_tsv([file], columns)
    asked = []
    for row in rows:
        if row.text("category") not in SUBJECTS or row.values.get("split", split) != split:
            continue
        options = {letter: text for letter in "ABCDEFGHI" if (text := present(row, letter))}
        pictures = dict(enumerate(row.values["image"], start=1))
        id = present(row, "id") or f"{split}-{row.text('index')}"
        asked.append(question_of(row, f"{NAME}-{id}", NAME, row.text("category"), options or None, pictures, prompt))
    return asked, image


def question_of(
    row: Row,
    id: str,
    source: str,
    subject: str,
    options: dict[str, str] | None,
    pictures: Mapping[int, str],
    prompt: str,
) -> Asking:
    """Return a question of MMMU or MMMU-Pro; `pictures` has the names of its images by their numbers.

    Marks are renumbered where a number is not used, so that `<image k>` is the k-th image that is shown.
    """
    stem, options, images = _placed(row, row.text("question"), options, pictures)
    kind: Asked = "mcq" if options else "open"
    labels = {"subject": subject, "question type": "multiple-choice" if options else "open"}
    for column, label in GIVEN.items():
        if told := present(row, column):
            labels[label] = "; ".join(row.listed(column)) if told.startswith("[") else told
    answer, *alternatives = _answers(row, options)
    question = Question(
        id=id,
        kind=kind,
        language="en",
        turns=turns_of(prompt, stem, options, kind, "en", images=len(images)),
        stem=stem,
        images=images,
        options=options,
        answer=answer,
        alternatives=tuple(text for text in alternatives if text is not None),
        source=source,
        labels=labels,
    )
    return question, len(pictures) - len(images)


def _placed(
    row: Row, stem: str, options: dict[str, str] | None, pictures: Mapping[int, str]
) -> tuple[str, dict[str, str] | None, tuple[str, ...]]:
    """Return the texts with renumbered marks, and the images that these show; all images where there is no mark."""
    texts = [stem, *(options or {}).values()]
    marked = {mark[1] for text in texts for mark in IMAGE_MARK.finditer(text)}
    if missing := sorted(marked - {str(number) for number in pictures}):
        raise UserError(f"{row.place}: `<image {missing[0][:9]}>` stands in its text, but it has no such image")
    shown = [number for number in sorted(pictures) if str(number) in marked or not marked]
    if not shown:
        raise UserError(f"{row.place}: has no image; download it again")
    places = {str(number): place for place, number in enumerate(shown, start=1)}

    def renumbered(text: str) -> str:
        return IMAGE_MARK.sub(lambda mark: f"<image {places[mark[1]]}>", text)

    placed = {letter: renumbered(text) for letter, text in options.items()} if options else None
    return renumbered(stem), placed, tuple(pictures[number] for number in shown)


def _answers(row: Row, options: Mapping[str, str] | None) -> list[str | None]:
    """Return the answer and its alternatives: a letter, a text, or texts in a list; None alone where it is withheld."""
    told = row.text("answer")
    if told == WITHHELD:
        return [None]
    if options:
        return [letter_of(row, "answer", options)]
    try:
        listed = ast.literal_eval(told) if told.startswith("[") else told
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        listed = told  # an interval, say
    answers = [str(text).strip() for text in listed] if isinstance(listed, list) else [told]
    if not answers or "" in answers:
        raise UserError(f"{row.place}: `answer` is empty")
    return [*answers]
