"""Holds the names in a text against the labels of a case: what is said to be there, or not to be there, must be so."""

import re
from collections.abc import Iterable, Iterator, Sequence

from gmai_vl.records import Case, Finding
from gmai_vl.vocabulary import Language, Term, branch_of, is_within, overlap
from gmai_vl.writing.claims.reading import Mention, Reading, Statement, names_of, said_at
from gmai_vl.writing.claims.words import pattern
from gmai_vl.writing.facts import NORMAL_BRANCHES, is_normal

_NEAR: dict[Language, re.Pattern[str]] = {
    "en": re.compile(
        r"\b(?:near|beside|next to|adjacent to|close to|around|from|above|below|than|between|touch\w*|"
        r"overlap\w*|behind|over|"
        r"under|inside|within|contact with|(?:left|right|front|side) of|(?:ant|post|super|"
        r"infer)ior to|surround\w*(?: by)?|"
        r"unlike|abut\w*|border\w*|toward\w*)(?: the| a| an)? $"
    ),
    "zh": re.compile(r"(?:近|旁|邻|周围|与|和|在|于|被|比|距|位于|从|由|紧贴|靠)(?:着)?$"),
}
"""What stands before the name of another thing that places this one by it."""

_NOT_SO = re.compile(r"(?:\bnot|n't|\bnothing|不|非)(?: \w+){0,2} ?$")
"""Right before the label that says that nothing is there."""

_ASKED_FOR = re.compile(r"\b(?:which|what)(?: \w+)? \*[^?]*\?$")
"""A question for lesions, the star: there may be none."""

_EITHER = {"en": (("benign", "malignant"),), "zh": (("良性", "恶性"),)}
"""Words of which an annotation gives one, or none."""


def label_faults(reading: Reading, case: Case, about: Sequence[Finding], *, region: bool) -> Iterator[tuple[str, str]]:
    """Yield check and reason for every name that the annotation of `case` does not bear out.

    `about` are the findings spoken of; of a `region` the other findings of the case may only be neighbours.
    """
    own = [finding.label for finding in about]
    true = [*own, *([case.body_part] if case.body_part else [])]
    others = [finding.label for finding in case.findings if finding.label not in own]
    for statement in reading.statements:
        for mention in statement.mentions:
            yield from _mention_faults(mention, statement, reading.language, case, true, others, region=region)
        yield from _either_faults(statement, reading.language, [*true, *([case.negative] if case.negative else [])])
        yield from _normal_faults(statement, reading.language, own)
        yield from _generic_faults(statement, reading.language, case)


def missing_labels(reading: Reading, labels: Iterable[Term]) -> list[str]:
    """Return the labels that no statement affirms by name, or leaves open."""
    said = {
        name
        for statement in reading.statements
        for mention in statement.mentions
        if mention.said != "denied"
        for name in (statement.text[mention.start : mention.end],)
    }
    # A longer name may stand where a shorter one is meant: "left kidney cyst" names no left kidney.
    return [label.en for label in dict.fromkeys(labels) if not names_of(label, reading.language) & said]


def says_normal(reading: Reading, case: Case) -> bool:
    """Say whether a text about a case without findings says so."""
    names = names_of(case.negative, reading.language) if case.negative else frozenset()
    for statement in reading.statements:
        if any(
            mention.said != "denied" and statement.text[mention.start : mention.end] in names
            for mention in statement.mentions
        ):
            return True
        match = pattern(reading.language, "says_normal").search(statement.text)
        if match and not _NOT_SO.search(statement.text[: match.start()]):
            return True
    return False


def is_supported(mention: Mention, true: Sequence[Term], language: Language) -> bool:
    """Say whether a name may be said of what is truly there: it is a label, a synonym, or what a label is a kind of."""
    if mention.known:
        return any(is_within(label, mention.label) or label.en == mention.label.en for label in true)
    name = mention.label.en
    bare = name.removesuffix("s").removesuffix("e")
    names = [known for label in true for known in names_of(label, language)]
    if language == "en":
        return any(bare in known for known in names)
    match = pattern("zh", "disease").search(name)
    core = match["core"] if match else name
    return any(name in known or known in name or (len(core) > 1 and core in known) for known in names)


def means(mention: Mention, label: Term, language: Language) -> bool:
    """Say whether a name may mean what is labelled so: not where that only lies in what is named."""
    lies_in = mention.known and is_normal(mention.label) and not is_normal(label)
    return not lies_in and is_supported(mention, [label], language)


def _mention_faults(
    mention: Mention,
    statement: Statement,
    language: Language,
    case: Case,
    true: Sequence[Term],
    others: Sequence[Term],
    *,
    region: bool,
) -> Iterator[tuple[str, str]]:
    name = statement.text[mention.start : mention.end]
    if mention.label == case.negative:
        if not case.findings and _NOT_SO.search(statement.text[: mention.start]):
            yield "denied", f"`{name}` is denied, and so it is annotated"
        if mention.said != "denied" and case.findings:
            yield "labels", f"`{name}`, but there is {case.findings[0].label.en}"
        return
    supported = is_supported(mention, true, language)
    elsewhere = not supported and is_supported(mention, others, language)
    could_be_given = is_supported(mention, case.label_set, language) or any(
        overlap(mention.label, label) for label in case.label_set
    )
    if mention.said == "denied":
        refers_to_rest = bool(pattern(language, "other").search(statement.text[: mention.start]))
        if any(means(mention, label, language) for label in true if label != case.body_part) or (
            elsewhere and not region
        ):
            if not refers_to_rest:
                yield "denied", f"`{name}` is denied, and is there"
        elif not could_be_given and not elsewhere and not _is_place(mention, case):
            yield "unsupported", f"`{name}` is ruled out, and was not looked for"
        return
    if supported:
        return
    if elsewhere:
        if region and not _is_neighbour(mention, statement, language):
            yield "labels", f"`{name}` is not in this region"
        return
    if _is_place(mention, case):
        return
    check = "labels" if mention.said == "affirmed" else "hedged"
    yield check, f"`{name}` is not in the annotation"


def _is_place(mention: Mention, case: Case) -> bool:
    """Say whether a name is only of where something is: anatomy that the annotator was not to find."""
    if not mention.known or branch_of(mention.label) not in NORMAL_BRANCHES:
        return False
    if (
        branch_of(mention.label) == "cell" and mention.label.en != "nucleus"
    ):  # of a smear, the other kinds of cells are what it could hold
        return not any(branch_of(finding.label) == "cell" for finding in case.findings)
    # A part of what was to be found, or what that is a part of, is a place as well: the lung of a left lung.
    return not any(label.en == mention.label.en for label in case.label_set)


def _is_neighbour(mention: Mention, statement: Statement, language: Language) -> bool:
    return bool(_NEAR[language].search(statement.text[: mention.start]))


def _either_faults(statement: Statement, language: Language, true: Sequence[Term]) -> Iterator[tuple[str, str]]:
    """Yield where a text takes a side between two words of which the annotation does not give that one."""
    names = [name for label in true for name in names_of(label, language)]
    for pair in _EITHER[language]:
        for word in pair:
            at = statement.text.find(word)
            if at < 0 or any(word in name for name in names):
                continue
            inside = any(mention.start <= at < mention.end for mention in statement.mentions)
            denied = said_at(statement, at, at + len(word), language) == "denied"
            if not inside and not denied:
                yield "labels", f"`{word}` is not in the annotation"


def _generic_faults(statement: Statement, language: Language, case: Case) -> Iterator[tuple[str, str]]:
    """Yield where a text speaks of a lesion or the like, unnamed, in an image that has none."""
    if not all(is_normal(finding.label) for finding in case.findings):
        return
    for match in pattern(language, "generic").finditer(statement.text):
        named = any(mention.start <= match.start() < mention.end for mention in statement.mentions)
        is_asked = bool(_ASKED_FOR.search(f"{statement.text[: match.start()]}*{statement.text[match.end() :]}"))
        if not (named or is_asked) and said_at(statement, match.start(), match.end(), language) != "denied":
            yield "labels", f"`{match[0]}`, but nothing of the kind is annotated"


def _normal_faults(statement: Statement, language: Language, own: Sequence[Term]) -> Iterator[tuple[str, str]]:
    """Yield where a text calls an image normal that has a finding."""
    if not own or all(is_normal(label) for label in own):
        return
    for match in pattern(language, "nothing_wrong").finditer(statement.text):
        rest = pattern(language, "other").search(statement.text)
        turned = said_at(statement, match.start(), match.start(), language) == "denied"
        if not rest and not turned:
            yield "denied", f"`{match[0]}`, but there is {own[0].en}"
