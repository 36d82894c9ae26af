"""Holds against a case how many things a text says there are; a number that belongs to nothing is invented."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from scipy.ndimage import label as label_pieces

from gmai_vl.records import Case, Finding
from gmai_vl.vocabulary import Language
from gmai_vl.writing.claims.reading import Statement
from gmai_vl.writing.claims.subjects import Subjects
from gmai_vl.writing.claims.words import numerals

_HARMLESS = re.compile(r"\b[23]d\b|\bt[12](?: weighted)?\b|\bh&e\b|covid 19|\b[tlc]\d{1,2}\b|1/[34]")
_SEVERAL: dict[Language, re.Pattern[str]] = {
    "en": re.compile(
        r"\b(?:several|multiple|numerous|many|various|a few|a couple of|a number of|clusters? of|"
        r"dozens of)\b(?! of the image)"
    ),
    "zh": re.compile(r"多[个枚发处]|数[个枚]|若干|许多|大量|众多|几[个枚]"),
}
_AT_LEAST_THREE = re.compile(r"several|numerous|dozens|数|若干|许多|大量|众多")
_SINGLE: dict[Language, re.Pattern[str]] = {
    "en": re.compile(r"\b(?:a single|single|a solitary|solitary|(?:only|exactly|just) one|one)\b"),
    "zh": re.compile(r"仅有?一|只有一|仅见一|单个|单发|单一|唯一|一个单独|孤立"),
}
_BREAK = re.compile("[,:;]")
_NO_COUNT = re.compile(r"^ (?:of|or|can|may|is|side|third|half|another|end|edge|area|part|image|view|plane)\b")
_THINGS: dict[Language, re.Pattern[str]] = {
    "en": re.compile(
        r"\b(?:lesions?|findings?|cells?|objects?|regions?|areas?|structures?|instances?|organs?|abnormalit(?:y|ies)|"
        r"of them|ones?|nodules?|mass(?:es)?|targets?|items?|instruments?|nuclei|things)\b"
    ),
    "zh": re.compile(r"病灶|病变|细胞|目标|区域|结构|器官|异常|肿块|结节|物体|器械"),
}
_NUMBER_ZH = r"(?P<n>\d+|[零一两二双三四五六七八九十单]{1,2})"


@dataclass(frozen=True, slots=True)
class _Number:
    """A number that a statement gives."""

    start: int
    end: int
    fits: Callable[[int], bool]
    """Whether so many things may be told by it."""


def count_faults(
    text: str, statement: Statement, language: Language, case: Case, subjects: Subjects, *, asked_how_many: bool
) -> Iterator[tuple[str, str]]:
    """Yield check and reason for every number that is not that of the things it counts.

    `text` is that of the statement without its measurements; a number that counts nothing is wrong unless the question
    `asked_how_many`.
    """
    about = subjects.of(statement)
    nouns = _nouns(statement, language, subjects, about)
    for number in _numbers(text, language, asked_how_many):
        counted = _counted(number, text, nouns, language)
        if counted is None and (
            asked_how_many or re.match(r" (?:in (?:total|all|number)|altogether)", text[number.end :])
        ):
            counted = about
        word = text[number.start : number.end]
        if counted is None:
            if word[0].isdigit() and not any(word in text[one.start : one.end] for one in statement.mentions):
                yield "numbers", f"`{word}` is no number of the annotation"
            continue
        there = _number_of(counted, case)
        kinds = len({one.label for one in counted})  # "three of these" may count kinds
        if not (there is not None and number.fits(there)) and not (asked_how_many and number.fits(kinds)):
            yield "count", f"`{word}`, there are {'not known how many' if there is None else there}"


def _numbers(text: str, language: Language, asked: bool) -> Iterator[_Number]:
    for match in _SEVERAL[language].finditer(text):
        least = 3 if _AT_LEAST_THREE.search(match[0]) else 2
        yield _Number(match.start(), match.end(), lambda there, least=least: there >= least)  # type: ignore[misc]
    for match in _SINGLE[language].finditer(text):
        if not _NO_COUNT.match(text[match.end() :]):
            yield _Number(match.start(), match.end(), lambda there: there == 1)
    bare = _HARMLESS.sub(lambda match: " " * len(match[0]), text)
    if language == "en":
        for match in re.finditer(
            rf"\b(?:{'|'.join(numerals('en'))}|\d+(?:\.\d+)?|a pair of|both(?! (?:the |a |an )?[^,.]* and ))\b", bare
        ):
            word = match[0]
            if word != "one":
                value: float = 2 if word in ("a pair of", "both") else numerals("en").get(word, -1)
                yield _exactly(match, float(word) if word[0].isdigit() else value)
        return
    measure = "[个枚处条根块只团颗片项种对]" + ("?" if asked else "")
    for match in re.finditer(f"{_NUMBER_ZH}{measure}|\\d+(?:\\.\\d+)?", bare):
        word = match["n"] or match[0]
        if word == "一" and not asked:
            continue  # 一个 is the article
        value = float(word) if word[0].isdigit() else numerals("zh").get(word, -1)
        yield _exactly(match, 2 * value if match[0].endswith("对") else value)


def _exactly(match: re.Match[str], value: float) -> _Number:
    return _Number(match.start(), match.end(), lambda there: there == value)


_Noun = tuple[int, int, list[Finding]]


def _nouns(statement: Statement, language: Language, subjects: Subjects, about: Sequence[Finding]) -> list[_Noun]:
    """Return start, end and findings of everything in a statement that could be counted."""
    named = [
        (mention.start, mention.end, subjects.findings_of(mention))
        for mention in statement.mentions
        if mention.said != "denied"
    ]
    return named + [
        (match.start(), match.end(), list(about if match[0] in ("of them", "one", "ones") else subjects.about))
        for match in _THINGS[language].finditer(statement.text)
        if not any(start < match.end() and match.start() < end for start, end, _ in named)
    ]


def _counted(number: _Number, text: str, nouns: list[_Noun], language: Language) -> Sequence[Finding] | None:
    """Return what a number counts: what follows closely, in Chinese also what stands right before it."""
    gap = 6 if language == "zh" else 24
    after = [
        noun for noun in nouns if 0 <= noun[0] - number.end <= gap and not _BREAK.search(text[number.end : noun[0]])
    ]
    if after:
        return min(after, key=lambda noun: noun[0])[2]
    before = [noun for noun in nouns if 0 <= number.start - noun[1] <= 4] if language == "zh" else []
    return max(before, key=lambda noun: noun[0])[2] if before else None


def _number_of(findings: Sequence[Finding], case: Case) -> int | None:
    """Return how many things findings are; None where that is not known: labels of the image, masks of many pieces."""
    if not all(one.box for one in findings):
        return None
    lone = len(findings) == 1 and findings[0].mask is not None
    if lone and findings[0].mask is not None and label_pieces(findings[0].mask, structure=[[1, 1, 1]] * 3)[1] > 1:
        return None
    return len(findings)
