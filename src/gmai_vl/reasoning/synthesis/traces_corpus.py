"""Kept traces as a corpus that `gmai train` learns from: the question as it was asked, then thought and answer."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gmai_vl.corpus import Summary
from gmai_vl.corpus.build import build_recipe
from gmai_vl.corpus.recipe import DataRecipe
from gmai_vl.evaluation import Question
from gmai_vl.foundation import UserError, load_settings, sha256_of_text, write_text
from gmai_vl.reasoning.items import Items, asked_sha256, read_items
from gmai_vl.reasoning.questions.manifest import strictest
from gmai_vl.reasoning.rewards import accuracy_reward
from gmai_vl.reasoning.synthesis.run import PROMPT, RUN
from gmai_vl.reasoning.synthesis.traces import TRACES
from gmai_vl.records import Turn
from gmai_vl.sources.published import message_of
from gmai_vl.vocabulary import modality

MESSAGES = "messages.jsonl"
"""The traces as an export of messages writes samples; beside them."""

NAME = "reasoning-traces"


def traces_corpus(traces: Path, questions: Path, out: Path, *, workers: int = 1) -> Summary:
    """Build a corpus in `out` of the traces that `synthesize` wrote about a folder of questions; resumes by itself.

    Of traces of the side train a twentieth of the patients, with all that looks like their images, becomes the
    validation side; of the side val all. No sample is for tests. Raises UserError where the traces are about other
    questions than those of that folder or give another answer, or `out` has a corpus of other traces, and what `build`
    raises.
    """
    side, asked = _told_by(traces)
    items = read_items(questions, side, PROMPT)
    if asked != asked_sha256(items.questions):
        raise UserError(
            f"{traces}: answers other questions than {questions} asks now, in words, options or letters; give the "
            "folder that was asked, or synthesize anew"
        )
    entries = _agreed(list(_entries(traces / TRACES, items, _licences(questions), side)))
    if not entries:
        raise UserError(f"{traces / TRACES}: holds no traces; ask a better teacher, or more often")
    file, text = traces / MESSAGES, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    write_text(file, text)
    root = questions.resolve()
    recipe = {
        # A corpus of other traces must not pass for one of these: a build leaves what its recipe names as it is.
        "name": f"{NAME}-{sha256_of_text(text)[:12]}",
        "languages": {"en": 1.0},
        "subsets": ["instruct"],
        "split": {"train": 0.95, "val": 0.05, "test": 0.0},
        "max_quarantined": 0.0,
        "sources": [
            {
                "name": NAME,
                "format": "text",
                "root": str(root),
                "annotations": Path(os.path.relpath(file.resolve(), root)).as_posix(),
                "conversations_column": "messages",
                "image_column": "images",
                "id_column": "id",
                "patient_column": "patient",
                "exported": "messages",
            }
        ],
    }
    return build_recipe(load_settings(DataRecipe, recipe, file), file, out, workers=workers)


def _told_by(traces: Path) -> tuple[Literal["train", "val"], str]:
    """Return the side that the traces are of, and the hash of what was asked."""
    try:
        told = json.loads((traces / RUN).read_text(encoding="utf-8"))
        side, asked = told["side"], str(told["questions"])
    except (OSError, ValueError, LookupError, TypeError):
        raise UserError(f"{traces}: holds no traces; `gmai reason synthesize` writes them") from None
    if side not in ("train", "val"):
        raise UserError(f"{traces}: has traces of the side {side!r}; only train and val are learnt from")
    return "train" if side == "train" else "val", asked


def _entries(file: Path, items: Items, licences: Mapping[str, str], side: str) -> Iterator[dict[str, Any]]:
    """Yield each trace as an export of messages writes a sample, with its patient besides."""
    by_id = {question.id: question for question in items.questions}
    for number, line in enumerate(_lines(file), start=1):
        try:
            row = json.loads(line)
            question, thought, id = by_id[row["question"]], str(row["thought"]), str(row["id"])
            said = str(row["answer"])
        except (ValueError, LookupError, TypeError):
            raise UserError(f"{file}:{number}: is no trace about a question of this folder") from None
        if not accuracy_reward(question, f"<answer>{said}</answer>"):
            raise UserError(
                f"{file}:{number}: answers {said[:60]!r}, right is {question.reference}; run `gmai reason synthesize "
                "--rejudge`, which judges by the questions as they are"
            )
        yield _entry(question, thought, id, licences) | {"split": None if side == "train" else "val"}


def _entry(question: Question, thought: str, id: str, licences: Mapping[str, str]) -> dict[str, Any]:
    options = question.options or {}
    if list(options) != [chr(ord("A") + place) for place in range(len(options))]:
        raise UserError(f"question `{question.id}`: its options are not lettered A, B, C in this order")
    said = f"<think>{thought}</think><answer>{question.reference}</answer>"
    turns = (*question.turns, Turn("assistant", (said,)))
    source = question.labels.get("source", question.source)
    return {
        "id": id,
        "messages": [message_of(turn, question.images) for turn in turns],
        "images": list(question.images),
        "patient": question.patient[1],
        "subset": "instruct",
        "kind": "mcq",
        "granularity": "image",
        "language": question.language,
        "options": list(options.values()),
        "answer": question.reference,
        "modality": _known_modality(question.labels.get("modality")),
        "department": None,
        "clinical_task": None,
        "source": source,
        "license": licences.get(source),
        "writer": "teacher",
        "image_sha256": None,
    }


def _agreed(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries with one licence, the strictest, and one modality for each image, as readers want it."""
    licences: dict[str, set[str | None]] = defaultdict(set)
    modalities: dict[str, set[str | None]] = defaultdict(set)
    for entry in entries:
        licences[str(entry["images"])].add(entry["license"])
        modalities[str(entry["images"])].add(entry["modality"])
    agreed = []
    for entry in entries:
        told, kinds = licences[str(entry["images"])], modalities[str(entry["images"])]
        one = {
            "license": entry["license"] if len(told) == 1 else strictest(list(told)),
            "modality": entry["modality"] if len(kinds) == 1 else None,
        }
        agreed.append(entry | one)
    return agreed


def _known_modality(name: str | None) -> str | None:
    """Return a modality that the vocabulary has; imported questions may call theirs anything."""
    try:
        return None if name is None else modality(name).en
    except UserError:
        return None


def _licences(questions: Path) -> dict[str, str]:
    """Return source -> licence, as the manifest of the questions tells them."""
    try:
        told = json.loads((questions / "manifest.json").read_text(encoding="utf-8"))["licences"]["sources"]
        return {str(source): str(licence) for source, licence in told.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
