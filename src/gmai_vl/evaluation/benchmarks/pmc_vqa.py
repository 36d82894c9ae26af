"""PMC-VQA: test_clean.csv of version 1 and test_2.csv of version 2, each with its own images; two benchmarks.

Zhang et al., arXiv 2305.10415; the hub's xmcmic/PMC-VQA or RadGenome/PMC-VQA. Version 1 asks about whole figures,
version 2 about cut-out panels; they share hardly a question, so that their scores cannot be compared.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, variant_of
from gmai_vl.evaluation.benchmarks.checks import distinct, letter_of
from gmai_vl.evaluation.benchmarks.pictures import in_folder
from gmai_vl.evaluation.benchmarks.rows import Row, files_of, rows_of
from gmai_vl.evaluation.prompts import turns_of
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError

NAME = "pmc-vqa"
KNOWN = {2_000: "test_clean, version 1"}
"""Questions -> published form; checked by hand by the authors."""

NAME_2 = "pmc-vqa-2"
KNOWN_2 = {33_430: "test_2, version 2"}
"""Questions -> published form."""

LETTERS = ("A", "B", "C", "D")


def read_pmc_vqa(data: Path, prompt: str = "direct") -> Benchmark:
    """Read test_clean.csv, whose images are in images.zip or in the folder images.

    `Answer` is a text here and `Answer_label` its letter; where they differ by more than case and blanks, the letter
    counts and a note tells of how many rows. Raises UserError where the file or an image is missing, or a letter is
    none of the options.
    """
    rows = _rows(data, "test_clean.csv", ["Answer", "Answer_label"])
    questions = [_question(row, NAME, "Answer_label", prompt) for row in rows]
    differing = sum(_differs(row, question) for row, question in zip(rows, questions, strict=True))
    said = f"{NAME}: in {differing:,} rows `Answer` is not the option that `Answer_label` names; the letter counts"
    root = _unpacked(rows[0].file.parent, "images")
    return _benchmark(NAME, KNOWN, questions, root, (said,) if differing else ())


def read_pmc_vqa_2(data: Path, prompt: str = "direct") -> Benchmark:
    """Read test_2.csv, whose images are in images_2.zip, which unpacks to the folder figures.

    `Answer` is a letter here. Raises UserError where the file or an image is missing, or a letter is none of the
    options.
    """
    rows = _rows(data, "test_2.csv", ["Answer"])
    questions = [_question(row, NAME_2, "Answer", prompt) for row in rows]
    return _benchmark(NAME_2, KNOWN_2, questions, _unpacked(rows[0].file.parent, "figures", "images_2"))


def _rows(data: Path, name: str, answers: Sequence[str]) -> list[Row]:
    files = files_of(data, name)
    if len(files) != 1:
        raise UserError(f"{data}: has no {name}; download xmcmic/PMC-VQA")
    choices = [f"Choice {letter}" for letter in LETTERS]
    return list(rows_of(files[0], ["Figure_path", "Question", *choices, *answers]))


def _unpacked(folder: Path, *names: str) -> Path:
    """Return the first of these folders that is there, for the archive beside it holds the same images; or `folder`."""
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def _benchmark(
    name: str, known: Mapping[int, str], questions: Sequence[Question], root: Path, said: tuple[str, ...] = ()
) -> Benchmark:
    image = in_folder(root, [question.images[0] for question in questions])
    variant, notes = variant_of(name, len(questions), known)
    return Benchmark(
        name=name, variant=variant, questions=distinct(questions, root), image=image, notes=(*notes, *said)
    )


def _question(row: Row, name: str, label: str, prompt: str) -> Question:
    options = {letter: _unlabelled(letter, row.text(f"Choice {letter}")) for letter in LETTERS}
    stem = row.text("Question")
    return Question(
        id=f"{name}-{row.number}",
        kind="mcq",
        language="en",
        turns=turns_of(prompt, stem, options, "mcq", "en", images=1),
        stem=stem,
        images=(row.text("Figure_path"),),
        options=options,
        answer=letter_of(row, label, options),
        source=name,
    )


def _unlabelled(letter: str, cell: str) -> str:
    """Return the text of a choice: its cell begins with its own letter and a colon (" A: Green ")."""
    return re.sub(rf"\A{letter}\s*:\s*", "", cell)


def _differs(row: Row, question: Question) -> bool:
    letter = question.reference
    told, chosen = (_unlabelled(letter, row.text(column)) for column in ("Answer", f"Choice {letter}"))
    return told.casefold().split() != chosen.casefold().split()
