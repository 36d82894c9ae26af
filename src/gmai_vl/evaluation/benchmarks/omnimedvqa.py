"""OmniMedVQA: one JSON file for each dataset under QA_information, the images under Images.

Hu et al., CVPR 2024 (arXiv 2402.09181); the hub's foreverbeliever/OmniMedVQA. There is no split: everything is test.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, variant_of
from gmai_vl.evaluation.benchmarks.checks import distinct
from gmai_vl.evaluation.benchmarks.pictures import in_folder
from gmai_vl.evaluation.benchmarks.rows import Row, files_of, rows_of
from gmai_vl.evaluation.prompts import turns_of
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError

NAME = "omnimedvqa"
KNOWN = {88_996: "open access", 38_999: "restricted access", 127_995: "open and restricted access"}
"""Questions -> published form; the paper's sum of 127,995 less the 88,996 of the open part is the restricted part."""

Access = Literal["open", "restricted"]

FOLDERS: dict[Access, str] = {"open": "Open-access", "restricted": "Restricted-access"}

_NEEDED = ("dataset", "question_id", "question_type", "question", "gt_answer", "image_path", "option_A", "option_B")
_MAY_LACK = ("option_C", "option_D", "modality_type", "modality")


def read_omnimedvqa(data: Path, prompt: str = "direct", *, access: Access | None = None) -> Benchmark:
    """Read the questions of the open part, the restricted part, or all that are there.

    The right option is told by its text, so its letter is that of the same text, up to case and a final dot. Where
    several options are the same up to those, each is right: the answer is the first of them, one that is exactly the
    same before one that is not, the others are its alternatives, and a note has the count.
    The images of the restricted part are not in the download; they come from the owners of the datasets.
    Raises UserError where there is no such part, an image is missing, or an answer is none of its options.
    """
    files = [
        file
        for part in ([access] if access else FOLDERS)
        for file in files_of(data, *(f"{start}QA_information/{FOLDERS[part]}/*.json" for start in ("", "OmniMedVQA/")))
    ]
    if not files:
        wanted = FOLDERS[access] if access else "Open-access"
        raise UserError(f"{data}: has no QA_information/{wanted}/*.json; unpack OmniMedVQA.zip there")
    rows = [row for file in files for row in rows_of(file, [*_NEEDED, *_MAY_LACK], _MAY_LACK)]
    names = [f"{NAME}-{row.text('dataset')}-{row.text('question_id')}" for row in rows]
    questions = [_question(row, id, prompt) for row, id in zip(rows, _distinct(names), strict=True)]
    image = in_folder(files[0].parents[2], [question.images[0] for question in questions])
    variant, notes = variant_of(NAME, len(questions), KNOWN)
    if several := sum(bool(question.alternatives) for question in questions):
        notes += (f"{NAME}: in {several:,} questions the answer equals several options; each of these is right",)
    if again := len(names) - len(set(names)):
        notes += (f"{NAME}: {again:,} questions have the id of an earlier one; theirs end in #2, #3 ...",)
    return Benchmark(name=NAME, variant=variant, questions=distinct(questions, data), image=image, notes=notes)


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """Yield each name, with #2, #3 ... behind where it repeats an earlier one."""
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}#{seen[name]}"


def _question(row: Row, id: str, prompt: str) -> Question:
    options = _options(row)
    answer, *alternatives = _letters(row, options)
    stem = row.text("question")
    return Question(
        id=id,
        kind="mcq",
        language="en",
        turns=turns_of(prompt, stem, options, "mcq", "en", images=1),
        stem=stem,
        images=(row.text("image_path"),),
        options=options,
        answer=answer,
        alternatives=tuple(alternatives),
        modality=row.optional("modality") or row.text("modality_type"),  # one row of `Chest CT Scan` has the short name
        source=row.text("dataset"),
        labels={"question type": row.text("question_type")},
    )


def _options(row: Row) -> dict[str, str]:
    options = {letter: text for letter in "ABCD" if (text := row.optional(f"option_{letter}"))}
    if len(options) < 2:
        raise UserError(f"{row.place}: has {len(options)} options; two to four are needed")
    return options


def _letters(row: Row, options: dict[str, str]) -> list[str]:
    """Return the letters of the options that the answer equals: those that equal it exactly before the others."""
    told = row.text("gt_answer")
    letters = [letter for letter, text in options.items() if _plain(text) == _plain(told)]
    if not letters:
        raise UserError(f"{row.place}: `gt_answer` is {told!r}, none of the options {list(options.values())}")
    return sorted(letters, key=lambda letter: options[letter] != told)


def _plain(text: str) -> str:
    return text.casefold().removesuffix(".").strip()
