"""Questions to reason about, on disk: a folder with a file of multiple-choice questions for each side of the split.

Each file is one of `gmai eval run --benchmark own`: JSON lines with `id`, `question`, `A` to `I`, `answer`, `image`,
`language`, `patient` and columns to give scores by. What only reasoning asks for stands in the object `about`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from gmai_vl.evaluation import Question
from gmai_vl.evaluation.benchmarks.benchmark import ImageOf
from gmai_vl.evaluation.benchmarks.own import read_own
from gmai_vl.foundation import Settings, UserError, load_settings

Side = Literal["train", "val", "test", "held_out"]
"""`held_out` has whole datasets that no other side has: what was learnt is asked of pictures of another kind."""

SIDES: tuple[Side, ...] = get_args(Side)


DIFFICULTY = "difficulty.jsonl"
"""Name of the file of estimates in a folder of questions; the questions themselves stay as they are."""


class Difficulty(Settings):
    """How hard a question is for a model that answers it several times."""

    model_sha256: str
    samples: int
    right: int

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
    """None until it was estimated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Items:
    """The questions of one side."""

    questions: tuple[Question, ...]
    """Asked with a prompt; their ids begin with `own-`."""

    image: ImageOf
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
    difficulty = _difficulty(folder / DIFFICULTY)
    about = {}
    for row in _rows(file):
        known = load_settings(About, row.get("about", {}), f"{file}: {row['id']}")
        id = f"own-{row['id']}"
        about[id] = known.model_copy(update={"difficulty": difficulty.get(id)})
    return Items(questions=benchmark.questions, image=benchmark.image, about=about)


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]


def _difficulty(file: Path) -> dict[str, Difficulty]:
    """Return id -> estimate; none where no model was asked. Raises UserError where the file cannot be read."""
    if not file.is_file():
        return {}
    try:
        rows = _rows(file)
        return {row.pop("id"): load_settings(Difficulty, row, str(file)) for row in rows}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: cannot be read: {error!r}; run `gmai reason difficulty` again") from None
