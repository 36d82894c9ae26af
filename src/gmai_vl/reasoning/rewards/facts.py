"""How much of what a thought states is so: its statements, held against the annotation of the case.

A statement is *true* or *wrong* only where the annotation tells: it names a label that was given or looked for, or the
kind or plane of the image, and affirms or denies it. Those that the annotation contradicts are wrong. Questions, what
is left open ("may be a nodule"), what nobody looked for and what no image tells are left out. A statement that stands
twice counts once.

Of a chest X-ray with the label "pneumothorax", where an effusion was looked for and is not there:

| thought | reward |
|---|---|
| `There is a pneumothorax.` | 1 |
| `This chest X-ray shows a pneumothorax. There is no pleural effusion.` | 1 |
| `There is a pneumothorax. There is a pleural effusion.` | 0.5 |
| `There is a pleural effusion.`, `This is a CT scan.` | 0 |
| `Let me think.`, `Is there a pneumothorax?`, `There may be a pneumothorax.`, nothing: no statement | 0 |

A thought without a statement earns what a wrong one does, and never more than a true one: silence is not rewarded.
Nothing can be told here of how much is stated: one true statement earns what ten do.
"""

import re
from collections.abc import Iterator

from gmai_vl.evaluation import Question
from gmai_vl.evaluation.answers.wording import without_questions
from gmai_vl.reasoning.rewards.format import parts_of
from gmai_vl.records import Case
from gmai_vl.vocabulary import Language
from gmai_vl.writing import MeasuredCase, measured
from gmai_vl.writing.claims.check import MOST_CHARACTERS
from gmai_vl.writing.claims.labels import is_supported, says_normal
from gmai_vl.writing.claims.reading import Reading, read
from gmai_vl.writing.claims.statements import statement_faults
from gmai_vl.writing.claims.subjects import Subjects
from gmai_vl.writing.claims.words import patterns_of

CONTRADICTIONS = frozenset(
    {"labels", "denied", "modality", "plane", "laterality", "side", "position", "relation", "count", "size", "grade"}
    | {"measurement"}
)
"""Checks of the verifier that find the opposite of the annotation, and not only what it does not tell."""

_LIST_MARK = re.compile(r"^[\s*•–-]*(?:\d{1,2}[.):、]\s*)?")


def facts_reward(question: Question, response: str, case: Case) -> float:
    """Return the true share, 0-1, of the statements of the thought that the annotation bears out or contradicts.

    0 where there is no such statement, no answer after it, or more than the verifier reads (`MOST_CHARACTERS`). For
    many responses about one case give a MeasuredCase: its findings are then measured once.
    """
    parts = parts_of(response)
    if parts is None or len(parts[0]) > MOST_CHARACTERS:
        return 0.0
    if not isinstance(case, MeasuredCase):
        case = measured(case)
    verdicts = dict(verdicts_on(parts[0], question.language, case))
    return sum(verdicts.values()) / len(verdicts) if verdicts else 0.0


def verdicts_on(thought: str, language: Language, case: MeasuredCase) -> Iterator[tuple[str, bool]]:
    """Yield the words of each statement that can be judged, and whether it is true."""
    subjects = Subjects(language, case.findings, list(case.findings))
    for line in thought.replace("？", "?").splitlines():
        for statement in read(without_questions(_LIST_MARK.sub("", line)), language, case).statements:
            alone = Reading(language, statement.text, (statement,))
            faults = {check for check, _ in statement_faults(alone, case, case.findings, subjects, region=False)}
            if faults & CONTRADICTIONS:
                yield statement.text, False
            elif not faults and _is_told(alone, case):
                yield statement.text, True


def _is_told(alone: Reading, case: MeasuredCase) -> bool:
    """Say whether a statement speaks of what is annotated, and takes a side."""
    given = [*(one.label for one in case.findings), *case.label_set, *case.severity]
    given += [label for label in (case.negative, case.body_part) if label is not None]
    of_image = (*patterns_of("modalities").values(), *patterns_of("planes").values())
    return (
        any(one.said != "hedged" and is_supported(one, given, alone.language) for one in alone.mentions)
        or any(words.search(alone.text) for words in of_image)
        or (not case.findings and says_normal(alone, case))
    )
