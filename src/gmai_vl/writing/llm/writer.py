"""The language model writer: prompts from facts, answers held against the annotation, a share translated."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmai_vl.endpoint import Client, Request
from gmai_vl.foundation import stable_fraction, stable_rng
from gmai_vl.records import Case, ImageRef, Sample, Turn
from gmai_vl.writing.facts import CaseFacts, facts_of
from gmai_vl.writing.llm.brief import brief_of, region_brief
from gmai_vl.writing.llm.drafts import TRIES, Draft, Drafted, draft
from gmai_vl.writing.llm.jobs import Job, jobs_of, rounds_of, sample_of_job, schema_of, statement_of
from gmai_vl.writing.llm.prompts import prompt_id, prompt_template, system_prompt
from gmai_vl.writing.llm.translate import has_chinese, translate
from gmai_vl.writing.samples import sample_id
from gmai_vl.writing.verify_facts import MeasuredCase, measured

_TRANSLATED_FROM = 100
"""Added to the number of a text for that of its translation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LlmOptions:
    """How a model is to write."""

    zh_share: float
    """Share of the texts that are translated into Chinese besides, 0-1."""

    temperature: float
    send_images: bool
    image_side: int
    """Longest side in pixels of the image that is sent."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote about a case: samples that hold, and what became of every text."""

    samples: tuple[Sample, ...]
    drafts: tuple[Draft, ...]


def write_with_llm(case: Case, *, client: Client, options: LlmOptions, seed: int, subsets: Sequence[str]) -> Written:
    """Ask a model for texts about `case`, check them, and have a share of them translated.

    Given the same replies, equal arguments give equal results. Raises BadItem as `facts_of` does, and EndpointError if
    the endpoint cannot be asked.
    """
    facts, measured_case = facts_of(case), measured(case)
    image = sent_image(case, options)
    samples: list[Sample] = []
    drafts: list[Draft] = []
    for job in jobs_of(facts, subsets, seed, case.case_id):
        names = (seed, case.case_id, job.number)
        done = write_job(client, job, measured_case, facts, image, options.temperature, names)
        prompt = prompt_id(f"guided/{job.route}")
        drafts.append(_history(done, job, case, client, job.number, job.route, prompt))
        if done.sample is None:
            continue
        samples.append(done.sample)
        if stable_fraction(*names, "zh") < options.zh_share and has_chinese(facts):
            number = _TRANSLATED_FROM + job.number
            translated = translate(client, job, done.rounds, measured_case, facts, number=number, names=names)
            drafts.append(_history(translated, job, case, client, number, "translate", prompt_id("translate")))
            samples += [] if translated.sample is None else [translated.sample]
    return Written(tuple(samples), tuple(drafts))


def write_job(
    client: Client,
    job: Job,
    case: MeasuredCase,
    facts: CaseFacts,
    image: NDArray[np.uint8] | None,
    temperature: float,
    names: tuple[object, ...],
    *,
    guided: bool = True,
    tries: int = TRIES,
) -> Drafted:
    """Have one text written: with what the annotation tells or, unless `guided`, from the image alone."""
    way = f"{'guided' if guided else 'unguided'}/{job.route}"
    content: tuple[str | ImageRef, ...] = (_filled(way, job, facts, names),)
    if image is not None and job.has_image:
        content = (ImageRef(0), *content)
    request = Request(
        turns=(Turn("system", (system_prompt(),)), Turn("user", content)),
        images=(image,) if image is not None and job.has_image else (),
        max_tokens=job.max_tokens,
        temperature=temperature,
        seed=stable_rng(*names, "seed").getrandbits(31),
        schema=schema_of(job),
    )
    put_together = partial(
        sample_of_job,
        job,
        language="en",
        case=case,
        facts=facts,
        number=job.number,
        prompt=prompt_id(way),
        writer=client.settings.model,
        names=names,
    )
    return draft(client, request, partial(rounds_of, job), put_together, case, tries=tries)


def sent_image(case: Case, options: LlmOptions) -> NDArray[np.uint8] | None:
    """Return the image as it is sent, [H, W] or [H, W, 3], no side above the longest; None where none is sent."""
    return within(case.pixels, options.image_side) if options.send_images else None


def within(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return an image [H, W] or [H, W, 3], made smaller where one of its sides is longer than `side`."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _filled(way: str, job: Job, facts: CaseFacts, names: tuple[object, ...]) -> str:
    region = "" if job.finding is None else region_brief(facts.findings[job.finding])
    statement = "" if job.has_image else statement_of(facts, "en", *names)
    return prompt_template(way).format(facts=brief_of(facts), region=region, statement=statement)


def _history(done: Drafted, job: Job, case: Case, client: Client, number: int, route: str, prompt: str) -> Draft:
    return Draft(
        sample_id=sample_id(case, number),
        case_id=case.case_id,
        source=case.source,
        route=route,
        language="zh" if route == "translate" else "en",
        writer=client.settings.model,
        prompt_id=prompt,
        outcome=done.outcome,
        failed=done.failed,
    )
