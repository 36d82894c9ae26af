"""Verdicts on disk: what became of each question of a run, so that runs can be compared without the benchmark."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, ValidationError

from gmai_vl.evaluation.score import FIELDS, Judged
from gmai_vl.foundation import Settings, UserError, canonical_json, write_text

VERDICTS = "verdicts.jsonl"
"""Name of the file in a run's folder."""


class SavedVerdict(Settings):
    """One question of a run."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: str
    correct: bool
    unparsed: bool
    text: str
    """What was read out of the response."""

    patient: str
    """What answers may be alike within."""

    groups: dict[str, str]
    """What scores are given by: name -> value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """Two runs over the same questions, in one order."""

    one: tuple[SavedVerdict, ...]
    other: tuple[SavedVerdict, ...]


def write_verdicts(path: Path, judged: Sequence[Judged]) -> None:
    """Write a line for each question, in order."""
    write_text(path, "".join(canonical_json(_verdict(entry).model_dump()) + "\n" for entry in judged))


def _verdict(entry: Judged) -> SavedVerdict:
    question = entry.question
    fields = {name: getattr(question, name) for name in FIELDS}
    return SavedVerdict(
        id=question.id,
        correct=entry.correct,
        unparsed=entry.unparsed,
        text=entry.text,
        patient=canonical_json(list(question.patient)),
        groups={name: value for name, value in (fields | dict(question.labels)).items() if value is not None},
    )


def read_verdicts(run: Path) -> dict[str, SavedVerdict]:
    """Return id -> verdict of a run's folder. Raises UserError where there are none, or a line is none."""
    path = run / VERDICTS
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: cannot be read; `gmai eval run` or `gmai eval score --out` writes it") from None
    verdicts: dict[str, SavedVerdict] = {}
    for number, line in enumerate(lines, start=1):
        try:
            verdict = SavedVerdict(**json.loads(line))
        except (ValueError, TypeError, ValidationError):
            raise UserError(f"{path}:{number}: is no verdict; score the run anew") from None
        verdicts[verdict.id] = verdict
    return verdicts


def paired(one: Path, other: Path) -> Paired:
    """Return the verdicts of two runs on the same questions.

    Raises UserError where one has questions that the other lacks: a difference over other questions says nothing.
    """
    a, b = read_verdicts(one), read_verdicts(other)
    if missing := sorted(a.keys() ^ b.keys()):
        lacking = other if missing[0] in a else one
        raise UserError(
            f"{lacking}: lacks {len(missing)} of the questions of the other run or has more, the first is "
            f"`{missing[0]}`; compare runs over the same questions"
        )
    if not a:
        raise UserError(f"{one}: holds no verdicts")
    return Paired(one=tuple(a.values()), other=tuple(b[id] for id in a))
