"""All questions that the test split of a corpus allows, before any is chosen; and what its train split says of them."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.licences import LICENCES, known_licence
from gmai_vl.corpus.schema import case_of
from gmai_vl.evaluation.construction.distractors import branches_of, wrong_labels
from gmai_vl.evaluation.construction.subjects import Cell, Subject, cell_of, region_name, subjects_of
from gmai_vl.foundation import sha256_of_text
from gmai_vl.records import Case
from gmai_vl.vocabulary import Term

_Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A question that could be asked."""

    id: str
    """16 hexadecimal digits, from the corpus's fingerprint, the case, the region and the granularity."""

    cell: Cell
    label: Term
    """The right answer."""

    wrong: tuple[Term, ...]
    """All surely wrong ones that there are, by name; at least one."""

    case_id: str
    region: str
    """As `region_name`; empty for the whole image."""

    patient: str
    """Hash of the patient, or of the image where none is known."""

    source: str
    license: str | None
    original_task: str
    """As GMAI-MMBench writes it: CLS_2D, DET_2D, SEG_3D."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """What a corpus has to give."""

    candidates: list[Candidate]
    """By id."""

    train: dict[Cell, Counter[str]]
    """Cell -> English label -> number of questions of the train split that it is the right answer to."""

    cases: Counter[str]
    """Why a test case as a whole was left out -> number of cases."""

    questions: Counter[str]
    """Why a question was left out -> number of questions."""


def gather(corpus: Corpus) -> Gathered:
    """Read the cases of a corpus, without their images, and return what the test split can be asked.

    A test case whose image or patient is in train or val as well is left out, and so is one whose licence forbids to
    pass on its image or what is made of it.
    """
    columns = ("source", "label_set", "negative", "modality", "clinical_task")
    branches = branches_of(corpus.rows("cases", columns))
    seen, fingerprint = _seen(corpus), corpus.manifest["fingerprint"]
    candidates: list[Candidate] = []
    train: dict[Cell, Counter[str]] = defaultdict(Counter)
    cases: Counter[str] = Counter()
    questions: Counter[str] = Counter()
    for row in corpus.rows("cases"):
        if row["split"] == "train" and _fault_of(row) is None:
            case = unseen_case(row)
            for subject in subjects_of(case)[0]:
                train[cell_of(case, subject.granularity)][subject.label.en] += 1
        if row["split"] != "test":
            continue
        if fault := _leak_of(row, seen) or _fault_of(row):
            cases[fault] += 1
            continue
        case = unseen_case(row)
        subjects, left_out = subjects_of(case)
        questions.update(left_out)
        for subject in subjects:
            if wrong := wrong_labels(case, subject, branches):
                candidates.append(_candidate(row, case, subject, wrong, fingerprint))
            else:
                questions["no other answer is surely wrong"] += 1
    candidates.sort(key=lambda candidate: candidate.id)
    return Gathered(candidates=candidates, train=dict(train), cases=cases, questions=questions)


def unseen_case(row: _Row) -> Case:
    """Return the case of a row with an image of the right size that is black: nothing here depends on pixels."""
    return case_of(row, np.zeros((row["height"], row["width"]), np.uint8))


def patient_hash(fingerprint: str, row: _Row) -> str:
    """Return 16 hexadecimal digits for a patient, other ones in every corpus; for the image where none is known."""
    return sha256_of_text(f"{fingerprint}|{row['source']}|{row['patient_id'] or row['image']}")[:16]


def _candidate(row: _Row, case: Case, subject: Subject, wrong: tuple[Term, ...], fingerprint: str) -> Candidate:
    region = region_name(subject.finding) if subject.finding else ""
    named = f"{fingerprint}|{case.case_id}|{subject.granularity}|{subject.label.en}|{region}"
    return Candidate(
        id=sha256_of_text(named)[:16],
        cell=cell_of(case, subject.granularity),
        label=subject.label,
        wrong=wrong,
        case_id=case.case_id,
        region=region,
        patient=patient_hash(fingerprint, row),
        source=case.source,
        license=case.license,
        original_task=f"{case.task}_{case.dimension}".upper(),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a model may have seen of the corpus: train, and val, by which models are chosen."""

    images: frozenset[str]
    patients: frozenset[tuple[str, str]]


def _seen(corpus: Corpus) -> _Seen:
    rows = [row for row in corpus.rows("cases", ("split", "image", "source", "patient_id")) if row["split"] != "test"]
    return _Seen(
        images=frozenset(row["image"] for row in rows if row["image"]),
        patients=frozenset((row["source"], row["patient_id"]) for row in rows if row["patient_id"]),
    )


def _leak_of(row: _Row, seen: _Seen) -> str | None:
    """Return what of a test case is known from the other sides of the split."""
    if row["image"] in seen.images:
        return "image also in train or val"
    return "patient also in train or val" if (row["source"], row["patient_id"]) in seen.patients else None


def _fault_of(row: _Row) -> str | None:
    """Return why nothing can be asked about a case; None where something can."""
    terms = LICENCES[known_licence(row["license"])]
    if terms.derivatives is False or terms.redistribution is False:
        return f"licence {row['license']} forbids it"
    if row["image"] is None or not (row["findings"] or row["negative"]):
        return "no annotation of an image"
    if row["modality"] is None:
        return "no modality"
    return "no clinical task" if row["clinical_task"] is None else None


def sources_of(corpus: Corpus) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield source, licence and address of every source of the corpus's cases, once."""
    columns = ("source", "license", "url")
    yield from sorted({tuple(row[name] for name in columns) for row in corpus.rows("cases", columns)}, key=str)
