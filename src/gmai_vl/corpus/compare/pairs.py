"""Has every case of a recipe written about twice, with what the annotation tells and without, and checks both."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmai_vl.corpus.parts import Part, plan_parts
from gmai_vl.corpus.recipe import DataRecipe, LlmWriter, purse_of, read_recipe
from gmai_vl.endpoint import Client, in_order, store_path
from gmai_vl.foundation import BadItem, UserError, progress
from gmai_vl.records import Case, Rejected
from gmai_vl.sources import read_item
from gmai_vl.writing.facts import CaseFacts, facts_of
from gmai_vl.writing.llm import Drafted, Job, brief_of, jobs_of, sent_image, within, write_job
from gmai_vl.writing.verify_facts import MeasuredCase, measured

_SHOWN_SIDE = 320

ROUTES = ("caption", "instruct")
"""What can be asked for without an annotation: a description of the whole image, a question with its answer."""


@dataclass(frozen=True, slots=True)
class Side:
    """One text and what the verifier finds wrong with it."""

    text: str
    faults: dict[str, str]

    @property
    def holds(self) -> bool:
        """Whether every check passed."""
        return not self.faults


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One image written about in both ways."""

    case_id: str
    source: str
    route: str
    told: str
    """What the annotation tells, as the guided prompt had it."""

    guided: Side
    """As first written."""

    guided_again: Side
    """The same, or what came when it was written again."""

    unguided: Side
    image: NDArray[np.uint8]
    """[H, W] or [H, W, 3], no side above 320 pixels."""


def compare_writers(recipe_path: Path, limit: int | None = None) -> Iterator[Pair]:
    """Yield a pair for every case (of the first `limit`) and every route that the recipe's subsets ask for.

    Replies are kept as for a build, so that an interrupted comparison goes on where it stopped, and texts that a build
    has asked for are not asked for again. Raises UserError if no model writes for the recipe, EndpointError if it
    cannot be asked.
    """
    recipe = read_recipe(recipe_path)
    writer = recipe.writer
    if not isinstance(writer, LlmWriter):
        raise UserError(
            f"{recipe_path}: writer: is `template`; compare-writers needs `kind: llm` with `url` and `model`"
        )
    routes = [route for route in ROUTES if route in recipe.subsets]
    if not routes:
        raise UserError(f"{recipe_path}: subsets: neither caption nor instruct is among them; add one")
    try:
        parts = plan_parts(recipe, recipe_path)
    except UserError as error:
        raise UserError(f"{recipe_path}: {error}") from None
    with Client(writer.endpoint, store_path(), purse_of(recipe)) as client:
        total = sum(len(part.items) for part in parts)  # more where items are volumes
        cases = _cases(recipe, parts, limit)
        pairs = partial(_pairs_of, recipe=recipe, writer=writer, routes=routes, client=client)
        for some in progress(in_order(pairs, cases, writer.concurrency), f"{recipe.name}: images", limit or total):
            yield from some


def _cases(recipe: DataRecipe, parts: Sequence[Part], limit: int | None) -> Iterator[Case]:
    """Yield cases with an annotation, of all sources in turn, so that the first few are of every kind."""
    sources = {source.name: _cases_of(source.name, parts) for source in recipe.sources}
    seen = 0
    while sources and (limit is None or seen < limit):
        for name in list(sources):
            case = next(sources[name], None)
            if case is None:
                del sources[name]
            elif limit is None or seen < limit:
                seen += 1
                yield case


def _cases_of(source: str, parts: Sequence[Part]) -> Iterator[Case]:
    for part in parts:
        for item in part.items if part.source.name == source else ():
            for outcome in read_item(part.source, part.root, item):
                if not isinstance(outcome, Rejected) and outcome.task != "qa":
                    yield outcome


def _pairs_of(
    case: Case, *, recipe: DataRecipe, writer: LlmWriter, routes: Sequence[str], client: Client
) -> list[Pair]:
    try:
        facts = facts_of(case)
    except BadItem:
        return []  # a build quarantines it with its reason
    jobs = [job for job in jobs_of(facts, recipe.subsets, recipe.seed, case.case_id) if job.route in routes]
    small = within(case.pixels, _SHOWN_SIDE)
    return [_pair(job, case, facts, small, recipe, writer, client) for job in jobs]


def _pair(
    job: Job,
    case: Case,
    facts: CaseFacts,
    small: NDArray[np.uint8],
    recipe: DataRecipe,
    writer: LlmWriter,
    client: Client,
) -> Pair:
    measured_case: MeasuredCase = measured(case)
    image = sent_image(case, writer.options)
    names = (recipe.seed, case.case_id, job.number)
    write = partial(write_job, client, job, measured_case, facts, image, writer.temperature, names)
    guided, unguided = write(guided=True), write(guided=False, tries=1)
    return Pair(
        case_id=case.case_id,
        source=case.source,
        route=job.route,
        told=brief_of(facts),
        guided=_first(guided),
        guided_again=_last(guided),
        unguided=_first(unguided),
        image=small,
    )


def _first(done: Drafted) -> Side:
    return Side(_plain(done.failed[0].text), done.failed[0].faults) if done.failed else Side(_said(done), {})


def _last(done: Drafted) -> Side:
    return Side(_said(done), {}) if done.sample else Side(_plain(done.failed[-1].text), done.failed[-1].faults)


def _said(done: Drafted) -> str:
    return "\n".join(text for one in done.rounds for text in one if text)


def _plain(reply: str) -> str:
    """Return the texts in a model's JSON, or the reply as it is."""
    try:
        value: Any = json.loads(reply)
    except ValueError:
        return reply
    texts = [str(text) for text in value.values()] if isinstance(value, dict) else []
    return "\n".join(texts) or reply
