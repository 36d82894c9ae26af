"""What the annotation says to a thought: the case of each question is looked up, and the verifier reads the thought."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.schema import case_of
from gmai_vl.evaluation import Question
from gmai_vl.foundation import UserError, progress
from gmai_vl.reasoning.items import About
from gmai_vl.reasoning.rewards.facts import verdicts_on  # one route for rewards and traces
from gmai_vl.reasoning.synthesis.answers import Key
from gmai_vl.records import Case
from gmai_vl.writing import MeasuredCase, measured
from gmai_vl.writing.claims.check import MOST_CHARACTERS


@dataclass(frozen=True, slots=True)
class Facts:
    """What the annotation says to one thought."""

    contradicted: tuple[str, ...] = ()
    """Statements of the thought that are wrong."""

    unknown: str | None = None
    """Why it could not be asked."""

    borne_out: int = 0
    """Statements that are right."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought that is to be held against the annotation."""

    key: Key
    question: Question
    text: str


def facts_of(folder: Path, thoughts: Sequence[Thought], about: Mapping[str, About]) -> dict[Key, Facts]:
    """Return what the annotation says to each thought; `about` tells the cases, seen from the folder of questions.

    Each case is read once, and few are in memory at a time.
    """
    found: dict[Key, Facts] = {}
    places: dict[tuple[str, str | None], list[Thought]] = defaultdict(list)
    for thought in thoughts:
        told = about.get(thought.question.id, About())
        if told.corpus is None or told.case_id is None:
            found[thought.key] = Facts(unknown="the question names no case")
        else:
            places[told.corpus, told.fingerprint].append(thought)
    for (name, fingerprint), those in places.items():
        try:
            corpus = Corpus(folder / name)
        except UserError:
            found |= _unknown(those, "the corpus of its case is not there")
            continue
        if corpus.manifest.get("fingerprint") != fingerprint:
            found |= _unknown(those, "the corpus of its case has been changed")
            continue
        found |= _told_by(corpus, those, about)
    return found


def judged_by(case: Case, question: Question, thought: str) -> Facts:
    """Hold the statements of a thought against the annotation of a case."""
    if case.modality is None or not case.has_image:
        return Facts(unknown="its case is not annotated")
    if len(thought) > MOST_CHARACTERS:
        return Facts(unknown=f"the thought has more than {MOST_CHARACTERS:,} characters, which the verifier reads")
    told = case if isinstance(case, MeasuredCase) else measured(case)
    verdicts = dict(verdicts_on(thought, question.language, told))
    wrong = tuple(statement for statement, is_true in verdicts.items() if not is_true)
    return Facts(contradicted=wrong, borne_out=len(verdicts) - len(wrong))


def _told_by(corpus: Corpus, thoughts: Sequence[Thought], about: Mapping[str, About]) -> dict[Key, Facts]:
    of_case: dict[str, list[Thought]] = defaultdict(list)
    for thought in thoughts:
        of_case[str(about[thought.question.id].case_id)].append(thought)
    found = _unknown(thoughts, "the corpus has no such case")
    for case_id, case in progress(_cases(corpus, of_case), "held against the annotation", len(of_case)):
        for thought in of_case[case_id]:
            found[thought.key] = (
                judged_by(case, thought.question, thought.text)
                if case is not None
                else Facts(unknown="its case cannot be read")
            )
    return found


def _cases(corpus: Corpus, wanted: Mapping[str, object]) -> Iterator[tuple[str, MeasuredCase | None]]:
    for row in corpus.rows("cases"):
        if row["case_id"] not in wanted:
            continue
        try:
            case = case_of(row, corpus.image(row["image"])) if row["image"] is not None else None
        except (UserError, ValueError):
            case = None
        yield row["case_id"], None if case is None else measured(case)


def _unknown(thoughts: Iterable[Thought], why: str) -> dict[Key, Facts]:
    return {thought.key: Facts(unknown=why) for thought in thoughts}
