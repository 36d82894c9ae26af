"""Holds against a case how a text says that two things lie to each other, or which of them is larger."""

import re
from collections.abc import Iterator

from gmai_vl.records import Case, Finding
from gmai_vl.vocabulary import Language
from gmai_vl.writing.claims.reading import Reading, Statement, said_at
from gmai_vl.writing.claims.subjects import Subjects, relation_at

_CHOICE: dict[Language, re.Pattern[str]] = {
    "en": re.compile(
        r"\b(?:which|what)\b[^?]*\b(larger|bigger|smaller|higher|lower|more numerous|more frequent|fewer)\b"
    ),
    "zh": re.compile("哪(?:个|一个|种|一种|者|一者)[^?]{0,6}?(大|小|多|少|高|低)(?!小)"),
}
_KINDS = {
    "larger": ("larger", "bigger", "大"),
    "smaller": ("smaller", "小"),
    "higher": ("higher", "高"),
    "lower": ("lower", "低"),
    "more": ("more numerous", "more frequent", "多"),
    "fewer": ("fewer", "少"),
}


def choice_faults(asked: Reading, answer: Reading, case: Case, subjects: Subjects) -> Iterator[tuple[str, str]]:
    """Yield where an answer chooses the wrong one of two things: "Which is larger?" "The spleen"."""
    match = _CHOICE[answer.language].search(asked.without_names)
    chosen = [one for mention in answer.mentions if mention.said == "affirmed" for one in subjects.findings_of(mention)]
    offered = [one for mention in asked.mentions for one in subjects.findings_of(mention)] or list(subjects.known)
    rivals = [one for one in offered if one not in chosen]
    if match is None or not chosen or not rivals:
        return
    kind = next(kind for kind, names in _KINDS.items() if match[1] in names)
    if kind in ("more", "fewer"):
        fits = len(chosen) > len(rivals) if kind == "more" else len(chosen) < len(rivals)
    elif any(one.box is None or one.area_share is None for one in (*chosen, *rivals)):
        return
    else:
        fits = all(any(_related(one, rival, kind, "", case) for one in chosen) for rival in rivals)
    if not fits:
        yield "relation", f"`{match[1]}` is another"


def relation_faults(
    text: str, statement: Statement, language: Language, case: Case, subjects: Subjects
) -> tuple[str, list[tuple[str, str]]]:
    """Return the text without its relations, and the faults among them."""
    faults = []
    for index, mention in enumerate(statement.mentions):
        others = subjects.findings_of(mention)
        if not others:
            continue
        matched = relation_at(text, mention.start, mention.end, language)
        if matched is None:
            continue
        start, end, kind, word = matched
        firsts = [one for earlier in statement.mentions[:index] for one in subjects.findings_of(earlier)]
        laters = [one for later in statement.mentions[index + 1 :] for one in subjects.findings_of(later)]
        ones = firsts or laters or [one for one in subjects.before if one not in others]
        if kind == "surrounds" and not firsts:
            continue  # "this region encloses the spleen"
        denied = said_at(statement, start, start, language) == "denied"
        if ones and kind in ("more", "fewer"):
            holds = len(ones) > len(others) if kind == "more" else len(ones) < len(others)
            if holds == denied:
                faults.append(("relation", f"`{statement.text[start:end].strip()}` is not how many there are"))
        elif ones:
            holds = any(_related(one, other, kind, word, case) for one in ones for other in others if one is not other)
            if holds == denied:
                faults.append(("relation", f"`{statement.text[start:end].strip()}` is not how they lie"))
        text = text[:start] + "\ue000" * (end - start) + text[end:]
    return text, faults


def tells_relation(statement: Statement, language: Language, subjects: Subjects) -> bool:
    """Say whether a statement holds something against a finding in a way that is read."""
    return any(
        relation_at(statement.text, mention.start, mention.end, language) is not None
        for mention in statement.mentions
        if subjects.findings_of(mention)
    )


def _related(one: Finding, other: Finding, kind: str, word: str, case: Case) -> bool:
    if kind in ("larger", "smaller", "equal"):
        if one.area_share is None or other.area_share is None or one.box is None or other.box is None:
            return False
        ratio = one.area_share / other.area_share
        return ratio > 1 if kind == "larger" else ratio < 1 if kind == "smaller" else 0.8 < ratio < 1.25
    if one.box is None or other.box is None:
        return False
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = one.box, other.box
    right, down = (ax1 + ax2 - bx1 - bx2) / 2, (ay1 + ay2 - by1 - by2) / 2
    anterior = {"axial": -down, "sagittal": -right}.get(str(case.plane))
    within = bx1 - 2 <= ax1 and ax2 <= bx2 + 2 and by1 - 2 <= ay1 and ay2 <= by2 + 2
    around = ax1 - 2 <= bx1 and bx2 <= ax2 + 2 and ay1 - 2 <= by1 and by2 <= ay2 + 2
    gap = max(ax1 - bx2, bx1 - ax2, ay1 - by2, by1 - ay2)
    vertical = word in ("superior to", "inferior to", "cranial to", "caudal to", "cephalad to")
    if vertical and case.plane == "axial":
        return False
    aside = right < 0 if word in ("left", "左") else right > 0
    return {
        "side": aside,
        "further": aside,
        "above": down < 0,
        "higher": down < 0,
        "below": down > 0,
        "lower": down > 0,
        "anterior": anterior is not None and anterior > 0,
        "posterior": anterior is not None and anterior < 0,
        "inside": within,
        "surrounds": around,
        "overlaps": gap < 0,
        "touches": gap <= 0.05 * max(case.width, case.height),
    }[kind]
