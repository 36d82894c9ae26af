"""What can be answered without looking: by a model that saw no image, and by who knows the training labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmai_vl.evaluation.answers.extraction import extract, is_correct
from gmai_vl.evaluation.construction.wording import Item
from gmai_vl.evaluation.predictions import read_predictions
from gmai_vl.foundation import UserError, sha256_of_file


@dataclass(frozen=True, slots=True)
class Blind:
    """What a model said to the questions without their images."""

    sha256: str
    """Of the file of its answers."""

    right: frozenset[str]
    """Ids that it answered right."""


def read_blind(path: Path, items: Sequence[Item]) -> Blind:
    """Judge the answers in `path` (JSON lines `{"id", "response"}`) to `items`, by the rules that models are scored by.

    Raises UserError unless every item has an answer and every answer an item.
    """
    responses = read_predictions(path)
    if missing := [item.id for item in items if item.id not in responses]:
        raise UserError(
            f"{path}: {len(missing)} of {len(items)} questions have no answer, the first is `{missing[0]}`; answer "
            "every line of blind.jsonl, and build with the options that gave it"
        )
    if unknown := responses.keys() - {item.id for item in items}:
        raise UserError(
            f"{path}: {len(unknown)} ids are no questions of this build, the first is `{min(unknown)}`; build with "
            "the corpus and the options that gave blind.jsonl"
        )
    right = frozenset(item.id for item in items if _is_right(item, responses[item.id]))
    return Blind(sha256_of_file(path), right)


def _is_right(item: Item, response: str) -> bool:
    extracted = extract("mcq", item.question, item.options, response)
    return is_correct("mcq", item.question, item.options, item.answer, extracted)


def chance(items: Sequence[Item]) -> float:
    """Return the expected share right of a blind draw among the options."""
    return sum(1 / len(item.options) for item in items) / len(items)


def majority(items: Sequence[Item], train: Mapping[str, int]) -> tuple[str, float] | None:
    """Return the label most often right in train, and the share right of always giving the likeliest option.

    `items` are those of one cell, `train` counts its training questions by their right label, in English. The likeliest
    option is the one right most often in train; ties go to the first in the alphabet. None where train has no question
    of the cell.
    """
    if not any(train.values()):
        return None
    counts = Counter(train)
    most = min(counts, key=lambda label: (-counts[label], label))
    right = 0
    for item in items:
        labels = [label.en for label in item.choice.options.values()]
        right += min(labels, key=lambda label: (-counts[label], label)) == item.choice.label.en
    return most, right / len(items)
