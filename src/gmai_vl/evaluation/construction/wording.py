"""Questions put into words: by granularity and clinical task, in the languages of the corpus."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from gmai_vl.evaluation.construction.balance import Choice
from gmai_vl.evaluation.construction.subjects import Cell
from gmai_vl.evaluation.prompts import turns_of
from gmai_vl.foundation import stable_fraction
from gmai_vl.vocabulary import Language


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A question of the benchmark, in words."""

    choice: Choice
    language: Language
    question: str

    options: dict[str, str]
    """Letter -> text, A to at most E."""

    @property
    def id(self) -> str:
        """16 hexadecimal digits."""
        return self.choice.id

    @property
    def cell(self) -> Cell:
        """Where it stands in the table."""
        return self.choice.candidate.cell

    @property
    def answer(self) -> str:
        """Letter of the right option."""
        return self.choice.answer


def item_of(choice: Choice, languages: Mapping[Language, float], seed: int) -> Item:
    """Put a choice into words; English where one of its labels has no Chinese name."""
    cell = choice.candidate.cell
    language = _language(choice, languages, seed)
    return Item(
        choice=choice,
        language=language,
        question=question_of(cell, language),
        options={letter: label.in_language(language) for letter, label in choice.options.items()},
    )


def question_of(cell: Cell, language: Language) -> str:
    """Return the question of a cell; all questions of one cell are equal."""
    words = _words()[language]
    task = words["tasks"][cell.clinical_task]
    pattern: str = (task.get("image") if cell.granularity == "image" else None) or words[cell.granularity]
    return pattern.format(thing=task["thing"])


def blind_line(item: Item) -> dict[str, Any]:
    """Return the question without its image, as messages: what a model is asked that cannot look."""
    (turn,) = turns_of("direct", item.question, item.options, "mcq", item.language, images=0)
    return {"id": item.id, "messages": [{"role": turn.role, "content": [{"type": "text", "text": turn.text}]}]}


def _language(choice: Choice, languages: Mapping[Language, float], seed: int) -> Language:
    """Choose a language by its share, by seed and id alone."""
    if any(label.zh is None for label in choice.options.values()):
        return "en"
    shares = {language: share for language, share in sorted(languages.items()) if share > 0} or {"en": 1.0}
    left = stable_fraction(seed, "language", choice.id) * sum(shares.values())
    for language, share in shares.items():
        if left < share:
            return language
        left -= share
    return language


@cache
def _words() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(
        (files("gmai_vl.evaluation.construction") / "wording.yaml").read_text(encoding="utf-8")
    )
    return content
