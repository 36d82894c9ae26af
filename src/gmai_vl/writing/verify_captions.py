"""Holds a caption against the annotation: every label told, none invented, every statement true of what it is about.

Names are replaced by signs first, so that their own numbers and sides state nothing. Then the text is read sentence
by sentence: a statement is about the things that its sentence names, or where it names none or begins with a pronoun,
about those of the sentence before too.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain

from gmai_vl.records import Case, Finding
from gmai_vl.vocabulary import MODALITIES, Language, Term, branch, may_come_with, overlap, synonyms
from gmai_vl.writing.facts import POSITIONS, SIZES
from gmai_vl.writing.phrases import caption_words, plural, wording
from gmai_vl.writing.relations import (
    ABOVE,
    ANTERIOR,
    APART,
    BELOW,
    INFERIOR,
    INSIDE,
    LEFT,
    OVERLAPPING,
    POSTERIOR,
    RIGHT,
    SUPERIOR,
    SURROUNDED,
    TOUCHING,
)
from gmai_vl.writing.verify_facts import (
    MeasuredCase,
    cell_of,
    contacts_of,
    directions_of,
    is_measure_of,
    measures_in,
    modality_of,
    side_of_patient,
    size_of,
)

Checks = dict[str, bool | str]
"""Name of a check -> True, or the reason why it failed."""

_MANY_NAMES = 1 << 14
"""Names and labels of which is remembered what was worked out: more than one source has."""

_FIRST_SIGN = 0xE000
"""Signs for names are characters for private use: no label can hold one, for none is printable."""

_FIRST_MEASURE = 0xF000
"""Signs for measurements."""

_A_SIGN = "([\ue000-\uf8ff])"
_SIGNS = re.compile(_A_SIGN)

_RELATION_PATTERNS: dict[Language, dict[str, Term]] = {
    "en": {
        r"to the left of the ?NAME": LEFT,
        r"to the right of the ?NAME": RIGHT,
        r"\babove the ?NAME": ABOVE,
        r"\bbelow the ?NAME": BELOW,
        r"\banterior to the ?NAME": ANTERIOR,
        r"\bposterior to the ?NAME": POSTERIOR,
        r"\bsuperior to the ?NAME": SUPERIOR,
        r"\binferior to the ?NAME": INFERIOR,
        r"\binside the ?NAME": INSIDE,
        r"\bsurrounded by the ?NAME": SURROUNDED,
        r"\bpartly overlap(?:s|ping)? the ?NAME": OVERLAPPING,
        r"\b(?:in contact with|touch(?:es|ing)?) the ?NAME": TOUCHING,
        r"\bapart from the ?NAME": APART,
    },
    "zh": {
        r"位于NAME的左侧": LEFT,
        r"位于NAME的右侧": RIGHT,
        r"位于NAME的上方": ABOVE,
        r"位于NAME的下方": BELOW,
        r"位于NAME的前方": ANTERIOR,
        r"位于NAME的后方": POSTERIOR,
        r"位于NAME的头侧": SUPERIOR,
        r"位于NAME的足侧": INFERIOR,
        r"位于NAME内部": INSIDE,
        r"被NAME包绕": SURROUNDED,
        r"与NAME有?部分重叠": OVERLAPPING,
        r"与NAME相接": TOUCHING,
        r"与NAME分离": APART,
    },
}
_RELATIONS: dict[Language, tuple[tuple[re.Pattern[str], Term], ...]] = {
    language: tuple((re.compile(text.replace("NAME", _A_SIGN)), relation) for text, relation in patterns.items())
    for language, patterns in _RELATION_PATTERNS.items()
}
"""Pattern, whose one group is the sign of the other thing, and the relation that it states."""

_ONE = {
    "en": re.compile(r"\b(?:a single|one) (?=[\ue000-\uf8ff])"),
    "zh": re.compile(r"(?<!最大的)[一单][个处枚块根条]"),
}
_LARGEST = {"en": re.compile(r"\blargest\b"), "zh": re.compile("最大(?!径)")}
_SENTENCE_END = re.compile(r"\.(?!\d)|[。;；]")
_PRONOUN = re.compile(r"\s*(?:it|they|its)\b")
_PATIENT = re.compile(r"patient's (left|right)|患者(左|右)侧")


def check_caption(said: str, language: Language, case: MeasuredCase) -> Checks:
    """Check a caption of the whole image."""
    labels = {finding.label for finding in case.findings}
    absent = [
        label
        for label in case.label_set
        if not any(may_come_with(label, other) for other in labels) and not _is_common(label, language)
    ]
    own = labels | ({case.negative} if case.negative else set())
    told = _Told(said, language, case, own)
    invented = [
        label.en
        for label in absent
        for name in _names_of(label, language)
        if _stands_in(told.without_names, name, language)
    ]
    missing = [
        label.en for label in labels if not any(name.lower() in said.lower() for name in _names_of(label, language))
    ]
    return {
        "complete": not missing or f"missing: {missing}",
        "nothing-invented": not invented or f"absent: {invented}",
        **check_statements(said, language, case, list(case.findings)),
    }


def check_statements(said: str, language: Language, case: MeasuredCase, findings: Sequence[Finding]) -> Checks:
    """Check that everything `said` states is true of the one of `findings` that it is stated of."""
    own = {finding.label for finding in findings} | ({case.negative} if case.negative else set())
    faults: dict[str, list[str]] = {
        name: []
        for name in ("numbers", "positions", "sizes", "measures", "laterality", "relations", "planes", "modalities")
    }
    told = _Told(said, language, case, own)
    faults["planes"] = _foreign(told.without_names, branch("view plane"), case.plane, language)
    faults["modalities"] = _foreign_modalities(told.without_names, language, case)
    for sentence, about in told.sentences(findings):
        for name, fault in _faults_of(sentence, about, told, language, case):
            faults[name].append(fault)
    return {name: not wrong or "; ".join(sorted(set(wrong))) for name, wrong in faults.items()}


class _Told:
    """A text in lower case with signs for names, and what the signs stand for."""

    def __init__(self, said: str, language: Language, case: Case, labels: Iterable[Term]) -> None:
        self.language = language
        # The other findings of the case may be spoken of too: they are what relations refer to.
        meant: dict[str, set[Term]] = {name.lower(): set() for name in _names_of_frame(case, language)}
        for label in {*labels, *(finding.label for finding in case.findings)}:
            for name in _names_of(label, language):
                meant.setdefault(name.lower(), set()).add(label)
        self.meanings = list(dict.fromkeys(frozenset(meant[name]) for name in sorted(meant)))
        names = {name: self.meanings.index(frozenset(labels)) for name, labels in meant.items()}
        # Of equal length the labels first: 气胸 is one in 气胸部分 where the chest, 胸部, is the body part.
        longest_first = sorted(names, key=lambda name: (len(name), bool(meant[name])), reverse=True)
        text = said.lower()
        # A measurement may stand in a name ("5 mm polyp"), and a name in a measurement ("12" in "12 mm").
        for name in filter(_holds_measure, longest_first):
            text = _apart(name).sub(chr(_FIRST_SIGN + names[name]), text)
        self.measures = list(measures_in(text))
        for number, match in enumerate(self.measures):
            text = text.replace(match[0], chr(_FIRST_MEASURE + number), 1)
        for name in longest_first:
            text = _apart(name).sub(chr(_FIRST_SIGN + names[name]), text)
        self.text = text
        self.without_names = _SIGNS.sub(" ", text)

    def measures_of(self, sentence: str) -> list[re.Match[str]]:
        """Return the measurements that stand in a part of the text."""
        return [match for number, match in enumerate(self.measures) if chr(_FIRST_MEASURE + number) in sentence]

    def named(self, text: str) -> list[Term]:
        """Return the labels whose names stand in a part of the text."""
        signs = (labels for number, labels in enumerate(self.meanings) if chr(_FIRST_SIGN + number) in text)
        return sorted(set().union(*signs), key=lambda label: label.en)

    def sentences(self, findings: Sequence[Finding]) -> Iterator[tuple[str, list[Finding]]]:
        """Yield each part of a sentence with the findings that it may be about."""
        before: list[Term] = []
        for sentence in _SENTENCE_END.split(self.text):
            bare = sentence
            for pattern, _ in _RELATIONS[self.language]:
                bare = pattern.sub(" ", bare)
            named = self.named(bare)
            if before and (not named or _PRONOUN.match(sentence)):
                named = [*named, *before]
            before = named
            about = [finding for finding in findings if finding.label in named]
            yield sentence, about or list(findings)


def _faults_of(
    sentence: str, about: list[Finding], told: _Told, language: Language, case: MeasuredCase
) -> Iterator[tuple[str, str]]:
    """Yield check and reason for every false statement of a sentence about the findings `about`."""
    for pattern, relation in _RELATIONS[language]:
        for match in pattern.finditer(sentence):
            others = [finding for finding in case.findings if finding.label in told.named(match[1])]
            if not any(is_related(one, relation, other, case) for one in about for other in others):
                yield (
                    "relations",
                    f"nothing is {relation.en.replace('it', told.named(match[1])[0].en if others else '?')}",
                )
            sentence = sentence.replace(match[0], " ")
    for match in told.measures_of(sentence):
        if not any(is_measure_of(match, finding, case) for finding in about):
            yield "measures", match[0]
    counts = {str(sum(other.label == finding.label for other in case.findings)) for finding in about}
    yield from (("numbers", number) for number in re.findall(r"\d+", sentence) if number not in counts)
    if _ONE[language].search(sentence) and "1" not in counts:
        yield "numbers", "one"
    for match in _PATIENT.finditer(sentence):
        side = "left" if "left" in match[0] or "左" in match[0] else "right"
        if not any(side_of_patient(finding, case) == side for finding in about):
            yield "laterality", match[0]
    boxed = [finding for finding in about if finding.box]
    if _LARGEST[language].search(sentence):
        boxed = [one for one in boxed if all(_area(other) <= _area(one) for other in boxed if other.label == one.label)]
    cells = {cell_of(finding, case) for finding in boxed}
    sizes = {size_of(finding, case) for finding in boxed if finding.area_share is not None}
    plain = _SIGNS.sub(" ", sentence)
    for row in POSITIONS:
        yield from (("positions", cell.en) for cell in row if cell not in cells and _says(plain, cell, language))
    yield from (("sizes", size.en) for size in SIZES if size not in sizes and _says(plain, size, language))


def _area(finding: Finding) -> float:
    return finding.area_share or 0.0


@lru_cache(_MANY_NAMES)
def _holds_measure(name: str) -> bool:
    return any(measures_in(name))


@lru_cache(_MANY_NAMES)
def _apart(name: str) -> re.Pattern[str]:
    """Return a pattern for a name that stands apart: "1" is no part of "12"; Chinese has no blanks between words."""
    before = r"(?<![0-9a-z])" if name[0].isascii() else ""
    after = r"(?![0-9a-z])" if name[-1].isascii() else ""
    return re.compile(f"{before}{re.escape(name)}{after}")


def is_related(one: Finding, relation: Term, other: Finding, case: MeasuredCase) -> bool:
    """Say whether `one` surely lies to `other` as `relation` says."""
    if one is other or one.box is None or other.box is None:
        return False
    return relation in directions_of(one, other, case) or contacts_of(one, other, case).get(relation, False)


def relation_said(said: str, subject: Finding, other: Finding, language: Language, case: MeasuredCase) -> bool:
    """Say whether a text states a relation of `subject` to `other`, and only true ones."""
    told = _Told(said, language, case, {subject.label, other.label})
    found = [
        relation
        for pattern, relation in _RELATIONS[language]
        for match in pattern.finditer(told.text)
        if other.label in told.named(match[1])
    ]
    return bool(found) and all(is_related(subject, relation, other, case) for relation in found)


def _foreign(text: str, terms: Sequence[Term], own: str | None, language: Language) -> list[str]:
    return [term.en for term in terms if term.en != own and _says(text, term, language)]


def _foreign_modalities(text: str, language: Language, case: Case) -> list[str]:
    own = modality_of(case)
    names = wording(language)["image_names"]
    others = [names[other.en] for other in MODALITIES if not overlap(other, own) and names[other.en] != names[own.en]]
    image = "" if language == "en" else "图像"
    return [name for name in others if _stands_in(text, name.lower() + image, language)]


@lru_cache(_MANY_NAMES)
def _is_common(label: Term, language: Language) -> bool:
    """Say whether a label is also a word of the captions themselves, and cannot be told from them."""
    return _names_it(_words_of_captions(language), label, language)


@cache
def _words_of_captions(language: Language) -> str:
    terms = [*SIZES, *chain(*POSITIONS), *branch("view plane")]
    articles = ["a", "an", "the", "of", "one", "it", "they"]
    names = wording(language)["image_names"].values()
    words = (*_texts(caption_words(language)), *articles, *(term.in_language(language) for term in terms), *names)
    return " ".join(words).lower()


def _texts(words: object) -> Iterator[str]:
    """Yield all texts of a data file."""
    if isinstance(words, str):
        yield words
    elif isinstance(words, dict):
        for value in words.values():
            yield from _texts(value)
    elif isinstance(words, list):
        for value in words:
            yield from _texts(value)


def _says(text: str, term: Term, language: Language) -> bool:
    return _stands_in(text, term.in_language(language), language)


def _names_it(text: str, label: Term, language: Language) -> bool:
    return any(_stands_in(text, name, language) for name in _names_of(label, language))


def _stands_in(text: str, name: str, language: Language) -> bool:
    """Say whether a name stands in a text in lower case, in English as whole words."""
    if language == "zh":
        return name.lower() in text
    return _as_words(name).search(text) is not None


@lru_cache(_MANY_NAMES)
def _as_words(name: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(name.lower())}\b")


@lru_cache(_MANY_NAMES)
def _names_of(label: Term, language: Language) -> frozenset[str]:
    """Return what a label may be called: its name and synonyms, in English also their plurals."""
    if language == "zh" and label.zh is None:
        return frozenset()
    names = frozenset({label.in_language(language), *synonyms(label, language)})
    return names | ({plural(name) for name in names} if language == "en" else set())


def _names_of_frame(case: Case, language: Language) -> set[str]:
    """Return what the image and the body part of the case are called."""
    terms = {modality_of(case), *([case.body_part] if case.body_part else [])}
    names = {term.in_language(language) for term in terms if language == "en" or term.zh}
    names.add(wording(language)["image_names"][modality_of(case).en])
    return names | ({plural(name) for name in names} if language == "en" else set())


def own_names(case: Case, language: Language, labels: Iterable[Term]) -> set[str]:
    """Return all names of the case's own things and of `labels`."""
    return _names_of_frame(case, language).union(*(_names_of(label, language) for label in labels))
