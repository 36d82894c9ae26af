"""Evaluation of a quickstart: the trained model on unseen patients, beside what it has to beat."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmai_vl.corpus import Corpus
from gmai_vl.evaluation import (
    Judged,
    Question,
    ask,
    choose,
    exchange_images,
    judge,
    majority_answers,
    paired_difference,
    questions_of,
    read_predictions,
    score,
)
from gmai_vl.foundation import atomic_file, write_json
from gmai_vl.model import Vlm
from gmai_vl.records import Kind, Split

ANSWERERS = ("trained", "images exchanged", "untrained", "majority")
"""The trained model; itself with the images of other patients; the model before training; the most frequent answer."""

TARGETS = {"majority": 0.20, "untrained": 0.20, "images exchanged": 0.15}
"""By so much the trained model is to beat each of the others on phantoms, intervals apart."""

CHOICES: tuple[Kind, ...] = ("mcq", "closed")
BOXES: tuple[Kind, ...] = ("grounding",)
MOST_QUESTIONS = 480
MOST_BOXES = 30
QUESTIONS_AT_ONCE = 64
"""Questions of a batch: a step of a small model costs a CPU nearly the same for 64 rows as for 16."""


def measure(
    corpus: Corpus, trained: Vlm, untrained: Vlm, out: Path, *, seed: int, split: Split = "test"
) -> dict[str, Any] | None:
    """Ask all answerers the questions of `split`, write predictions and scores.json into `out`, return the scores.

    Keys `choices` (multiple choice and yes/no) and `boxes` (grounding) hold answerer -> score JSON; `margins` holds
    answerer -> how much better the trained model is, on the same questions, with a bootstrap interval over patients.
    None where the split holds no multiple choice or yes/no question.
    """
    choices = questions_of(corpus, split, CHOICES, limit=MOST_QUESTIONS, seed=seed)
    boxes = questions_of(corpus, split, BOXES, limit=MOST_BOXES, seed=seed)
    if not choices:
        return None
    questions = choices + boxes
    shown = {question.patient for question in questions if question.images}
    exchanged = exchange_images(questions, seed) if len(shown) > 1 else []
    responses = {
        "trained": ask(trained, questions, corpus.image, out / "trained.jsonl", batch_size=QUESTIONS_AT_ONCE),
        "images exchanged": ask(
            trained, exchanged, corpus.image, out / "images-exchanged.jsonl", batch_size=QUESTIONS_AT_ONCE
        ),
        "untrained": ask(untrained, questions, corpus.image, out / "untrained.jsonl", batch_size=QUESTIONS_AT_ONCE),
        "majority": majority_answers(questions_of(corpus, "train"), questions),
    }
    _write_predictions(out / "majority.jsonl", responses["majority"])

    judged = {name: _judged(questions, responses[name]) for name in ANSWERERS if responses[name]}
    results = {
        "corpus": corpus.manifest["name"],
        "fingerprint": corpus.manifest["fingerprint"],
        "split": split,
        "choices": _scores(judged, CHOICES, corpus, split),
        "boxes": _scores(judged, BOXES, corpus, split),
        "margins": {name: _margin(judged["trained"], judged[name], seed) for name in judged if name != "trained"},
    }
    write_json(out / "scores.json", results)
    return results


def verdicts(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Hold the scores against `TARGETS`: needed and reached margin, whether intervals are apart, whether met."""
    trained_low = results["choices"]["trained"]["interval"][0]
    rows = []
    for name, needed in TARGETS.items():
        reached = results["margins"][name]["value"]
        apart = trained_low > results["choices"][name]["interval"][1]
        rows.append(
            {"name": name, "needed": needed, "reached": reached, "apart": apart, "met": apart and reached >= needed}
        )
    return rows


def answers(corpus: Corpus, out: Path, split: Split, seed: int, count: int) -> list[tuple[Judged, str]]:
    """Return `count` judged responses of the trained model: half right, half wrong, forms and modalities mixed."""
    responses = read_predictions(out / "trained.jsonl")
    asked = [question for question in questions_of(corpus, split) if question.id in responses]
    by_verdict: dict[bool, list[Judged]] = {True: [], False: []}
    for entry in judge(choose(asked, min(len(asked), 12 * count), seed), responses):
        by_verdict[entry.correct].append(entry)
    chosen = _spread(by_verdict[True], (count + 1) // 2) + _spread(by_verdict[False], count // 2)
    return [(entry, responses[entry.question.id]) for entry in chosen]


def _judged(questions: Sequence[Question], responses: Mapping[str, str]) -> dict[str, Judged]:
    asked = [question for question in questions if question.id in responses]
    return {entry.question.id: entry for entry in judge(asked, responses)}


def _scores(
    judged: Mapping[str, Mapping[str, Judged]], kinds: Sequence[Kind], corpus: Corpus, split: Split
) -> dict[str, dict[str, Any]]:
    scores = {}
    for name, entries in judged.items():
        chosen = [entry for entry in entries.values() if entry.question.kind in kinds]
        if chosen:
            scores[name] = score(chosen, benchmark=corpus.manifest["name"], variant=split)
    return scores


def _margin(trained: Mapping[str, Judged], other: Mapping[str, Judged], seed: int) -> dict[str, Any]:
    shared = [id for id in trained if id in other and trained[id].question.kind != "grounding"]
    difference = paired_difference(
        [trained[id].correct for id in shared],
        [other[id].correct for id in shared],
        [trained[id].question.patient for id in shared],
        seed=seed,
    )
    return {"value": difference.value, "interval": list(difference.interval), "n": len(shared)}


def _spread(entries: Sequence[Judged], count: int) -> list[Judged]:
    """Choose entries whose form and modality have been chosen least so far."""
    chosen: list[Judged] = []
    left = list(entries)
    while left and len(chosen) < count:
        best = min(
            left,
            key=lambda entry: sum(
                (entry.question.form == other.question.form) + (entry.question.modality == other.question.modality)
                for other in chosen
            ),
        )
        chosen.append(best)
        left.remove(best)
    return chosen


def _write_predictions(path: Path, responses: Mapping[str, str]) -> None:
    with atomic_file(path) as temporary:
        lines = (json.dumps({"id": id, "response": text}, ensure_ascii=False) for id, text in responses.items())
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
