"""Holds the text of a sample against the annotation again, by another way than the one it was written by."""

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np

from gmai_vl.records import Case, Finding, Sample
from gmai_vl.vocabulary import Language, Term, branch, may_come_with, modality, overlap, siblings
from gmai_vl.writing.facts import HALVES, NO, NO_FINDING, POSITIONS, SIZES, YES
from gmai_vl.writing.markup import ShareBox, parse_boxes, share_box
from gmai_vl.writing.phrases import plural, wording

Checks = dict[str, bool | str]
"""Name of a check -> True, or the reason why it failed."""

REGION_BEGINS = {"en": "This region", "zh": "该区域"}


def check_sample(sample: Sample, case: Case) -> Checks:
    """Check every question and answer of `sample` against `case`; a dialogue's checks begin with the turn's number."""
    told = sample.provenance.facts
    if told["form"] == "given":
        return _check_given(sample, case)
    texts = [turn.text for turn in sample.turns]
    if told["form"] != "dialogue":
        return _check(told, texts[0], texts[1], sample.language, case)
    checks: Checks = {"turns": len(texts) == 2 * len(told["turns"]) or f"{len(texts)} texts"}
    for number, (one, question, said) in enumerate(zip(told["turns"], texts[::2], texts[1::2], strict=False)):
        of_turn = _check(one, question, said, sample.language, case)
        checks |= {f"{number}.{name}": result for name, result in of_turn.items()}
    return checks


def _check(told: Mapping[str, Any], question: str, said: str, language: Language, case: Case) -> Checks:
    form, kind, options = told["form"], told["kind"], told.get("options")
    checks: Checks = {"language": _speaks_chinese(question + said, options, case) if language == "zh" else True}
    if form == "caption":
        return checks | _check_caption(said, language, case)
    if form == "region-caption":
        begins = said.startswith(REGION_BEGINS[language])
        return checks | {"begins": begins or said, **_check_words(said, language, case, _pointed_at(question, case))}
    if form == "grounding":
        return checks | {"boxes": _boxes_are_right(said, told["subject"], language, case)}
    true = _true_answers(told, question, language, case)
    if options is not None:
        return checks | _check_choice(options, told["letter"], question, said, true, form, language, case)
    if kind == "dialogue":
        return checks | {
            "answer": _says(said, true, told, language, case) or f"{sorted(true)} is not what `{said}` says"
        }
    if form == "kind":  # open: all that is there and nothing else, in any order
        whole = all(name in said for name in true) and len(said) == len(wording(language)["join"].join(true))
        return checks | {"answer": whole or f"`{said}` is not all of {sorted(true)}"}
    return checks | {"answer": said in true or f"`{said}` is none of {sorted(true)}"}


def _check_given(sample: Sample, case: Case) -> Checks:
    """Check that a sample says what the source says: its turns, and below the question of a choice its options."""
    name = sample.provenance.facts["conversation"]
    source = next((each for each in case.conversations if each.name == name), None)
    if source is None:
        return {"conversation": f"its case has no conversation `{name}`"}
    asked, said, rounds = sample.turns[0].text, sample.turns[-1].text, len(source.turns) // 2
    checks: Checks = {
        "language": sample.language == source.language or f"is in {sample.language}, its source in {source.language}",
        "options": sample.options == source.options or f"{sample.options} for {source.options}",
        "subset": sample.subset == ("instruct" if sample.images else "text-multi" if rounds > 1 else "text-single")
        or f"{rounds} rounds and {len(sample.images)} images in {sample.subset}",
    }
    if source.options is not None:
        listed = "".join(f"\n{letter}. {text}" for letter, text in source.options.items())
        instructions = wording(source.language)["instructions"]
        letter, text = str(source.answer), source.options.get(str(source.answer))
        ends = {letter: instructions["mcq"], text: instructions["mcq-text"]}.get(said, [])
        whole = [f"{source.turns[0].text}{listed}\n{end}" for end in ends]
        return checks | {
            "turns": asked in whole or f"`{asked}` and `{said}` are not what the source asks and answers",
            "answer": (sample.kind, sample.answer) == ("mcq", letter) or f"{sample.kind} with {sample.answer}",
        }
    right = {"dialogue": None, "open": said, "closed": said.lower().rstrip(".。!！")}.get(sample.kind, "")
    return checks | {
        "turns": sample.turns == source.turns or "they are not those of the source",
        "answer": (sample.answer == right and (sample.kind == "dialogue") == (rounds > 1))
        or f"{sample.kind} with {sample.answer} for {rounds} rounds",
    }


def _true_answers(told: Mapping[str, Any], question: str, language: Language, case: Case) -> set[str]:
    """Return every text that answers the question rightly, computed from the case alone."""
    form = told["form"]
    own = [finding for finding in case.findings if finding.label.en == told["subject"]]
    if form == "presence":
        return {(YES if own else NO).in_language(language)}
    if form == "count":
        return {str(len(own))}
    if form in ("side", "position", "size"):
        assert len(own) == 1, f"{form} of {len(own)} findings"
        true = _PROPERTIES[form](own[0], case)
        if told["claim"] is not None:
            true = YES if true.en == told["claim"] else NO
        return {true.in_language(language)}
    terms: dict[str, Iterable[Term]] = {
        "modality": [_modality(case)],
        "plane": [plane for plane in branch("view plane") if plane.en == case.plane],
        "body-part": [case.body_part] if case.body_part else [],
        "kind": [finding.label for finding in case.findings] or [NO_FINDING],
        "region-kind": [finding.label for finding in _pointed_at(question, case)],
    }
    return {term.in_language(language) for term in terms[form]}


def _modality(case: Case) -> Term:
    assert case.modality is not None, f"{case.case_id}: an annotated image has a modality"
    return modality(case.modality)


def _half(finding: Finding, case: Case) -> Term:
    assert finding.box is not None
    return HALVES["left" if finding.box[0] + finding.box[2] < case.width else "right"]


def _cell(finding: Finding, case: Case) -> Term:
    assert finding.box is not None
    x1, y1, x2, y2 = finding.box
    column = np.searchsorted([2 * case.width, 4 * case.width], 3 * (x1 + x2), side="right")
    row = np.searchsorted([2 * case.height, 4 * case.height], 3 * (y1 + y2), side="right")
    return POSITIONS[int(row)][int(column)]


def _size(finding: Finding, case: Case) -> Term:
    assert finding.area_share is not None
    return SIZES[int(np.searchsorted([0.02, 0.10], finding.area_share, side="right"))]


_PROPERTIES = {"side": _half, "position": _cell, "size": _size}


def _pointed_at(question: str, case: Case) -> list[Finding]:
    """Return the findings whose rounded box stands in the question."""
    boxes = [box for _, box in parse_boxes(question)]
    return [finding for finding in case.findings if finding.box and _shares(finding, case) in boxes]


def _shares(finding: Finding, case: Case) -> ShareBox:
    assert finding.box is not None
    return share_box(finding.box, case.width, case.height)


def _check_choice(
    options: Mapping[str, str],
    right: str,
    question: str,
    said: str,
    true: set[str],
    form: str,
    language: Language,
    case: Case,
) -> Checks:
    listed = all(f"\n{letter}. {text}\n" in question for letter, text in options.items())
    letters = list(options) == list("ABCD"[: len(options)]) and len(options) >= 2
    wrong = [text for letter, text in options.items() if letter != right]
    true_too = [text for text in wrong if text in true or _may_be_true(text, form, language, case)]
    return {
        "options": (letters and listed) or str(dict(options)),
        "unique": len({text.lower() for text in options.values()}) == len(options) or str(dict(options)),
        "answer": (options.get(right) in true and said in (right, options[right]))
        or f"`{said}` is none of {sorted(true)}",
        "distractors": not true_too or str(true_too),
    }


def _may_be_true(text: str, form: str, language: Language, case: Case) -> bool:
    """Say whether a label offered as wrong could be right after all, or is not known to be wrong."""
    labels = [finding.label for finding in case.findings]
    if form == "kind":
        known = (NO_FINDING, *case.label_set)
    elif form == "region-kind":
        known = (*case.label_set, *(sibling for label in labels for sibling in siblings(label)))
    else:
        return False
    meant = [other for other in known if (language == "en" or other.zh) and other.in_language(language) == text]
    may_be = may_come_with if form == "kind" else overlap
    return not meant or any(may_be(other, label) for other in meant for label in labels)


def _says(said: str, true: set[str], told: Mapping[str, Any], language: Language, case: Case) -> bool:
    """Say whether a free answer holds the true one: all that is seen, the name of the image, yes or no."""
    if told["form"] == "presence" or told["claim"] is not None:
        return said.lower().startswith(next(iter(true)))
    if told["form"] == "modality":
        name: str = wording(language)["image_names"][_modality(case).en]
        return name in said
    return all(re.search(rf"(?<!\d){re.escape(answer)}(?!\d)", said) for answer in true)


def _boxes_are_right(said: str, subject: str, language: Language, case: Case) -> bool | str:
    own = [finding for finding in case.findings if finding.label.en == subject]
    expected = [(finding.label.in_language(language), _shares(finding, case)) for finding in own if finding.box]
    return sorted(parse_boxes(said)) == sorted(expected) or f"{said} for {expected}"


def _check_caption(said: str, language: Language, case: Case) -> Checks:
    labels = {finding.label for finding in case.findings}
    # A label that is also a word of the captions themselves cannot be told from them.
    common = " ".join([*chain(*wording(language)["captions"].values()), *_words_of_captions(language)])
    absent = [
        label
        for label in case.label_set
        if not any(may_come_with(label, other) for other in labels) and not _names_it(common.lower(), label, language)
    ]
    own = labels | ({case.negative} if case.negative else set())
    told = _without_names(said, case, language, own)
    invented = [label.en for label in absent if _names_it(told, label, language)]
    forms = {label.en: {label.in_language(language)} for label in labels}
    if language == "en":
        forms = {name: {name, plural(name)} for name in forms}
    missing = [name for name, spellings in forms.items() if not any(spelling in said for spelling in spellings)]
    missing = [name for name in missing if name[:1].upper() + name[1:] not in said]
    return {
        "complete": not missing or f"missing: {missing}",
        "nothing-invented": not invented or f"absent: {invented}",
        **_check_words(said, language, case, list(case.findings)),
    }


def _check_words(said: str, language: Language, case: Case, findings: list[Finding]) -> Checks:
    """Check that every number, position and size in `said` is one of `findings`."""
    own = {finding.label for finding in findings} | ({case.negative} if case.negative else set())
    told = _without_names(said, case, language, own)
    counts = {str(sum(other.label == finding.label for other in findings)) for finding in findings}
    numbers = set(re.findall(r"\d+", told))
    boxed = [finding for finding in findings if finding.box]
    cells = {_cell(finding, case) for finding in boxed}
    sizes = {_size(finding, case) for finding in boxed if finding.area_share is not None}
    wrong_cells = [
        cell.en for row in POSITIONS for cell in row if cell not in cells and _names_it(told, cell, language)
    ]
    wrong_sizes = [size.en for size in SIZES if size not in sizes and _names_it(told, size, language)]
    return {
        "numbers": numbers <= counts or str(sorted(numbers - counts)),
        "positions": not wrong_cells or str(wrong_cells),
        "sizes": not wrong_sizes or str(wrong_sizes),
    }


def _words_of_captions(language: Language) -> list[str]:
    terms = [*SIZES, *chain(*POSITIONS), *branch("view plane")]
    articles = ["a", "an", "the"]
    return [*articles, *(term.in_language(language) for term in terms), *wording(language)["image_names"].values()]


def _without_names(text: str, case: Case, language: Language, labels: Iterable[Term]) -> str:
    """Return `text` in lower case less the names of the case's own things: their numbers and sides state nothing."""
    text = text.lower()
    for name in sorted(_names(case, language, labels), key=len, reverse=True):
        # "1" is not a part of "12"; Chinese has no blanks between words.
        before = r"(?<![0-9a-z])" if name[0].isascii() else ""
        after = r"(?![0-9a-z])" if name[-1].isascii() else ""
        text = re.sub(f"{before}{re.escape(name.lower())}{after}", " ", text)
    return text


def _names_it(text: str, term: Term, language: Language) -> bool:
    if language == "zh":
        return term.zh is not None and term.zh.lower() in text
    return re.search(rf"\b{re.escape(term.en.lower())}\b", text) is not None


def _names(case: Case, language: Language, labels: Iterable[Term]) -> set[str]:
    """Return what the case's own things are called: their numbers and sides are parts of names, not statements."""
    terms = {*labels, _modality(case), *([case.body_part] if case.body_part else [])}
    names = {term.in_language(language) for term in terms if language == "en" or term.zh}
    names.add(wording(language)["image_names"][_modality(case).en])
    return names | ({plural(name) for name in names} if language == "en" else set())


def _speaks_chinese(text: str, options: Mapping[str, str] | None, case: Case) -> bool | str:
    """Say whether a Chinese text, less names, option letters and markup, is free of Latin words and punctuation."""
    labels = [
        *case.label_set,
        *(finding.label for finding in case.findings),
        *([case.negative] if case.negative else []),
    ]
    names = _names(case, "zh", labels) | set((options or {}).values())
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "")
    text = re.sub(r"</?ref>|<box>[^<]*</box>|\b[A-D](\. |$)|^[A-D]\b", "", text, flags=re.MULTILINE)
    foreign = re.findall(r"[A-Za-z]+|[,.;:?!]", text)
    return not foreign or f"not Chinese: {foreign}"
