"""Translation into Chinese through the same endpoint: terms of the vocabulary enforced, checked like any other text."""

import json
import re
from collections import Counter
from functools import partial
from typing import Any

from gmai_vl.endpoint import Client, Request
from gmai_vl.foundation import stable_rng
from gmai_vl.records import Turn
from gmai_vl.vocabulary import Term
from gmai_vl.writing.claims.reading import says
from gmai_vl.writing.facts import CaseFacts
from gmai_vl.writing.llm.drafts import TRIES, Drafted, draft
from gmai_vl.writing.llm.jobs import Job, Rounds, sample_of_job, statement_of
from gmai_vl.writing.llm.prompts import prompt_id, prompt_template, system_prompt
from gmai_vl.writing.verify_facts import MeasuredCase

_TOKENS_PER_CHARACTER = 2
"""Of English: room enough for its Chinese, also where a tokenizer was made for English only."""

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def has_chinese(facts: CaseFacts) -> bool:
    """Say whether everything that the annotation names has a Chinese name: only then is a text translated."""
    return all(term.zh for term in terms_of(facts) if term not in facts.absent)


def terms_of(facts: CaseFacts) -> list[Term]:
    """Return what a translation has to call by its name in the vocabulary."""
    named = (*facts.labels, *facts.absent, facts.negative, facts.modality, facts.plane, facts.body_part, facts.grade)
    return list(dict.fromkeys(term for term in named if term is not None))


def translate(
    client: Client,
    job: Job,
    rounds: Rounds,
    case: MeasuredCase,
    facts: CaseFacts,
    *,
    number: int,
    names: tuple[object, ...],
) -> Drafted:
    """Have the texts of a sample translated; what it stands under is said in Chinese by the template writer.

    But the report of a conversation without image is translated too: another one may not hold what is asked for.
    """
    if not job.has_image:
        (question, said), *others = rounds
        rounds = ((f"{statement_of(facts, 'en', *names)} {question}", said), *others)
    texts = [text for question, said in rounds for text in (question, said) if text is not None]
    terms = [term for term in terms_of(facts) if term.zh and any(says(term, text, "en") for text in texts)]
    listed = "\n".join(f"- {term.en}: {term.zh}" for term in terms)
    wish = prompt_template("translate").format(terms=listed, texts=json.dumps(texts, ensure_ascii=False))
    array = {"type": "array", "items": {"type": "string"}, "minItems": len(texts), "maxItems": len(texts)}
    request = Request(
        turns=(Turn("system", (system_prompt(),)), Turn("user", (wish,))),
        max_tokens=64 + _TOKENS_PER_CHARACTER * sum(map(len, texts)),
        seed=stable_rng(*names, "translate").getrandbits(31),
        schema={"type": "object", "properties": {"texts": array}, "required": ["texts"], "additionalProperties": False},
    )
    put_together = partial(
        sample_of_job,
        job,
        language="zh",
        case=case,
        facts=facts,
        number=number,
        prompt=prompt_id("translate"),
        writer=client.settings.model,
        names=names,
        with_statement=False,
    )
    return draft(client, request, partial(_read, rounds, texts, terms), put_together, case, tries=TRIES)


def _read(rounds: Rounds, texts: list[str], terms: list[Term], answer: dict[str, Any]) -> Rounds | str:
    """Return the rounds in Chinese, or what is wrong with a translation that can be told from the English alone."""
    found = answer.get("texts")
    if not isinstance(found, list) or len(found) != len(texts) or not all(isinstance(text, str) for text in found):
        return f"`texts` is no list of {len(texts)} texts"
    found = [" ".join(text.split()) for text in found]
    for text, translated in zip(texts, found, strict=True):
        if not translated or not translated.isprintable():
            return "a text is empty, or holds invisible or broken characters"
        lost = Counter(_NUMBER.findall(text)) - Counter(_NUMBER.findall(translated))
        if lost:
            return f"numbers are lost: {', '.join(sorted(lost))}"
        for term in terms:
            if says(term, text, "en") and not says(term, translated, "zh"):
                return f"`{term.en}` has to be called {term.zh}"
    rest = iter(found)
    return tuple((None if question is None else next(rest), next(rest)) for question, _ in rounds)
