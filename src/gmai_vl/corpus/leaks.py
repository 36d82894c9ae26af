"""The leak gate: pictures, patients and questions that stand on both of two sides that must share none.

It knows no corpus and no benchmark. It takes what is shown on each side and tells what the two have in common.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from gmai_vl.corpus.looks import alike_between, stacked

Evidence = Literal["same pixels", "looks the same", "same patient", "same question"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One picture, or one question of text alone, as one side has it."""

    id: str
    """What its side calls it."""

    place: str
    """Corpus or folder that it comes from."""

    pixels: str | None = None
    """Hash of the decoded pixels (`pixel_sha256`)."""

    look: bytes | None = None
    """As `look_of` gives it."""

    patient: str | None = None
    """Patient or study, told so that equal texts mean the same person wherever they stand."""

    question: str | None = None
    """Question and answer of text alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """Something that both sides have."""

    evidence: Evidence
    ours: Shown
    theirs: Shown
    likeness: float | None = None
    """For `looks the same`: 0.88-1."""


def find_leaks(ours: Sequence[Shown], theirs: Sequence[Shown]) -> list[Leak]:
    """Return what is shown on both sides, the strongest evidence first; of one pair only the strongest."""
    leaks = [
        *_equal("same pixels", ours, theirs),
        *_alike(ours, theirs),
        *_equal("same patient", ours, theirs),
        *_equal("same question", ours, theirs),
    ]
    strongest: dict[tuple[str, str, str, str], Leak] = {}
    for leak in leaks:
        pair = (leak.ours.place, leak.ours.id, leak.theirs.place, leak.theirs.id)
        strongest.setdefault(pair, leak)
    return list(strongest.values())


def _equal(evidence: Evidence, ours: Iterable[Shown], theirs: Iterable[Shown]) -> list[Leak]:
    by_key: dict[str, list[Shown]] = defaultdict(list)
    for shown in theirs:
        if key := _key(evidence, shown):
            by_key[key].append(shown)
    return [
        Leak(evidence=evidence, ours=shown, theirs=other)
        for shown in ours
        if (key := _key(evidence, shown))
        for other in by_key.get(key, ())
    ]


def _key(evidence: Evidence, shown: Shown) -> str | None:
    if evidence == "same pixels":
        return shown.pixels
    if evidence == "same patient":
        return shown.patient
    return plain_words(shown.question) if shown.question else None


def _alike(ours: Sequence[Shown], theirs: Sequence[Shown]) -> list[Leak]:
    seen, held = ([shown for shown in side if shown.look is not None] for side in (ours, theirs))
    pairs = alike_between(*(stacked([shown.look for shown in side if shown.look]) for side in (seen, held)))
    leaks = [
        Leak(evidence="looks the same", ours=seen[pair.one], theirs=held[pair.other], likeness=pair.likeness)
        for pair in pairs
    ]
    return sorted(leaks, key=lambda leak: -(leak.likeness or 0.0))


def plain_words(text: str) -> str:
    """Return a text by its words alone: compatible forms made one, lower case, without punctuation and blanks about."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded))
