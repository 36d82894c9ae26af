"""A model scores the same pairs that people do; its scores lie beside theirs, in the same form."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from gmai_vl.corpus.reader import Corpus
from gmai_vl.corpus.review.cells import scores_text
from gmai_vl.corpus.review.draw import Draw, Pair
from gmai_vl.corpus.review.rubric import AXES, JUDGE_PREFIX, LEVELS, Scores, rubric
from gmai_vl.corpus.review.sheets import conversation, facts_for_people
from gmai_vl.endpoint import Client, EndpointSettings, Refusal, Request, in_order, parsed, store_path
from gmai_vl.foundation import progress, write_text
from gmai_vl.records import ImageRef, Turn

_MOST_TOKENS = 400
"""Of an answer: four numbers and a sentence."""

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {axis: {"type": "integer", "enum": list(LEVELS)} for axis in AXES} | {"comment": {"type": "string"}},
    "required": [*AXES, "comment"],
    "additionalProperties": False,
}


def judge(
    corpus: Corpus, drawn: Draw, settings: EndpointSettings, folder: Path, *, with_images: bool
) -> dict[str, str]:
    """Have a model score all pairs of `drawn` and write them as a file of scores; return pair -> why it has none.

    What was answered before comes from the endpoint's cache. Raises UserError if the server cannot be asked, or not on.
    """
    rater = judge_name(settings.model, with_images)
    scored: dict[str, tuple[Scores, str]] = {}
    failed: dict[str, str] = {}
    purse = f"review {drawn.corpus} {drawn.fingerprint[:12]}"
    with Client(settings, store_path(), purse) as client:

        def ask(pair: Pair) -> tuple[Scores, str] | str:
            reply = client.ask(request_for(corpus, pair, with_images=with_images))
            return f"refused: {reply.reason}" if isinstance(reply, Refusal) else scores_in(parsed(reply))

        answers = in_order(ask, drawn.pairs, settings.concurrency)
        for pair, answer in zip(drawn.pairs, progress(answers, rater, len(drawn.pairs)), strict=True):
            if isinstance(answer, str):
                failed[pair.name] = answer
                scored[pair.name] = {}, f"no scores: {answer}"
            else:
                scored[pair.name] = answer
    write_text(folder / f"scores-{_as_file_name(rater)}.csv", scores_text(rater, scored))
    return failed


def judge_name(model: str, with_images: bool) -> str:
    """Return the rater's name of a model: it tells the wording of the prompt and what the model saw."""
    return f"{JUDGE_PREFIX}{model} (prompt {_prompt()['version']}{'' if with_images else ', no images'})"


def request_for(corpus: Corpus, pair: Pair, *, with_images: bool) -> Request:
    """Return what the model is asked about a pair."""
    prompt, sample = _prompt(), pair.sample
    images = tuple(corpus.image(image) for image in sample.images) if with_images else ()
    axes = "\n".join(f"- {axis}: {rubric()['axes'][axis]['asks_en']}" for axis in AXES)
    asked = prompt["user"].format(
        seen=prompt["with_image" if images else "without_image" if sample.images else "text_alone"],
        facts="\n".join(f"{name}: {value}" for name, value in facts_for_people(sample)),
        language=sample.language,
        conversation=conversation(sample),
        axes=axes,
        levels=", ".join(f"{level} {word['en']}" for level, word in rubric()["levels"].items()),
    )
    return Request(
        turns=(
            Turn("system", (prompt["system"],)),
            Turn("user", (*map(ImageRef, range(len(images))), asked)),
        ),
        images=images,
        max_tokens=_MOST_TOKENS,
        schema=_SCHEMA,
    )


def scores_in(answer: Mapping[str, Any] | str) -> tuple[Scores, str] | str:
    """Return scores and comment of an answer, or why it has none."""
    if isinstance(answer, str):
        return answer
    scores: Scores = {}
    for axis in AXES:
        value = answer.get(axis)
        # Servers without schemas give "2" for 2, which can mean nothing else; True is no number.
        if isinstance(value, bool) or str(value).strip() not in map(str, LEVELS):
            return f"{axis} is {str(value)[:40]!r}, no whole number from 1 to 5"
        scores[axis] = int(str(value))
    return scores, " ".join(str(answer.get("comment") or "").split())[:500]


def _as_file_name(rater: str) -> str:
    return re.sub(r"[^\w.]+", "-", rater.removeprefix(JUDGE_PREFIX)).strip("-.")


@cache
def _prompt() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(
        (files("gmai_vl.corpus.review") / "judge.yaml").read_text(encoding="utf-8")
    )
    return content
