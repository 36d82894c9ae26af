"""Reads a free text: its statements, the names in them, and whether each is affirmed, left open or denied."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from gmai_vl.records import Case
from gmai_vl.vocabulary import Language, Term, all_terms, synonyms
from gmai_vl.writing.claims.words import pattern, patterns_of, plain_text, words
from gmai_vl.writing.phrases import plural

Said = Literal["affirmed", "hedged", "denied"]

_MARKED = re.compile(r"<ref>([^<>]*)</ref>|<box>[^<>]*</box>")
_SENTENCE_END = re.compile(r"(?<=[.!?。；;])(?!\d)\s*")
_YES_NO = re.compile(r"(?:yes|no)[,:]\s*|(?:是|否|是的|不是|没有|有)[,]")
_COMMA = re.compile(r",\s*(?:and |so |or )?|\s+and (?=the |a |an |there |it |they |its |no )")


@dataclass(frozen=True, slots=True)
class Mention:
    """A name in a text."""

    label: Term
    start: int
    end: int
    said: Said
    known: bool
    """Whether the name is one of the vocabulary or of the case; otherwise it only ends like a disease."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A part of a sentence that says one thing."""

    text: str
    sentence: int
    """Number of its sentence."""

    mentions: tuple[Mention, ...]
    """In their order; places count within `text`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A whole text, read."""

    language: Language
    text: str
    """Without markup, made plain."""

    statements: tuple[Statement, ...]

    @property
    def mentions(self) -> list[Mention]:
        """All names in the text, in their order."""
        return [mention for statement in self.statements for mention in statement.mentions]

    @property
    def without_names(self) -> str:
        """The text with stars for the names in it: "normal colon mucosa" says nothing of being normal."""
        texts = []
        for statement in self.statements:
            text = statement.text
            for mention in statement.mentions:
                text = text[: mention.start] + "*" * (mention.end - mention.start) + text[mention.end :]
            texts.append(text)
        return " ".join(texts)


def read(text: str, language: Language, case: Case) -> Reading:
    """Read a text about `case`; the labels of the case come before the vocabulary."""
    plain = plain_text(_MARKED.sub(lambda match: match[1] or " ", text))
    names = _names(_own_labels(case), language)
    statements = []
    for number, sentence in enumerate(filter(str.strip, _SENTENCE_END.split(plain))):
        for part in _parts(sentence, language):
            statements.append(Statement(part, number, _mentions(part, language, names)))
    return Reading(language, plain, tuple(statements))


def names_of(label: Term, language: Language) -> frozenset[str]:
    """Return what a label may be called, made plain; in English with plurals."""
    if language == "zh" and label.zh is None:
        return frozenset()
    more: list[str] = words()["names"].get(label.en.lower(), [])
    own = [name for name in more if name.isascii() == (language == "en")]
    found = {plain_text(name) for name in (label.in_language(language), *synonyms(label, language), *own)}
    if language == "en":
        found |= {turned for name in found if (turned := _turned(name))}
        found |= {plural(name) for name in found}
    return frozenset(found)


def says(label: Term, text: str, language: Language) -> bool:
    """Say whether a text names a label, or a kind of image, by one of its names."""
    plain = plain_text(text)
    if (kind := patterns_of("modalities").get(label.en)) is not None:
        return kind.search(plain) is not None
    edge = r"\b" if language == "en" else ""
    return any(re.search(f"{edge}{re.escape(name)}{edge}", plain) for name in names_of(label, language))


def _turned(name: str) -> str | None:
    """Return "cyst of the liver" for "liver cyst"; None for one word, or for names with an "of"."""
    parts = name.split()
    return None if not 2 <= len(parts) <= 3 or "of" in parts else f"{parts[-1]} of the {' '.join(parts[:-1])}"


def _own_labels(case: Case) -> tuple[Term, ...]:
    labels = (
        *(finding.label for finding in case.findings),
        case.negative,
        *case.label_set,
        *case.severity,
        case.body_part,
    )
    return tuple(dict.fromkeys(label for label in labels if label is not None))


@lru_cache(maxsize=256)
def _names(own: tuple[Term, ...], language: Language) -> tuple[dict[str, Term], re.Pattern[str]]:
    """Return name -> label for a case, and a pattern of all names, the longest first."""
    meant: dict[str, Term] = {}
    for label in (*own, *all_terms()):
        for name in names_of(label, language):
            meant.setdefault(name, label)
    longest_first = sorted(meant, key=len, reverse=True)
    if language == "en":
        return meant, re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")
    return meant, re.compile("|".join(map(re.escape, longest_first)))


def _parts(sentence: str, language: Language) -> Iterable[str]:
    """Cut a sentence where a new statement begins: at "but", and at commas between two parts that have verbs."""
    turns = pattern(language, "turns")
    if answer := _YES_NO.match(sentence):
        yield answer[0]
        sentence = sentence[answer.end() :]
    for piece in _cut_before(sentence, [match.start() for match in turns.finditer(sentence)]):
        if language == "zh":
            yield from filter(str.strip, piece.split(","))
            continue
        verb, start = pattern("en", "verb"), 0
        commas = list(_COMMA.finditer(piece))
        for index, comma in enumerate(commas):
            end = commas[index + 1].start() if index + 1 < len(commas) else len(piece)
            if verb.search(piece[start : comma.start()]) and verb.search(piece[comma.end() : end]):
                yield piece[start : comma.start()]
                start = comma.end()
        yield piece[start:]


def _cut_before(text: str, places: list[int]) -> list[str]:
    edges = [0, *places, len(text)]
    return [piece for one, other in pairwise(edges) if (piece := text[one:other]).strip()]


def _mentions(text: str, language: Language, names: tuple[dict[str, Term], re.Pattern[str]]) -> tuple[Mention, ...]:
    meant, any_name = names
    found: list[tuple[int, int, Term, bool]] = []
    for match in any_name.finditer(text):
        found.append((match.start(), match.end(), meant[match[0]], True))
    covered = [(start, end) for start, end, _, _ in found]
    for match in pattern(language, "disease").finditer(text):
        inside = any(start < match.end() and match.start() < end for start, end in covered)
        if not inside and not pattern(language, "plain").search(match[0]):
            found.append((match.start(), match.end(), Term(match[0], match[0]), False))
    return tuple(
        Mention(label, start, end, _said(text, start, end, language), known)
        for start, end, label, known in sorted(found, key=lambda entry: entry[0])
    )


def _said(text: str, start: int, end: int, language: Language) -> Said:
    """Tell whether what stands at a place of a statement is affirmed, left open or denied."""
    before, after = text[:start], text[end:]
    doubted = bool(pattern(language, "doubt").search(text))
    before = pattern(language, "affirms").sub(" ", pattern(language, "doubt").sub(" ", before))
    after = pattern(language, "doubt").sub(" ", after)
    denials = list(pattern(language, "denies").finditer(before))
    # "An image without effusion that shows pneumonia": what is shown is not denied.
    if denials and not pattern(language, "resets").search(before, denials[-1].end()):
        return "denied"
    if pattern(language, "denied_after").search(after):
        return "denied"
    if doubted or pattern(language, "hedges").search(text):
        return "hedged"
    return "affirmed"


def said_at(statement: Statement, start: int, end: int, language: Language) -> Said:
    """Tell whether the words at a place of a statement are affirmed, left open or denied."""
    return _said(statement.text, start, end, language)
