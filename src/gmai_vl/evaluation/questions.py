"""Questions with one reference answer each, as a corpus holds them: what a model is asked and scored by."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gmai_vl.corpus import Corpus
from gmai_vl.foundation import stable_fraction, stable_shuffle
from gmai_vl.records import Kind, Region, Sample, Split, Turn
from gmai_vl.vocabulary import Language

SCORED_KINDS: tuple[Kind, ...] = ("mcq", "closed", "grounding")
"""Kinds with an answer that rules can judge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question about images and its reference answer."""

    id: str
    kind: Kind
    language: Language

    turns: tuple[Turn, ...]
    """The conversation up to the answer, which is left out."""

    images: tuple[str, ...]
    """sha256 names."""

    width: int
    """Columns of the first image."""

    height: int
    """Rows of the first image."""

    options: dict[str, str] | None = None
    """Letter -> text for multiple choice."""

    answer: str
    """Letter for mcq, yes/no (是/否) for closed, words for open, markup for grounding."""

    regions: tuple[Region, ...] = ()
    """What a grounding question asks for."""

    form: str | None = None
    """Form of the question: modality, plane, presence, side ..."""

    subject: str | None = None
    """Label that the question is about, where it is about one."""

    modality: str | None
    department: str | None = None
    clinical_task: str | None = None
    task: str
    source: str

    patient_id: str | None = None
    """None where unknown."""

    @property
    def text(self) -> str:
        """The text of the last turn: the question with its options and instruction."""
        return self.turns[-1].text

    @property
    def patient(self) -> tuple[str, str]:
        """What answers may be alike within: the patient of the source, or else the image."""
        return self.source, self.patient_id if self.patient_id is not None else "".join(self.images) or self.id


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


def choose(questions: Sequence[Question], limit: int, seed: int) -> list[Question]:
    """Return `limit` questions, in their order, with the mix of kinds and forms of all.

    Within a form the patients take turns, and those begin of whom the forms before took fewest, so that no patient
    weighs much more than another.
    """
    if limit >= len(questions):
        return list(questions)
    by_form: dict[tuple[str, str | None], list[Question]] = defaultdict(list)
    for question in questions:
        by_form[question.kind, question.form].append(question)
    shares = _shares({form: len(members) for form, members in by_form.items()}, limit)
    chosen: list[Question] = []
    for form, members in by_form.items():
        taken = Counter(question.patient for question in chosen)
        chosen += _in_turns(members, taken, seed)[: shares[form]]
    ids = {question.id for question in chosen}
    return [question for question in questions if question.id in ids]


def _shares(sizes: dict[tuple[str, str | None], int], limit: int) -> dict[tuple[str, str | None], int]:
    """Split `limit` in proportion to `sizes` by largest remainders; ties go to the form met first."""
    total = sum(sizes.values())
    shares = {form: limit * size // total for form, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda form: -(limit * sizes[form] % total))
    for form in by_remainder[: limit - sum(shares.values())]:
        shares[form] += 1
    return shares


def _in_turns(questions: Sequence[Question], taken: Counter[tuple[str, str]], seed: int) -> list[Question]:
    """Order the questions so that the patient of whom the fewest are taken is always next; ties are drawn."""
    turn = Counter(taken)
    ordered = []
    for question in stable_shuffle(sorted(questions, key=lambda question: question.id), seed):
        ordered.append((turn[question.patient], stable_fraction(seed, question.id), question))
        turn[question.patient] += 1
    return [question for *_, question in sorted(ordered, key=lambda entry: entry[:2])]
