"""MedXpertQA, the part with images: MM/test.jsonl beside images.zip or the unpacked images.

Zuo et al., ICML 2025 (arXiv 2501.18362); the hub's TsinghuaC3I/MedXpertQA. Questions are those of examinations, their
options five. The part without images is another benchmark.
"""

from pathlib import Path
from string import ascii_uppercase

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, variant_of
from gmai_vl.evaluation.benchmarks.checks import distinct, letter_of
from gmai_vl.evaluation.benchmarks.pictures import in_folder
from gmai_vl.evaluation.benchmarks.rows import Row, files_of, rows_of
from gmai_vl.evaluation.prompts import turns_of
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError

NAME = "medxpertqa-mm"
KNOWN = {2_000: "MM, test"}
"""Questions -> published form (arXiv 2501.18362)."""

LABELS = ("medical_task", "body_system", "question_type")
"""Columns that become labels."""

CHOICES = "Answer Choices:"
"""Begins the options where the question repeats them."""


def read_medxpertqa(data: Path, prompt: str = "direct") -> Benchmark:
    """Read `MM/test.jsonl` from the downloaded folder.

    Questions repeat their options at the end ("Answer Choices: (A) ..."). There they are cut off, since prompts have
    them already; where they are not the same as `options` they stay, and a note tells of how many questions. Raises
    UserError where the file or an image is missing, or `label` is none of the options.
    """
    files = files_of(data, "MM/test.jsonl", "test.jsonl")
    if len(files) != 1:
        raise UserError(f"{data}: has no MM/test.jsonl; download TsinghuaC3I/MedXpertQA")
    needed = ["id", "question", "options", "label", "images"]
    rows = list(rows_of(files[0], [*needed, *LABELS], may_lack=LABELS))
    questions = distinct([_question(row, prompt) for row in rows], files[0])
    root = files[0].parent.parent if files[0].parent.name == "MM" else files[0].parent
    unpacked = root / "images"  # where it is there, the archive beside it holds the same images again
    names = [name for question in questions for name in question.images]
    image = in_folder(unpacked if unpacked.is_dir() else root, names)
    variant, notes = variant_of(NAME, len(questions), KNOWN)
    if kept := sum(CHOICES in question.stem for question in questions):
        notes += (f"{NAME}: {kept:,} questions repeat options that are not theirs; they are asked with both",)
    return Benchmark(name=NAME, variant=variant, questions=questions, image=image, notes=notes)


def _question(row: Row, prompt: str) -> Question:
    options = _options(row)
    stem = _without_options(row.text("question"), options)
    images = tuple(row.listed("images"))
    if not images:
        raise UserError(f"{row.place}: has no image; MM/test.jsonl has one for each question")
    return Question(
        id=f"{NAME}-{row.text('id')}",
        kind="mcq",
        language="en",
        turns=turns_of(prompt, stem, options, "mcq", "en", images=len(images)),
        stem=stem,
        images=images,
        options=options,
        answer=letter_of(row, "label", options),
        source=NAME,
        labels={column.replace("_", " "): told for column in LABELS if (told := row.optional(column))},
    )


def _options(row: Row) -> dict[str, str]:
    told = row.values["options"]
    if not isinstance(told, dict):
        raise UserError(f"{row.place}: `options` is {str(told)[:60]}; an object of letters and texts is needed")
    options = {letter: text.strip() for letter, text in sorted(told.items()) if isinstance(text, str)}
    if len(options) < max(2, len(told)) or not set(ascii_uppercase).issuperset(options):
        raise UserError(f"{row.place}: `options` is {str(told)[:60]}; two or more letters with texts are needed")
    return options


def _without_options(question: str, options: dict[str, str]) -> str:
    stem, cue, repeated = question.rpartition(CHOICES)
    own = " ".join(f"({letter}) {text}" for letter, text in options.items())
    return stem.strip() if cue and repeated.split() == own.split() else question
