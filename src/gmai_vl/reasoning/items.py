"""Questions to reason about, on disk: a folder with a file of multiple-choice questions for each side of the split.

Each file is one of `gmai eval run --benchmark own`: JSON lines with `id`, `question`, `A` to `I`, `answer`, `image`,
`language`, `patient` and columns to give scores by. What only reasoning asks for stands in the object `about`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import NonNegativeInt, PositiveInt

from gmai_vl.evaluation import Question
from gmai_vl.evaluation.benchmarks.benchmark import ImageOf, readable
from gmai_vl.evaluation.benchmarks.own import read_own
from gmai_vl.foundation import BadItem, Settings, UserError, canonical_json, load_settings, sha256_of_text
from gmai_vl.sources.entries import READERS

Side = Literal["train", "val", "test", "held_out"]
"""`held_out` has whole datasets that no other side has: what was learnt is asked of pictures of another kind."""

SIDES: tuple[Side, ...] = get_args(Side)


DIFFICULTY = "difficulty.jsonl"
"""Name of the file of estimates in a folder of questions; the questions themselves stay as they are."""

OF_ESTIMATES = (DIFFICULTY, f"answers-{'[0-9a-f]' * 16}.jsonl", f".{DIFFICULTY}.*.tmp")
"""Patterns of what an estimate leaves in a folder of questions, the last of them where it was killed."""


class Difficulty(Settings):
    """How hard a question is for a model that answers it several times."""

    model_sha256: str
    samples: PositiveInt
    right: NonNegativeInt

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0-1."""
        return self.right / self.samples


class About(Settings):
    """What is known of a question beyond its words."""

    corpus: str | None = None
    """Folder of the corpus, from the folder of questions if relative; None for imported questions."""

    fingerprint: str | None = None
    """Of that corpus."""

    case_id: str | None = None
    """Case of that corpus whose annotation the answer rests on."""

    difficulty: Difficulty | None = None
    """None until it was estimated for the question as it stands, put with this prompt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Items:
    """The questions of one side."""

    questions: tuple[Question, ...]
    """Asked with a prompt; their ids begin with `own-`."""

    image: ImageOf
    """Raises UserError where a file cannot be read."""

    about: Mapping[str, About]
    """Id -> what is known of the question."""


def side_file(folder: Path, side: Side) -> Path:
    """Return the file of a side, whether it is there or not."""
    return folder / f"{side}.jsonl"


def read_items(folder: Path, side: Side, prompt: str = "reason") -> Items:
    """Read one side of a folder of questions, asked with a prompt.

    Raises UserError where the file is missing or damaged, or a question has no options.
    """
    file = side_file(folder, side)
    if not file.is_file():
        writes = f"`gmai reason questions CORPUS --out {folder}` writes it where that side has questions"
        raise UserError(f"{file}: no such file; {writes}")
    benchmark = read_own(file, prompt)
    if others := [question.id for question in benchmark.questions if question.kind != "mcq"]:
        raise UserError(f"{file}: `{others[0]}` has no options; questions to reason about are multiple choice")
    difficulty = _difficulty(folder / DIFFICULTY, benchmark.questions)
    about = {}
    for question, row in zip(benchmark.questions, _rows(file), strict=True):
        known = load_settings(About, row.get("about") or {}, f"{file}: {question.id}")
        about[question.id] = known.model_copy(update={"difficulty": difficulty.get(question.id)})
    return Items(questions=benchmark.questions, image=readable(benchmark, folder), about=about)


def asked_sha256(questions: Sequence[Question]) -> str:
    """Return a hash over what is asked; not over the right answers, by which the same answers may be judged anew."""
    return sha256_of_text(canonical_json([[question.id, question.text, question.images] for question in questions]))


def difficulty_line(question: Question, difficulty: Difficulty) -> str:
    """Return the line of a question in the file of estimates."""
    told = {"id": question.id, "question_sha256": _estimated_sha256(question), **difficulty.model_dump()}
    return canonical_json(told) + "\n"


def _estimated_sha256(question: Question) -> str:
    """Return a hash over what an estimate rests on: the question as it is put, and which answer is right."""
    return sha256_of_text(canonical_json([asked_sha256([question]), question.reference]))


def _rows(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a file as the reader of its questions takes them. Raises BadItem where one is no object."""
    rows = []
    for number, row in enumerate(READERS[file.suffix](file, ()), start=1):
        if isinstance(row, BadItem):
            raise BadItem(f"line {number} {row}")
        rows.append(row)
    return rows


def _difficulty(file: Path, questions: Sequence[Question]) -> dict[str, Difficulty]:
    """Return id -> estimate, of the questions that were the same when it was made.

    Nothing where no model was asked. Raises UserError where the file cannot be read.
    """
    if not file.is_file():
        return {}
    now = {question.id: _estimated_sha256(question) for question in questions}
    found = {}
    try:
        for row in _rows(file):
            id, then = str(row.pop("id")), row.pop("question_sha256", None)
            difficulty = load_settings(Difficulty, row, f"{file}: {id}")
            if id in now and then == now[id]:
                found[id] = difficulty
    except (BadItem, OSError, LookupError) as error:
        raise UserError(f"{file}: cannot be read: {error!r}; run `gmai reason difficulty` again") from None
    return found
