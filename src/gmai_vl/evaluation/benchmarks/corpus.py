"""The questions of a corpus: every sample with an answer that rules can judge."""

from collections.abc import Collection
from pathlib import Path

from gmai_vl.corpus import Corpus
from gmai_vl.evaluation.benchmarks.benchmark import Benchmark
from gmai_vl.evaluation.choose import choose
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError
from gmai_vl.records import Kind, Sample, Split

NAME = "corpus"

SCORED_KINDS: tuple[Kind, ...] = ("mcq", "closed", "grounding")
"""Kinds with an answer that rules can judge."""


def read_corpus(data: Path) -> Benchmark:
    """Read the questions of a corpus's test split. Raises UserError where `data` is no corpus, or has none."""
    corpus = Corpus(data)
    questions = questions_of(corpus)
    if not questions:
        raise UserError(f"{data}: its test split has no questions; give `split` a larger test share and build it anew")
    return Benchmark(
        name=NAME,
        variant="test",
        questions=tuple(questions),
        image=corpus.image,
        train=lambda: questions_of(corpus, split="train"),
    )


def questions_of(
    corpus: Corpus,
    split: Split = "test",
    kinds: Collection[Kind] = SCORED_KINDS,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> list[Question]:
    """Return the questions of one side of the split, in row order; at most `limit` of them, chosen as `choose` does."""
    questions = [_question(sample) for sample in corpus.samples(split=split) if sample.kind in kinds]
    return questions if limit is None else choose(questions, limit, seed)


def _question(sample: Sample) -> Question:
    assert sample.turns[-1].role == "assistant", sample.id
    assert sample.answer is not None, sample.id
    facts = sample.provenance.facts
    return Question(
        id=sample.id,
        kind=sample.kind,
        language=sample.language,
        turns=sample.turns[:-1],
        stem=sample.turns[-2].text,
        images=sample.images,
        width=sample.width,
        height=sample.height,
        options=sample.options,
        answer=sample.answer,
        regions=sample.regions,
        form=facts.get("form"),
        subject=facts.get("subject"),
        modality=sample.modality,
        department=sample.department,
        clinical_task=sample.clinical_task,
        task=sample.task,
        source=sample.source,
        patient_id=sample.patient_id,
    )
