"""Ask by likelihood: of the options of a question, the one that the model holds the most likely is its answer."""

from collections.abc import Callable, Mapping, Sequence
from math import exp, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gmai_vl.evaluation.calibration import Calibration, calibration
from gmai_vl.evaluation.prompts import BY_LIKELIHOOD
from gmai_vl.evaluation.question import Question
from gmai_vl.evaluation.saved import saved_answers
from gmai_vl.foundation import UserError, progress

if TYPE_CHECKING:  # so that scoring needs no torch
    from gmai_vl.model import Vlm, Weighing

PREFIX = "The answer is"
"""What the assistant has begun to say where the prompt shows no options (OmniMedVQA, arXiv 2402.09181)."""

QUESTIONS_PER_CALL = 64
"""So many share image features, and are lost where a run is killed."""


def weigh(
    vlm: "Vlm",
    questions: Sequence[Question],
    image_of: Callable[[str], NDArray[np.uint8]],
    out: Path,
    *,
    prompt: str | None,
    batch_size: int | None = None,
) -> dict[str, str]:
    """Weigh the options of every question that the predictions file `out` has no answer to; return id -> letter.

    By the prompt `omnimedvqa-prefix` the texts of the options are weighed, each with a dot, after "The answer is"; by
    any other the letters, right where the answer begins. The answer is the option of the smallest mean loss of a
    token, the first of equals; `out` holds all losses beside it. Raises UserError where a question is no multiple
    choice, or `out` holds anything but predictions.
    """
    from gmai_vl.model import mean_losses, rows_at_once

    if others := [question for question in questions if not question.options]:
        raise UserError(
            f"--by-likelihood: {len(others)} of {len(questions)} questions are no multiple choice, the first is "
            f"`{others[0].id}`; let the model write its answers"
        )
    ordered = sorted(questions, key=lambda question: (question.images, question.id))
    calls = [ordered[first : first + QUESTIONS_PER_CALL] for first in range(0, len(ordered), QUESTIONS_PER_CALL)]
    with saved_answers(out) as saved:
        for call in progress(calls, "weighing", len(calls)):
            pending = [question for question in call if question.id not in saved.responses]
            images = {name: image_of(name) for question in pending for name in question.images}
            weighings = [_weighing(question, images, prompt) for question in pending]
            all_losses = mean_losses(vlm, weighings, batch_size=batch_size or rows_at_once(vlm))
            for question, losses in zip(pending, all_losses, strict=True):
                if not all(map(isfinite, losses)):
                    raise UserError(f"{question.id}: the model's losses are {losses}, its weights are damaged")
                by_letter = dict(zip(question.options or {}, losses, strict=True))
                letter = min(by_letter, key=by_letter.__getitem__)
                saved.add({question.id: letter}, {question.id: {"losses": by_letter}})
        return {question.id: saved.responses[question.id] for question in questions}


def _weighing(question: Question, images: Mapping[str, NDArray[np.uint8]], prompt: str | None) -> "Weighing":
    from gmai_vl.model import Request, Weighing

    request = Request(question.turns, tuple(images[name] for name in question.images))
    options = question.options or {}
    if prompt == BY_LIKELIHOOD:
        return Weighing(request, tuple(f" {text}." for text in options.values()), begins=PREFIX)
    return Weighing(request, tuple(options))


def chances(losses: Mapping[str, float]) -> dict[str, float]:
    """Return letter -> probability among the options: shares of exp(-loss), the mean loss of a token.

    For options of one token these are the model's own probabilities, divided by their sum.
    """
    least = min(losses.values())
    weights = {letter: exp(least - loss) for letter, loss in losses.items()}
    return {letter: weight / sum(weights.values()) for letter, weight in weights.items()}


def calibration_of(questions: Sequence[Question], losses: Mapping[str, Mapping[str, float]]) -> Calibration | None:
    """Return how well the probabilities of options fit the answers; None where not every question has losses.

    Where several options are right, the answer is the first of them. Raises UserError where the losses are not of the
    options of their question.
    """
    if not questions or not all(question.id in losses for question in questions):
        return None
    for question in questions:
        if losses[question.id].keys() != (question.options or {}).keys():
            told = "".join(losses[question.id])
            raise UserError(f"predictions: `{question.id}` has losses for {told}, its options are others; ask it anew")
    letters = [list(question.options or {}) for question in questions]
    shares = [chances(losses[question.id]) for question in questions]
    return calibration(
        [[share[letter] for letter in some] for share, some in zip(shares, letters, strict=True)],
        [some.index(question.reference) for some, question in zip(letters, questions, strict=True)],
    )
