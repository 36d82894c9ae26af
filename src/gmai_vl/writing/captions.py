"""Captions: what is in the image or in a region of it, composed of frames, places and details drawn by chance."""

import random
from dataclasses import dataclass
from typing import Any

from gmai_vl.vocabulary import Language, Term
from gmai_vl.writing.facts import NO_FINDING, CaseFacts, FindingFacts, is_normal
from gmai_vl.writing.laterality import PATIENT_SIDES
from gmai_vl.writing.phrases import (
    agreement,
    and_joined,
    capital,
    caption_words,
    image_name,
    relation_of,
    relation_words,
    subject_slots,
    without_article,
    wording,
)

MOST_SENTENCES = 4
"""Labels that get a sentence of their own; the rest is named in one last sentence."""

DETAILED = 2
"""Labels of an image of which more than name, place and size is told: a caption is no list of measurements."""

FURTHER_DETAILS = (0, 0, 1, 1, 2)
"""How many further details are told, by chance."""

SYNONYM_SHARE = 0.25
"""Share of mentions by another name, where the label has one."""

ONE_SHARE = 0.2
"""Share of mentions that say of a single instance that it is one."""

SHOWING_SHARE = 0.35
"""Share of captions whose opening names the first thing too."""

IT_SHARE = 0.25
"""Share of English statements that tell the details in a sentence of their own."""

THERE_IS_SHARE = 0.15

MEASURED = ("extent", "diameter", "area")


@dataclass(frozen=True, slots=True)
class _Details:
    """What is told of a finding besides its name and place: kinds of detail, and the slots to tell them with."""

    kinds: tuple[str, ...]
    slots: dict[str, str]


def image_caption(facts: CaseFacts, language: Language, rng: random.Random) -> str:
    """Describe the whole image: what it is, then every label once, or that nothing is there.

    Findings come before organs, the larger before the smaller. Raises ValueError if a term has no name in `language`.
    """
    words = caption_words(language)
    name = image_name(facts, language, whole=True)
    noun = without_article(name) if language == "en" else name
    slots = {"image": name, "Image": capital(name), "noun": noun, "Noun": capital(noun)}
    labels = sorted(facts.labels, key=lambda label: (is_normal(label), -_largest(facts, label).share))
    told, rest = labels[:MOST_SENTENCES], labels[MOST_SENTENCES:]
    sentences = []
    if told and rng.random() < SHOWING_SHARE:
        thing = _thing(facts, told.pop(0), language, rng)
        sentences.append(rng.choice(words["showing"]).format(thing=thing, **slots))
    else:
        sentences.append(rng.choice(words["openings"]).format(**slots))
    if len(told) > 1 and not any(finding.box for label in told for finding in facts.of(label)):
        sentences.append(_together("all", told + rest, facts, language, rng))
        told, rest = [], []
    detailed = labels[:DETAILED]
    sentences += [_statement(facts, label, language, rng, brief=label not in detailed) for label in told]
    if rest:
        sentences.append(_together("more", rest, facts, language, rng))
    if facts.negative and not facts.findings:
        sentences.append(_negative_sentence(facts.negative, language, rng))
    return str(wording(language)["gap"].join(sentences))


def region_caption(finding: FindingFacts, facts: CaseFacts, language: Language, rng: random.Random) -> str:
    """Describe one boxed finding; the text begins with "This region" or 该区域.

    Raises ValueError if the label has no name in `language`.
    """
    words = caption_words(language)
    slots, details = _slots(finding, facts, language, rng), _details(finding, facts, language, rng)
    if finding.position and rng.random() < 0.5:
        thing = _with_details(words["thing-unplaced"], slots, details, language, rng)
        return str(rng.choice(words["region-first"]).format(thing=thing, **slots))
    key = "thing" if finding.position else "thing-unplaced"
    if language == "en" and details.kinds and rng.random() < IT_SHARE:
        thing = words[key].format(more="", **slots)
        first = rng.choice(words["region"]).format(thing=thing)
        return f"{first} {_it_sentence(slots, details, rng)}"
    return str(rng.choice(words["region"]).format(thing=_with_details(words[key], slots, details, language, rng)))


@dataclass(frozen=True, slots=True)
class _Largest:
    finding: FindingFacts
    share: float
    is_only_largest: bool


def _largest(facts: CaseFacts, label: Term) -> _Largest:
    findings = facts.of(label)
    shares = [finding.area_share or 0.0 for finding in findings]
    return _Largest(findings[shares.index(max(shares))], max(shares), shares.count(max(shares)) == 1)


def _thing(facts: CaseFacts, label: Term, language: Language, rng: random.Random) -> str:
    """Return a label with all that is told of it, as a part of a sentence."""
    words, finding = caption_words(language), _largest(facts, label).finding
    if facts.count(label) > 1 and label in facts.counted:
        slots = _slots(finding, facts, language, rng)
        return str(slots["count"] + _largest_clause(facts, label, slots, language, rng))
    if facts.count(label) > 1:
        return _slots(finding, facts, language, rng)["a"]
    key = "thing" if finding.position else "thing-unplaced"
    details = _details(finding, facts, language, rng)
    return _with_details(words[key], _slots(finding, facts, language, rng), details, language, rng)


def _statement(facts: CaseFacts, label: Term, language: Language, rng: random.Random, *, brief: bool = True) -> str:
    """Return a sentence about a label, or two; a `brief` one tells name, place and size only."""
    words, finding = caption_words(language), _largest(facts, label).finding
    slots = _slots(finding, facts, language, rng)
    if facts.count(label) > 1 and label in facts.counted:
        more = _largest_clause(facts, label, slots, language, rng)
        return str(rng.choice(words["many"]).format(more=more, **slots))
    if facts.count(label) > 1:
        return str(rng.choice(words["unplaced"]).format(more="", **slots))
    key = "placed" if finding.position else "unplaced"
    if slots["a"].startswith(("a ", "an ", "one ")) and rng.random() < THERE_IS_SHARE:
        key += "-there-is"
    frame, details = rng.choice(words[key]), _details(finding, facts, language, rng, brief=brief)
    if language == "en" and details.kinds and rng.random() < IT_SHARE:
        return f"{frame.format(more='', **slots)} {_it_sentence(slots, details, rng)}"
    return _with_details(frame, slots, details, language, rng)


def _with_details(frame: str, slots: dict[str, Any], details: _Details, language: Language, rng: random.Random) -> str:
    """Fill a frame; the details stand behind commas in an order of chance, the last two by chance with an "and"."""
    variants = caption_words(language)["details"]
    told = [rng.choice(variants[kind]).format(**details.slots) for kind in details.kinds]
    comma = "，" if language == "zh" else ", "
    more = "".join(comma + detail for detail in told)
    if language == "en" and len(told) == 2 and rng.random() < 0.5:
        more = f", {told[0]} and {told[1]}"
    return frame.format(more=more, **slots)


def _it_sentence(slots: dict[str, Any], details: _Details, rng: random.Random) -> str:
    words = caption_words("en")
    told = [
        rng.choice(words["predicates"][kind]).format(**details.slots, **slots["agreement"]) for kind in details.kinds
    ]
    return str(words["it"].format(predicates=and_joined(told, "en"), **slots["agreement"]))


def _largest_clause(
    facts: CaseFacts, label: Term, slots: dict[str, Any], language: Language, rng: random.Random
) -> str:
    """Return where the largest of several is, if one is the largest and has a place or size."""
    largest = _largest(facts, label)
    if not largest.is_only_largest or not largest.finding.size:
        return ""
    key = "largest" if largest.finding.position else "largest-unplaced"
    size = caption_words(language)["sizes"][largest.finding.size.en]
    clause = rng.choice(caption_words(language)[key]).format(**(slots | {"size": size}))
    return f"，{clause}" if language == "zh" else f", {clause}"


def _together(key: str, labels: list[Term], facts: CaseFacts, language: Language, rng: random.Random) -> str:
    """Name labels of which nothing more is told, in one sentence."""
    if len(labels) == 1 and key == "more":
        return _statement(facts, labels[0], language, rng)
    things = and_joined([_bare_name(label, language) for label in labels], language)
    names = wording(language)["join"].join(label.in_language(language) for label in labels)
    return str(rng.choice(caption_words(language)[key]).format(labels=names, things=things, Things=capital(things)))


def _bare_name(label: Term, language: Language) -> str:
    slots = subject_slots(label, language)
    return str(slots.get("a_subject", slots["subject"]))


def _negative_sentence(negative: Term, language: Language, rng: random.Random) -> str:
    words = caption_words(language)
    if negative.en.lower() == NO_FINDING.en:
        return str(rng.choice(words["no-finding"]))
    return str(rng.choice(words["negative"]).format(negative=negative.in_language(language)))


def _details(
    finding: FindingFacts, facts: CaseFacts, language: Language, rng: random.Random, *, brief: bool = False
) -> _Details:
    """Choose what is told: the size wherever there is one, and unless `brief` up to two more things by chance."""
    slots: dict[str, str] = {}
    further = []
    if finding.size:
        slots["size"] = caption_words(language)["sizes"][finding.size.en]
        slots["size_degree"] = finding.size.en
    if finding.percent:
        further.append("percent")
        slots["percent"] = str(finding.percent)
    if finding.measures and facts.count(finding.label) == 1:
        measures = finding.measures
        further.append(rng.choice(MEASURED))
        slots |= {"width": measures.width, "height": measures.height}
        slots |= {"diameter": measures.diameter.in_language(language), "area": measures.area.in_language(language)}
    if finding.laterality in PATIENT_SIDES:
        further.append("laterality")
        slots["laterality"] = PATIENT_SIDES[finding.laterality].in_language(language)
    pairs = [pair for pair in facts.about(finding.label) if language == "en" or pair.other.zh]
    if pairs:
        pair = rng.choice(pairs)
        relation = relation_of(pair, facts, rng)
        if relation:
            further.append("relation")
            slots["related"] = relation_words(relation, pair.other, language, "phrase")
            slots["relates"] = relation_words(relation, pair.other, language, "says", finding.label.en)
    most = 0 if brief else rng.choice(FURTHER_DETAILS)
    kinds = [*(["size"] if finding.size else []), *rng.sample(further, min(len(further), most))]
    rng.shuffle(kinds)
    return _Details(tuple(kinds), slots)


def _slots(finding: FindingFacts, facts: CaseFacts, language: Language, rng: random.Random) -> dict[str, Any]:
    """Return the slots that name a finding and its place, by its own name or another one."""
    label, words = finding.label, caption_words(language)
    others = facts.synonyms[label, language]
    named = label
    if others and rng.random() < SYNONYM_SHARE:
        named = Term(rng.choice(others), label.zh) if language == "en" else Term(label.en, rng.choice(others))
    slots: dict[str, Any] = dict(subject_slots(label, language, called=named.in_language(language)))
    count = facts.count(label)
    a = slots.get("a_subject", slots["subject"])
    if count == 1 and label in facts.counted and not slots["is_mass"] and rng.random() < ONE_SHARE:
        a = rng.choice(words["one"]).format(**slots)
    counted = f"{count} {slots['plural']}" if language == "en" else f"{count}{slots['measure']}{slots['subject']}"
    slots |= {"a": a, "A": capital(a), "count": counted, "Count": counted}
    slots["agreement"] = agreement(slots["subject"])
    slots |= slots["agreement"]
    if finding.position:
        slots["position"] = finding.position.in_language(language)
        if language == "en":
            place = rng.choice(words["places"]).format(position=slots["position"])
            slots |= {"place": place, "Place": capital(place)}
    return slots
