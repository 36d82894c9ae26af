"""Questions as TRL takes them: a row each, its conversation and images made when it is asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from datasets import Dataset
from PIL import Image
from transformers import LlavaProcessor

from gmai_vl.evaluation import Question
from gmai_vl.evaluation.benchmarks.benchmark import ImageOf
from gmai_vl.foundation import UserError, stable_rng
from gmai_vl.model.images import sized
from gmai_vl.reasoning.items import About
from gmai_vl.records import ImageRef

READ_AT_A_TIME = 256
"""Images in memory; the answers to one question ask for its image one after the other."""


def of_difficulty(
    questions: Sequence[Question], about: Mapping[str, About], bounds: tuple[float, float] | None, model_sha256: str
) -> list[Question]:
    """Return the questions whose share of right tries is within `bounds`, both included; all where there are none.

    Raises UserError where a question has no estimate by the model of that hash, or none is within. An estimate of the
    question in other words, by another prompt too, is none (`read_items`).
    """
    if bounds is None:
        return list(questions)
    kept = []
    for question in questions:
        difficulty = about[question.id].difficulty
        if difficulty is None or difficulty.model_sha256 != model_sha256:
            raise UserError(
                f"difficulty: `{question.id}` has no estimate by the model that the training begins with, asked as it "
                "is now; run `gmai reason difficulty` with this model and the recipe's `prompt` first"
            )
        if bounds[0] <= difficulty.accuracy <= bounds[1]:
            kept.append(question)
    if not kept:
        raise UserError(f"difficulty: none of {len(questions)} questions lies within {list(bounds)}; widen it")
    return kept


def with_shuffled_labels(questions: Sequence[Question], seed: int) -> list[Question]:
    """Return the questions with right letters drawn anew, each of its options as likely: a control learns nothing."""
    return [
        replace(question, answer=stable_rng(seed, "label", question.id).choice(list(question.options or {})))
        for question in questions
    ]


def dataset_of(questions: Sequence[Question], image: ImageOf, processor: LlavaProcessor) -> Dataset:
    """Return a dataset of rows `{"prompt": messages, "place": place in questions}`; images are read as rows are.

    Images come in the size that the model sees: TRL copies and prepares them for each answer, and twice.
    """

    @lru_cache(READ_AT_A_TIME)
    def shown(name: str) -> Image.Image:
        return sized(processor, Image.fromarray(image(name)))

    def rows(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        return {"place": batch["place"], "prompt": [_messages(questions[place], shown) for place in batch["place"]]}

    dataset = Dataset.from_dict({"place": list(range(len(questions)))})
    dataset.set_transform(rows)
    return dataset


def _messages(question: Question, shown: Callable[[str], Image.Image]) -> list[dict[str, Any]]:
    return [
        {"role": turn.role, "content": [_part(part, question, shown) for part in turn.content]}
        for turn in question.turns
    ]


def _part(part: str | ImageRef, question: Question, shown: Callable[[str], Image.Image]) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image", "image": shown(question.images[part.index])}
