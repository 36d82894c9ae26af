"""Holds against a case what a text says of the image as such: kind of image, plane; and what no image tells at all."""

import re
from collections.abc import Iterator

from gmai_vl.records import Case
from gmai_vl.vocabulary import Language, branch_of, overlap
from gmai_vl.writing.claims.reading import Reading, Statement, names_of
from gmai_vl.writing.claims.words import patterns_of, words

_JUST_DENIED: dict[Language, re.Pattern[str]] = {
    "en": re.compile(
        r"\b(?:no|not|nor|never|rather than|instead of|isn't|unlike)(?: in)?(?: an?| the| any)?(?: \w+)? ?$"
    ),
    "zh": re.compile("(?:不是|并非|而非|非|不属于)(?:一[幅张])?$"),
}


def frame_faults(reading: Reading, case: Case) -> Iterator[tuple[str, str]]:
    """Yield check and reason for every wrong word about the image, and for what is invented."""
    language = reading.language
    for statement in reading.statements:
        for name, pattern in patterns_of("modalities").items():
            if name == case.modality or _kindred(name, case.modality):
                continue
            for match in pattern.finditer(statement.text):
                inside = any(
                    mention.start <= match.start() and match.end() <= mention.end for mention in statement.mentions
                )
                if not inside and not _is_denied(statement.text[: match.start()], language):
                    yield "modality", f"`{match[0]}`, but this is {case.modality}"
        for name, pattern in patterns_of("planes").items():
            for match in pattern.finditer(statement.text) if name != case.plane else ():
                if not _is_denied(statement.text[: match.start()], language):
                    yield "plane", f"`{match[0]}`, but the plane is {case.plane or 'not known'}"
        yield from _other_body_parts(statement, case)
    own = [name for label in _labels(case, language) for name in label]
    for match in patterns_of("invented")[language].finditer(reading.text):
        if not any(match[0] in name for name in own):
            yield "invented", f"`{match[0]}` is nothing that the annotation tells"


def _other_body_parts(statement: Statement, case: Case) -> Iterator[tuple[str, str]]:
    """Yield where a text says of another body part that it was imaged: "a knee X-ray" of a chest."""
    if case.body_part is None:
        return
    for mention in statement.mentions:
        if branch_of(mention.label) != "body part" or mention.said == "denied":
            continue
        shown = [case.body_part, *(finding.label for finding in case.findings)]
        if any(overlap(mention.label, label) for label in shown):
            continue
        around = statement.text[max(0, mention.start - 20) : mention.end + 12]
        if any(kind.search(around) for kind in patterns_of("modalities").values()):
            yield "labels", f"`{mention.label.en}`, but this is the {case.body_part.en}"


def _is_denied(before: str, language: Language) -> bool:
    """Say whether the kind of image that follows is denied itself: in "nothing is seen on this CT" it is not."""
    return bool(_JUST_DENIED[language].search(before))


def _labels(case: Case, language: Language) -> list[frozenset[str]]:
    return [names_of(label, language) for label in (*case.label_set, *(finding.label for finding in case.findings))]


def _kindred(one: str, other: str | None) -> bool:
    return any(one in group and other in group for group in words()["kindred"])
