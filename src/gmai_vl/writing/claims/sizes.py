"""Holds against a case how large a text says a thing is, and of what degree."""

import re
from collections.abc import Iterator

from gmai_vl.vocabulary import Language
from gmai_vl.writing.claims.reading import Statement, names_of, said_at
from gmai_vl.writing.claims.subjects import Subjects

_PART = re.compile(
    r" (?:fraction|share|part|portion|area) of (?:the|this) (?:whole |entire )?(?:image|picture|frame|field|view)\b"
)

_SUPERLATIVE = re.compile(
    r"\b(?:is|are) the (?:largest|biggest|smallest)\b|\bthe (?:largest|biggest|smallest)(?: one)? is\b"
)

_SMALL_BELOW, _LARGE_FROM = 0.04, 0.06
"""Shares of the image between which a thing may be called small or large: only clear cases count."""

_SIZES = {
    "en": {
        "small": re.compile(r"(?<!how )\b(?:small|tiny|minute|little|diminutive)\b"),
        "large": re.compile(r"(?<!how )\b(?:large|huge|big|extensive|sizeable|sizable|massive|enormous|giant)\b"),
    },
    "zh": {
        "small": re.compile("较小|很小|微小|小型|细小|小的|极小|小(?=息肉|结节|肿瘤|肿块|病灶|囊肿)"),
        "large": re.compile("较大|很大|巨大|大型|大的|大片|大(?=息肉|结节|肿瘤|肿块|病灶|囊肿)"),
    },
}
_DEGREE = {
    "en": re.compile(
        r"(?<!how )\b(mild|moderate|severe|advanced|(?:poorly|moderately|well) differentiated|"
        r"(?:grade|stage) (?!(?:of|is|for|the|this)\b)\w+|early stage|late stage|proliferative)\b"
    ),
    "zh": re.compile("(轻度|中度|重度|低分化|中分化|高分化|晚期|早期|严重)"),
}
_ONLY_DEGREE = {
    "en": re.compile(
        r"(?:^(?:yes, |no, )?|\b(?:is|are|only|just|appears|looks) )(mild|moderate|severe|proliferative)(?=[.,;!]|$)|"
        r"^(?:is|are) [^?]* (mild|moderate|severe|proliferative)(?=\?)"
    ),
    "zh": re.compile("(?:^|为|是|属于|属|处于|呈)(轻度|中度|重度)(?=[,。.;]|$)"),
}
"""A degree that stands alone: it is said of what the text, or its question, speaks of."""


def size_faults(statement: Statement, language: Language, subjects: Subjects) -> Iterator[tuple[str, str]]:
    """Yield check and reason for every size or degree that is clearly not that of what it is said of."""
    yield from _sizes(statement, language, subjects)
    yield from _degrees(statement, language, subjects)
    yield from _superlatives(statement, language, subjects)


def _sizes(statement: Statement, language: Language, subjects: Subjects) -> Iterator[tuple[str, str]]:
    for size, pattern in _SIZES[language].items():
        for match in pattern.finditer(statement.text):
            near = [
                mention
                for mention in statement.mentions
                if mention.said != "denied" and _belongs(statement.text, match, mention.start, mention.end, language)
            ]
            found = [one for mention in near for one in subjects.findings_of(mention) if one in subjects.about]
            if len(found) > 1 and match[0] in ("较大", "较小"):
                continue  # of several, the larger
            if (
                not near
                and language == "en"
                and re.search(r"\b(?:is|are|it|appears|looks)\b[^,]*$", statement.text[: match.start()])
            ):
                after = statement.text[match.end() :].strip(" .!")
                found = (
                    list(subjects.of(statement))
                    if not after or after.startswith(("in ", "and ", ", ", "compared", "relative", "size"))
                    else []
                )
            if _PART.match(statement.text[match.end() :]):
                found = subjects.of(statement)
            if not found:
                continue
            shares = [one.area_share for one in found if one.area_share is not None and one.box]
            fine = any(share < _SMALL_BELOW if size == "small" else share > _LARGE_FROM for share in shares)
            if not fine:
                yield "size", f"`{match[0]}` is not its size"


def _belongs(text: str, match: re.Match[str], start: int, end: int, language: Language) -> bool:
    if 0 <= start - match.end() <= (3 if language == "zh" else 22):
        between = text[match.end() : start]
        return not re.search(r",|\b(?:of|in|part|portion|area|and|vessels?|number)\b|部分|范围", between)
    between = text[end : match.start()]
    return 0 <= match.start() - end <= (12 if language == "zh" else 30) and bool(
        re.fullmatch(
            r" (?:is|are|appears|looks|seems)(?: to be| relatively| quite| rather| very| fairly)* |"
            r"[的,，为是显得相对体积范围面所占比例在图像中整幅]*",
            between,
        )
    )


def _superlatives(statement: Statement, language: Language, subjects: Subjects) -> Iterator[tuple[str, str]]:
    """Yield where a text calls a thing the largest or smallest of all that is not."""
    areas = [one.area_share for one in subjects.known if one.box and one.area_share is not None]
    if language != "en" or len(areas) < 2:
        return
    for match in _SUPERLATIVE.finditer(statement.text):
        named = [mention for mention in statement.mentions if abs(mention.end - match.start()) <= 6]
        named += [mention for mention in statement.mentions if 0 <= mention.start - match.end() <= 8]
        found = [one for mention in named[:1] for one in subjects.findings_of(mention)]
        best = min(areas) if "small" in match[0] else max(areas)
        if found and not any(one.area_share == best for one in found):
            yield "size", f"`{match[0]}` is another"


def _degrees(statement: Statement, language: Language, subjects: Subjects) -> Iterator[tuple[str, str]]:
    """Yield degrees of a finding that neither its label nor its grade names."""
    for match in _DEGREE[language].finditer(statement.text):
        if any(mention.start <= match.start() < mention.end for mention in statement.mentions):
            continue
        near = [
            mention
            for mention in statement.mentions
            if mention.said != "denied" and 0 <= mention.start - match.end() <= (2 if language == "zh" else 18)
        ]
        found = [one for mention in near for one in subjects.findings_of(mention)]
        names = [name for one in found for name in names_of(one.label, language)]
        if found and not any(match[0] in name for name in names):
            yield "grade", f"`{match[0]}` is no degree of the annotation"
    for match in _ONLY_DEGREE[language].finditer(statement.text):
        degree = match[1] or match[2]
        if said_at(statement, match.start(), match.end(), language) == "denied":
            continue
        graded = [names_of(one.label, language) for one in subjects.of(statement)]
        graded = [names for names in graded if any(_DEGREE[language].search(name) for name in names)]
        if graded and not any(degree in name for names in graded for name in names):
            yield "grade", f"`{degree}` is no degree of the annotation"
