"""Reads yes and no as what they say: that the statement of a closed question is so, or that it is not."""

import re
from collections.abc import Iterator, Sequence

from gmai_vl.records import Finding
from gmai_vl.vocabulary import Language
from gmai_vl.writing.claims.labels import means
from gmai_vl.writing.claims.reading import Reading
from gmai_vl.writing.claims.relations import tells_relation
from gmai_vl.writing.claims.statements import statement_faults
from gmai_vl.writing.claims.subjects import Subjects
from gmai_vl.writing.claims.words import pattern, patterns_of, plain_text
from gmai_vl.writing.facts import NO_FINDING, is_normal
from gmai_vl.writing.verify_facts import MeasuredCase

_CLOSED: dict[Language, re.Pattern[str]] = {
    "en": re.compile(
        r"^(?:[^,?]*, )?"
        r"(?:(?:is|are|was|were|does|do|did|can|could|has|have|may|might|would|will)(?:n't)?|can't|am i|any)\b"
        r"(?!.*\bor\b)|\bis (?:this|that) (?:correct|right|true|so)\?"
    ),
    "zh": re.compile("吗[?？]?$|是否|有没有|有无|是不是|能否|可否"),
}
_IS_IMAGE = re.compile(r"^(?:is|was) (?:this|it|that|the (?:image|picture))\b|^这是|^该图")
_NOT_PLAIN = re.compile(
    r"\b(?:no|not|same|anything|any other|normal|healthy|unremarkable|wrong)\b|n't\b|"
    r"没有[^吗]*吗|异常|正常|相同|不是[^吗]*吗"
)
_COMPARES = re.compile(
    r"\bthan\b|\bmore\b|\bfewer\b|\bexceed\w*|\boutnumber\w*|\b\w+est of\b|[大小多少高低]于|超过|只占|更|相比"
)
"""Denials and comparisons: what yes and no mean there is read in the following cases only."""

_DENIES_PLAINLY = re.compile(
    r"\b(?:lacks?|free (?:of|from)|absent|without|devoid of|true that (?:there (?:is|are) )?no)\b"
)
_CONTRASTS = re.compile(r",? (?:and |but )?not (?=an? |the )|\brather than\b|\bas opposed to\b")
_ASKS_HEALTH: dict[bool, re.Pattern[str]] = {
    True: re.compile(r"\b(?:normal|healthy|unremarkable)\b|正常|(?:未见|没有|无)(?:任何|明显)?异常"),
    False: re.compile(
        r"\babnormal\b|\bany(?:thing)? (?:wrong|abnormalit(?:y|ies)|findings?|lesions?|diseases?)\b|"
        r"(?<!未见)(?<!没有)(?<!无)(?<!任何)(?<!明显)异常"
    ),
}
"""What a closed question asks for: that all is well (True), or that something is not."""

_DENIES = re.compile(r"\bnot?\b|n't\b|不是")

_ASKS_TELLABLE = re.compile(
    r"\b(?:is|are) (?:there|this|it|these)\b|"
    r"\b(?:show|shows|visible|seen|present|contain|have|has|detect\w*|depict\w*|classified|called|correct)\b|"
    r"\b(?:left|right|upper|lower|center|top|bottom|large|small|tiny|more than|single|one|two|three)\b|"
    r"是否|有没有|吗|有无|可见|左|右|上|下|大|小|中央"
)
"""Questions whose answer an annotation tells: whether, where, how many, how large."""


def is_open(question: str, language: Language) -> bool:
    """Say whether a question cannot be answered with yes or no."""
    return not _CLOSED[language].search(plain_text(question))


def yes_or_no_faults(
    asked: Reading, answer: Reading, case: MeasuredCase, about: Sequence[Finding], *, region: bool
) -> Iterator[tuple[str, str]]:
    """Read yes as the statement that a closed question makes, and no as that it is wrong.

    No is held only against what an annotation tells: not in answer to "Is its margin smooth?". Where a question denies
    or compares in a way that is not read, neither yes nor no passes.
    """
    language = answer.language
    says_yes = bool(pattern(language, "says_yes").search(answer.text))
    says_no = not says_yes and bool(pattern(language, "says_no").search(answer.text))
    if not (says_yes or says_no) or is_open(asked.text, language):
        return
    if (healthy := _asks_health(asked, case)) is not None and not region:
        if healthy != says_yes:
            yield "closed", f"`{answer.text[:20]}`, but {'nothing' if not case.findings else 'something'} is found"
        return
    subjects = Subjects(language, case.findings, about)
    is_compared = any(tells_relation(statement, language, subjects) for statement in asked.statements)
    denies = _DENIES_PLAINLY.search(asked.text)
    plain = _CONTRASTS.sub(" ", _DENIES_PLAINLY.sub(" ", asked.without_names))
    if _NOT_PLAIN.search(plain) or (_COMPARES.search(plain) and not is_compared):
        yield "closed", "whether yes or no is right cannot be read: ask without denial and comparison"
        return
    left_out = ("invented",) if denies else ("invented", "denied", "unsupported")
    wrong = [
        fault for fault in statement_faults(asked, case, about, subjects, region=region) if fault[0] not in left_out
    ]
    if says_yes:
        yield from wrong
    elif not wrong and (denies or is_compared or _can_be_told(asked, case)):
        yield "denied", "no, but it is so"


def _asks_health(asked: Reading, case: MeasuredCase) -> bool | None:
    """Return whether yes is right to a question if all is well, or if anything is wrong.

    None for other questions, and where the annotation does not tell: of organs alone, or of "no melanoma".
    """
    named = [
        mention for mention in asked.mentions if mention.known and mention.label not in (case.body_part, case.negative)
    ]
    kinds = [well for well, words in _ASKS_HEALTH.items() if words.search(asked.text)]
    if named or len(kinds) != 1 or _DENIES.search(asked.text):
        return None
    if case.findings and all(is_normal(finding.label) for finding in case.findings):
        return None
    called = case.negative.en.lower() if case.negative else ""
    if not case.findings and case.negative != NO_FINDING and not _ASKS_HEALTH[True].search(called):
        return None
    return kinds[0] is not bool(case.findings)


def _can_be_told(asked: Reading, case: MeasuredCase) -> bool:
    """Say whether an annotation tells if what a question asks for is so."""
    about_image = any(kind.search(asked.text) for kind in patterns_of("modalities").values())
    of_labels = any(
        means(mention, finding.label, asked.language) for mention in asked.mentions for finding in case.findings
    )
    if about_image and _IS_IMAGE.search(asked.text):
        return True
    return of_labels and _ASKS_TELLABLE.search(asked.text) is not None
