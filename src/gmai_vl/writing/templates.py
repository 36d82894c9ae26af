"""The template writer: a case, its facts and chance in; samples out, each checked against the case before it leaves."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gmai_vl.foundation import stable_fraction, stable_rng
from gmai_vl.records import Case, ImageRef, Provenance, Sample, Subset, Turn
from gmai_vl.vocabulary import Language, Term
from gmai_vl.writing.asks import Ask
from gmai_vl.writing.comparisons import further_asks_of
from gmai_vl.writing.exchange import Exchange, caption_exchange, exchange_of, region_exchange
from gmai_vl.writing.facts import CaseFacts, facts_of
from gmai_vl.writing.phrases import ChoiceStyle, Style
from gmai_vl.writing.questions import asks_of, tellable_regions
from gmai_vl.writing.samples import checked, sample_about

MOST_REGION_CAPTIONS = 2
MOST_FURTHER = 2
"""Further questions (comparisons, measurements) of a case: more of them than of the core would drown it."""

FEWEST_TURNS, MOST_TURNS = 3, 8


@dataclass(frozen=True, slots=True)
class _Chance:
    """Everything that is left to chance in one case: it depends on the names given and nothing else."""

    names: tuple[object, ...]
    languages: Mapping[Language, float]

    def rng(self, *names: object) -> random.Random:
        return stable_rng(*self.names, *names)

    def language(self, terms: Iterable[Term | None], *names: object) -> Language:
        """Choose a language by its share; English where one of the terms to be said has no Chinese name."""
        left = stable_fraction(*self.names, "language", *names) * sum(self.languages.values())
        chosen: Language = "en"
        for language, share in sorted(self.languages.items()):
            if share > 0:
                chosen = language
            if left < share:
                break
            left -= share
        return chosen if all(term is None or term.zh for term in terms) else "en"


def write_samples(
    case: Case,
    *,
    seed: int,
    languages: Mapping[Language, float],
    subsets: Sequence[str],
    answer_with: Literal["letter", "text"] = "letter",
    further: bool = True,
) -> list[Sample]:
    """Write what the annotation of `case` allows: captions, perception questions, a dialogue and an open question.

    `languages` gives the share of each language, `subsets` names those of caption, percept and instruct that are
    wanted, `answer_with` what the assistant says to a multiple-choice question: the option's letter or its text.
    `further` adds at most two questions of the further forms (`comparisons.py`). Equal arguments give equal samples; a
    subset's texts do not depend on the others. Raises BadItem if a label cannot stand in a text (blank, control
    characters, angle brackets).
    """
    facts = facts_of(case)
    chance = _Chance((seed, case.case_id), languages)
    choice: ChoiceStyle = "mcq" if answer_with == "letter" else "mcq-text"
    most = MOST_FURTHER if further else 0
    drafts: list[tuple[Subset, list[Exchange]]] = []
    if "caption" in subsets:
        drafts += [("caption", [exchange]) for exchange in _captions(facts, chance)]
    if "percept" in subsets:
        drafts += [("percept", [exchange]) for exchange in _perceptions(facts, chance, choice, most)]
    if "instruct" in subsets:
        drafts += [("instruct", exchanges) for exchanges in _instructions(facts, chance, most)]
    return checked((_sample(case, facts, number, *draft) for number, draft in enumerate(drafts)), case)


def _captions(facts: CaseFacts, chance: _Chance) -> Iterator[Exchange]:
    terms = (*facts.labels, facts.negative, facts.body_part)
    yield caption_exchange(facts, chance.language(terms, "caption"), chance.rng("caption"))
    regions = tellable_regions(facts)
    chance.rng("regions").shuffle(regions)
    for number, finding in enumerate(regions[:MOST_REGION_CAPTIONS]):
        name = f"region-caption-{number}"
        yield region_exchange(finding, chance.language([finding.label], name), facts, chance.rng(name))


def _perceptions(facts: CaseFacts, chance: _Chance, choice: ChoiceStyle, most_further: int) -> Iterator[Exchange]:
    asks = asks_of(facts, *chance.names, "percept")
    scored = [ask for ask in further_asks_of(facts, *chance.names, "percept") if _strict_style(ask, choice)]
    for number, ask in enumerate(asks + _some_of(scored, most_further, chance.rng("percept-further"))):
        style = _strict_style(ask, choice)
        if style:
            name = f"percept-{ask.form}-{number}"
            yield exchange_of(ask, style, chance.language(ask.terms, name), facts, chance.rng(name))


def _instructions(facts: CaseFacts, chance: _Chance, most_further: int) -> Iterator[list[Exchange]]:
    dialogue = _dialogue(facts, chance, most_further)
    if len(dialogue) >= FEWEST_TURNS:
        yield dialogue
    rng = chance.rng("open")
    # What the image shows is the question that an open one is best at; the others come in as often together.
    # A size has no fair open answer: between the limits that the question names, who is to say which word is meant?
    asks = [
        ask
        for ask in _all_asks(facts, chance, "open", most_further)
        if ask.form not in ("grounding", "size") and not ask.is_closed
    ]
    kinds = [ask for ask in asks if ask.form == "kind"]
    ask = kinds[0] if kinds and rng.random() < 0.5 else rng.choice(asks)
    ask = replace(ask, wrong=())
    yield [exchange_of(ask, "open", chance.language(ask.terms, "open"), facts, rng)]


def _all_asks(facts: CaseFacts, chance: _Chance, name: str, most_further: int) -> list[Ask]:
    """Return the questions of the core and some further ones, in that order."""
    further = further_asks_of(facts, *chance.names, name)
    return asks_of(facts, *chance.names, name) + _some_of(further, most_further, chance.rng(f"{name}-further"))


def _some_of(asks: list[Ask], most: int, rng: random.Random) -> list[Ask]:
    return [asks[index] for index in sorted(rng.sample(range(len(asks)), min(most, len(asks))))]


def _dialogue(facts: CaseFacts, chance: _Chance, most_further: int) -> list[Exchange]:
    """Return up to eight turns about one image, from the general to the particular, answered in free words.

    A case that allows fewer questions is summed up by a caption at the end.
    """
    rng = chance.rng("dialogue")
    asks = [replace(ask, wrong=()) for ask in _all_asks(facts, chance, "dialogue", most_further)]
    with_caption = len(asks) < MOST_TURNS
    chosen = [asks[index] for index in sorted(rng.sample(range(len(asks)), min(MOST_TURNS, len(asks))))]
    described = (*facts.labels, facts.negative, facts.body_part) if with_caption else ()
    language = chance.language([*(term for ask in chosen for term in ask.terms), *described], "dialogue")
    exchanges = [
        exchange_of(ask, "plain" if ask.form == "grounding" else "free", language, facts, rng) for ask in chosen
    ]
    return [*exchanges, caption_exchange(facts, language, rng)] if with_caption else exchanges


def _strict_style(ask: Ask, choice: ChoiceStyle) -> Style | None:
    """Return the style whose answer can be scored as it stands; None if there is none for this question."""
    if ask.form == "grounding":
        return "plain"
    if ask.is_closed:
        return "closed"
    return choice if ask.wrong else None


def _sample(case: Case, facts: CaseFacts, number: int, subset: Subset, exchanges: list[Exchange]) -> Sample:
    first, several = exchanges[0], len(exchanges) > 1
    turns: list[Turn] = []
    for exchange in exchanges:
        image = (ImageRef(0),) if not turns else ()
        turns += [Turn("user", (*image, exchange.question)), Turn("assistant", (exchange.said,))]
    told = {"form": "dialogue"} if several else first.as_json()
    if several:
        told |= {"turns": [exchange.as_json() for exchange in exchanges]}
    return sample_about(
        case,
        number,
        subset=subset,
        kind="dialogue" if several else first.kind,
        granularity="image" if several else first.granularity,
        language=first.language,
        turns=tuple(turns),
        options=None if several else first.options,
        answer=None if several else first.answer,
        regions=tuple(dict.fromkeys(region for exchange in exchanges for region in exchange.regions)),
        provenance=Provenance(
            writer="template",
            prompt_id=f"template/dialogue/{first.language}/0" if several else first.prompt_id,
            facts=told | {"case": facts.as_json(None if several else first.subject)},
        ),
    )
