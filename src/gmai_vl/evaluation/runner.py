"""Ask a model, with every answer saved: a run that was stopped goes on where it was and asks nothing twice."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmai_vl.evaluation.question import Question
from gmai_vl.evaluation.saved import saved_answers
from gmai_vl.foundation import UserError, canonical_json, progress, sha256_of_file, sha256_of_text, write_json

if TYPE_CHECKING:  # so that scoring and parsing need no torch
    from gmai_vl.model import Vlm

MAX_NEW_TOKENS = {"mcq": 24, "closed": 24, "grounding": 160, "open": 64}
"""Per kind: a letter with its option, a word, some boxes with a label, a phrase."""

BATCHES_PER_CALL = 4
"""So many batches share image features, and are lost where a run is killed."""


def ask(
    vlm: "Vlm",
    questions: Sequence[Question],
    image_of: Callable[[str], NDArray[np.uint8]],
    out: Path,
    *,
    batch_size: int | None = None,
    max_new_tokens: int | None = None,
) -> dict[str, str]:
    """Ask every question that the predictions file `out` has no answer to, and return all answers: id -> response.

    `image_of` gives the pixels of a sha256 name. Answers are appended to `out` and flushed to disk call by call, in
    an order that depends only on the questions and on `batch_size`, None for what fits the model. `max_new_tokens` is
    the longest answer, None for what the kind of a question needs. A last line that was cut off is dropped and asked
    again. Raises UserError if `out` holds anything else.
    """
    from gmai_vl.model import Request, respond, rows_at_once

    batch_size = batch_size or rows_at_once(vlm)
    calls = list(_calls(questions, batch_size * BATCHES_PER_CALL))
    with saved_answers(out) as saved:
        for call in progress(calls, "asking", len(calls)):
            pending = [question for question in call if question.id not in saved.responses]
            if not pending:
                continue
            images = {name: image_of(name) for question in pending for name in question.images}
            requests = [
                Request(question.turns, tuple(images[name] for name in question.images)) for question in pending
            ]
            tokens = max_new_tokens or MAX_NEW_TOKENS[pending[0].kind]
            answers = respond(vlm, requests, max_new_tokens=tokens, batch_size=batch_size)
            answer_to = dict(zip((question.id for question in pending), answers, strict=True))
            saved.add(
                {id: answer.text for id, answer in answer_to.items()},
                {id: {"cut_off": True} for id, answer in answer_to.items() if answer.is_cut_off},
            )
        return {question.id: saved.responses[question.id] for question in questions}


def _calls(questions: Sequence[Question], size: int) -> Iterator[list[Question]]:
    """Split the questions by length of answer; those about one image stay together, as calls make its features once."""
    for tokens in sorted(set(MAX_NEW_TOKENS.values())):
        members = [question for question in questions if MAX_NEW_TOKENS[question.kind] == tokens]
        members.sort(key=lambda question: (question.images, question.id))
        for first in range(0, len(members), size):
            yield members[first : first + size]


def claim(folder: Path, identity: dict[str, Any]) -> None:
    """Write what is asked of which model to run.json: old answers must not pass for another model's.

    Raises UserError if the folder holds a run with another identity.
    """
    path = folder / "run.json"
    if not path.exists():
        if (folder / "predictions.jsonl").exists():
            raise UserError(
                f"{folder}: holds predictions without a run.json that says whose they are; give another --out"
            )
        write_json(path, identity)
        return
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: cannot be read: {error}; give another --out") from None
    other = sorted(key for key in {*identity, *held} if held.get(key) != identity.get(key))
    if other:
        raise UserError(f"{folder}: holds a run with another {' and '.join(other)}; give another --out")


def checkpoint_sha256(model: Path) -> str:
    """Return a hash over the weights, configuration and tokenizer files of a checkpoint folder.

    Raises UserError where there is no such folder.
    """
    if not model.is_dir():
        raise UserError(f"{model}: no such folder; give the folder of a checkpoint")
    files = sorted(
        path
        for path in model.iterdir()
        if path.suffix in (".safetensors", ".json", ".jinja") and path.name != "provenance.json"
    )
    return sha256_of_text(canonical_json({path.name: sha256_of_file(path) for path in files}))
