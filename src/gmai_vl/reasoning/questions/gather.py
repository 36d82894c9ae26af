"""The multiple-choice questions of corpora, each told apart from its options, with the side that it belongs to."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.images import image_path
from gmai_vl.evaluation import Question, questions_of
from gmai_vl.foundation import BadItem, UserError, nearest
from gmai_vl.reasoning.items import About
from gmai_vl.reasoning.questions.item import Item, sound
from gmai_vl.reasoning.questions.wording import in_words, parted
from gmai_vl.records import Kind, Split

_MCQ: tuple[Kind, ...] = ("mcq",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """What the corpora have to give."""

    items: list[Item]
    """By id; of two with the same id, the one whose corpus has the smaller fingerprint comes first."""

    left_out: Counter[str]
    """Why a sample gave no item -> how many."""


def open_corpora(paths: Sequence[Path]) -> list[Corpus]:
    """Open corpora; what is made of them does not depend on their order. Raises UserError where one has no content."""
    corpora = [Corpus(path) for path in paths]
    for corpus in corpora:
        if not isinstance(corpus.manifest.get("fingerprint"), str) or not isinstance(corpus.manifest.get("name"), str):
            raise UserError(f"{corpus.path}/manifest.json: has no name or fingerprint; build the corpus anew")
    return sorted(corpora, key=lambda corpus: (corpus.manifest["fingerprint"], str(corpus.path)))


def gather(corpora: Sequence[Corpus], out: Path, hold_out: Collection[str]) -> Gathered:
    """Return all items of the corpora, for a folder `out`; those of the sources in `hold_out` on the side held_out.

    All splits of such a source go there: no other side has anything of it. Raises UserError where a name in `hold_out`
    is no source with multiple-choice questions.
    """
    items: list[Item] = []
    left_out: Counter[str] = Counter()
    sources: set[str] = set()
    for corpus in corpora:
        rows = corpus.rows("samples", ("id", "kind", "case_id", "license"))
        known = {row["id"]: row for row in rows if row["kind"] == "mcq"}
        told = About(
            corpus=Path(os.path.relpath(corpus.path.resolve(), out.resolve())).as_posix(),
            fingerprint=corpus.manifest["fingerprint"],
        )
        for split in get_args(Split):
            for question in questions_of(corpus, split, kinds=_MCQ):
                sources.add(question.source)
                try:
                    asked = sound(replace(question, stem=_stem_of(question)))
                except BadItem as bad:
                    left_out[str(bad)] += 1
                    continue
                row = known[question.id]
                items.append(
                    Item(
                        question=asked,
                        side="held_out" if question.source in hold_out else split,
                        license=row["license"],
                        about=told.model_copy(update={"case_id": row["case_id"]}),
                        picture=image_path(corpus.path, asked.images[0]),
                        place=question.id,
                    )
                )
    check_held_out(hold_out, sources)
    return Gathered(items=sorted(items, key=lambda item: item.id), left_out=left_out)


def check_held_out(hold_out: Collection[str], sources: Collection[str]) -> None:
    """Raise UserError for a name of `--hold-out` that is no source of questions."""
    for name in hold_out:
        if name not in sources:
            known = f"; {nearest(name, sorted(sources))}" if sources else ""
            raise UserError(f"--hold-out {name}: no source of multiple-choice questions has this name{known}")


def _stem_of(question: Question) -> str:
    """Return what a sample asks, without its options and how to answer. Raises BadItem where that cannot be told."""
    if [turn.role for turn in question.turns if turn.role != "system"] != ["user"]:
        raise BadItem("is asked in the middle of a conversation")
    options = question.options
    if not options:
        return question.stem
    stem, listed, below = question.stem.rpartition(in_words("", options))
    if listed and not below.split("\n")[0]:
        return stem
    try:
        stem, told = parted(question.stem)
    except BadItem:
        told = {}
    if told != {letter: " ".join(text.split()) for letter, text in options.items()}:
        raise BadItem("its options are not those in its words")
    return stem
