"""Captions: what is in the image, how many, where and how large; and what is in a region of it."""

import random

from gmai_vl.vocabulary import Language, Term
from gmai_vl.writing.facts import NO_FINDING, CaseFacts, FindingFacts, is_normal
from gmai_vl.writing.phrases import capital, image_name, sentence, subject_slots, wording

MOST_SENTENCES = 4
"""Labels that get a sentence of their own; the rest is named in one last sentence."""


def image_caption(facts: CaseFacts, language: Language, rng: random.Random) -> str:
    """Describe the whole image: what it is, then every label once, or that nothing is there.

    Findings come before organs, the larger before the smaller. Raises ValueError if a term has no name in `language`.
    """
    name = image_name(facts, language, whole=True)
    sentences = [sentence("captions", "image", language, rng, image=name, Image=capital(name))]
    labels = sorted(facts.labels, key=lambda label: (is_normal(label), -_largest_share(facts, label)))
    sentences += [_label_sentence(facts, label, language, rng) for label in labels[:MOST_SENTENCES]]
    if labels[MOST_SENTENCES:]:
        rest = wording(language)["join"].join(label.in_language(language) for label in labels[MOST_SENTENCES:])
        sentences.append(sentence("captions", "more", language, rng, labels=rest))
    if facts.negative and not facts.findings:
        sentences.append(_negative_sentence(facts.negative, language, rng))
    return wording(language)["gap"].join(sentences)


def region_caption(finding: FindingFacts, language: Language, rng: random.Random) -> str:
    """Describe one boxed finding; the text begins with "This region" or 该区域.

    Raises ValueError if the label has no name in `language`.
    """
    key = "region-placed" if finding.position and finding.size else "region-sized" if finding.size else "region"
    return sentence("captions", key, language, rng, **_slots(finding, language))


def _largest_share(facts: CaseFacts, label: Term) -> float:
    return max(finding.area_share or 0.0 for finding in facts.of(label))


def _label_sentence(facts: CaseFacts, label: Term, language: Language, rng: random.Random) -> str:
    findings = facts.of(label)
    largest = max(findings, key=lambda finding: finding.area_share or 0.0)
    slots = _slots(largest, language)
    if len(findings) == 1:
        key = "plain" if not largest.size else "placed" if largest.position else "sized"
    elif label in facts.counted:
        slots |= {"count": str(len(findings))}
        only_one_largest = [finding.area_share for finding in findings].count(largest.area_share) == 1
        key = "many-placed" if largest.position and only_one_largest else "many"
    else:
        key = "plain"
    return sentence("captions", key, language, rng, **slots)


def _negative_sentence(negative: Term, language: Language, rng: random.Random) -> str:
    if negative.en.lower() == NO_FINDING.en:
        return sentence("captions", "no-finding", language, rng)
    return sentence("captions", "negative", language, rng, negative=negative.in_language(language))


def _slots(finding: FindingFacts, language: Language) -> dict[str, str]:
    slots = subject_slots(finding.label, language)
    if finding.position:
        slots["position"] = finding.position.in_language(language)
    if finding.size:
        slots["size"] = finding.size.in_language(language)
    return slots
