"""One question and its answer in words: an `Ask` in a style and a language."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gmai_vl.records import Kind, Region
from gmai_vl.vocabulary import Language, Term
from gmai_vl.writing.asks import Ask
from gmai_vl.writing.captions import image_caption, region_caption
from gmai_vl.writing.facts import NO_FINDING, YES, CaseFacts, FindingFacts
from gmai_vl.writing.markup import boxes_markup, grounding_markup
from gmai_vl.writing.phrases import (
    Style,
    any_prompt,
    capital,
    definite,
    image_name,
    relation_words,
    sentence,
    subject_slots,
    with_article,
    wording,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A question as asked and the answer as given."""

    form: str
    kind: Kind
    granularity: str
    language: Language
    prompt_id: str
    question: str
    said: str
    """The assistant's text."""

    answer: str | None = None
    """What an answer is scored against: the letter of a choice, else what is said; None for captions."""

    options: dict[str, str] | None = None
    subject: Term | None = None
    other: Term | None = None
    claim: Term | None = None
    listed: tuple[Term, ...] = ()
    right: tuple[Term, ...] = ()
    regions: tuple[Region, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return form, style, prompt and what was asked about, in English."""
        return {
            "form": self.form,
            "kind": self.kind,
            "prompt_id": self.prompt_id,
            "subject": self.subject.en if self.subject else None,
            "other": self.other.en if self.other else None,
            "claim": self.claim.en if self.claim else None,
            "listed": [label.en for label in self.listed],
            "right": [right.en for right in self.right],
            "options": self.options,
            "letter": self.answer if self.options else None,
        }


def exchange_of(ask: Ask, style: Style, language: Language, facts: CaseFacts, rng: random.Random) -> Exchange:
    """Put `ask` into words. Raises ValueError if a term has no name in `language`."""
    slots: dict[str, Any] = subject_slots(ask.subject, language) if ask.subject else {}
    slots["box"] = f"<box>{boxes_markup(ask.boxes, facts.width, facts.height)}</box>"
    if ask.other:
        slots["the_other"] = subject_slots(ask.other, language).get("the_subject", ask.other.in_language(language))
    slots["listed"] = _joined(ask.listed, language)
    if ask.claim:
        slots["claim"] = ask.claim.in_language(language)
    prompt_id, text = any_prompt(_prompt_key(ask, style), style, language, rng)
    options, letter = None, None
    if style in ("mcq", "mcq-text"):
        options = _options(ask, language, rng)
        slots["options"] = "\n".join(f"{place}. {option}" for place, option in options.items())
        right = ask.right[0].in_language(language)
        letter = next(place for place, option in options.items() if option == right)
    kinds: dict[Style, Kind] = {
        "mcq": "mcq",
        "mcq-text": "mcq",
        "closed": "closed",
        "open": "open",
        "free": "dialogue",
        "plain": "grounding",
    }
    label = ask.right[0] if ask.form == "region-kind" else ask.subject
    said = _said(ask, style, options, letter, slots, language, facts, rng)
    return Exchange(
        form=ask.form,
        kind=kinds[style],
        granularity="box" if ask.form in ("region-kind", "grounding") else "image",
        language=language,
        prompt_id=prompt_id,
        question=text.format(**slots),
        said=said,
        answer=letter or said,
        options=options,
        subject=ask.subject,
        other=ask.other,
        claim=ask.claim,
        listed=ask.listed,
        right=ask.right[:1] if options else ask.right,
        regions=tuple(Region(label=label.in_language(language), box=box) for box in ask.boxes) if label else (),
    )


def caption_exchange(facts: CaseFacts, language: Language, rng: random.Random) -> Exchange:
    """Ask for a caption of the image. Raises ValueError if a term has no name in `language`."""
    prompt_id, text = any_prompt("caption", "plain", language, rng)
    return Exchange(
        form="caption",
        kind="caption",
        granularity="image",
        language=language,
        prompt_id=prompt_id,
        question=text,
        said=image_caption(facts, language, rng),
    )


def region_exchange(finding: FindingFacts, language: Language, facts: CaseFacts, rng: random.Random) -> Exchange:
    """Ask for a caption of the box of `finding`. Raises ValueError if its label has no name in `language`."""
    assert finding.box is not None
    prompt_id, text = any_prompt("region-caption", "plain", language, rng)
    return Exchange(
        form="region-caption",
        kind="caption",
        granularity="box",
        language=language,
        prompt_id=prompt_id,
        question=text.format(box=f"<box>{boxes_markup([finding.box], facts.width, facts.height)}</box>"),
        said=region_caption(finding, facts, language, rng),
        subject=finding.label,
        regions=(Region(label=finding.label.in_language(language), box=finding.box),),
    )


_ASKED_OTHERWISE_WITHOUT_OPTIONS = ("kind", "grade", "contact", "largest", "closest")


def _prompt_key(ask: Ask, style: Style) -> str:
    if ask.form in ("side", "laterality") and ask.is_closed:
        return f"{ask.form}-closed"
    if ask.form == "grounding" and len(ask.boxes) > 1:
        return "grounding-many"
    if ask.form in _ASKED_OTHERWISE_WITHOUT_OPTIONS and style in ("open", "free"):
        return f"{ask.form}-open"
    return ask.form


def _options(ask: Ask, language: Language, rng: random.Random) -> dict[str, str]:
    """Return letter -> text in an order of chance. Two terms that read alike stand once, the right one first."""
    texts = [term.in_language(language) for term in (ask.right[0], *ask.wrong)]
    texts = [text for place, text in enumerate(texts) if text.lower() not in map(str.lower, texts[:place])]
    rng.shuffle(texts)
    return dict(zip("ABCD", texts, strict=False))


def _said(
    ask: Ask,
    style: Style,
    options: dict[str, str] | None,
    letter: str | None,
    slots: dict[str, Any],
    language: Language,
    facts: CaseFacts,
    rng: random.Random,
) -> str:
    if ask.form == "grounding":
        return grounding_markup(slots["subject"], ask.boxes, facts.width, facts.height)
    if options and letter:
        return options[letter] if style == "mcq-text" else letter
    short = _joined(ask.right, language)
    if style != "free":
        return short
    if ask.other and ask.form in ("relation", "contact"):
        subject = ask.subject.en if ask.subject else ""
        slots["relates"] = relation_words(ask.right[0], ask.other, language, "says", subject)
    slots |= {"answer": short, "image": image_name(facts, language, whole=False)}
    if language == "en":
        slots["a_answer"] = with_article(ask.right[0])
        slots["the_answer"] = definite(short)
        slots["The_answer"] = capital(slots["the_answer"])
        slots["counted"] = slots.get("subject") if short == "1" else slots.get("plural")
    else:
        slots["a_answer"] = short
    return capital(sentence(_answer_key(ask), language, rng, **slots))


def _answer_key(ask: Ask) -> str:
    if ask.is_closed:
        return f"{ask.form}-{'yes' if ask.right == (YES,) else 'no'}"
    if ask.form == "kind":
        return "kind-none" if ask.right == (NO_FINDING,) else "kind-many" if len(ask.right) > 1 else "kind-open"
    return ask.form


def _joined(terms: Sequence[Term], language: Language) -> str:
    join: str = wording(language)["join"]
    return join.join(term.in_language(language) for term in terms)
