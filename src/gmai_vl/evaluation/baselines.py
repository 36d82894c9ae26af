"""What an answer is worth without looking: the most frequent training answer, and the picture of another patient."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median
from typing import Literal

from gmai_vl.evaluation.answers.yesno import yes_or_no
from gmai_vl.evaluation.grounding import wanted_boxes
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError, stable_rng, stable_shuffle

Patient = tuple[str, str]


def majority_answers(train: Sequence[Question], test: Sequence[Question]) -> dict[str, str]:
    """Return what one who knows the training answers and never looks would say to every test question: id -> response.

    Multiple choice: of the question's option texts the one most often right in training, among questions of the same
    form and the same set of option texts; if there were none, among questions of the same form; if none of the
    options was ever right there, among all questions; if none was ever right anywhere, the first letter. Closed and
    open: the most frequent answer (yes and no pooled over languages) of the same form, else of the kind. Grounding:
    the box of median sides of the same form and subject, else form, else all. Ties go to the first in the alphabet.
    """
    counts: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
    boxes: dict[tuple[object, ...], list[tuple[float, ...]]] = defaultdict(list)
    for question in train:
        for key in _keys(question):
            if question.kind == "grounding":
                boxes[key] += wanted_boxes(question)
            else:
                counts[key][_answer_text(question)] += 1
    return {
        question.id: _guess_box(question, boxes) if question.kind == "grounding" else _guess(question, counts)
        for question in test
    }


def _keys(question: Question) -> list[tuple[object, ...]]:
    """Return what a question is alike by, the closest likeness first."""
    if question.kind == "mcq":
        texts = frozenset((question.options or {}).values())
        return [("mcq", question.form, texts), ("mcq", question.form), ("mcq",)]
    if question.kind == "grounding":
        return [("grounding", question.form, question.subject), ("grounding", question.form), ("grounding",)]
    return [(question.kind, question.form), (question.kind,)]


def _answer_text(question: Question) -> str:
    if question.kind == "mcq":
        return (question.options or {})[question.reference]
    if question.kind == "closed":
        return yes_or_no(question.stem, question.reference) or question.reference
    return question.reference


def _guess(question: Question, counts: dict[tuple[object, ...], Counter[str]]) -> str:
    letters = {text: letter for letter, text in sorted((question.options or {}).items(), reverse=True)}
    for key in _keys(question):
        known = [(-number, text) for text, number in counts[key].items() if not letters or text in letters]
        if known:
            text = min(known)[1]
            return letters.get(text, text)
    return min(letters.values(), default="no")


def _guess_box(question: Question, boxes: dict[tuple[object, ...], list[tuple[float, ...]]]) -> str:
    known = next((boxes[key] for key in _keys(question) if boxes[key]), [(0.0, 0.0, 1.0, 1.0)])
    sides = ", ".join(f"{median(side):.2f}" for side in zip(*known, strict=True))
    return f"<box>[[{sides}]]</box>"


def exchange_images(
    questions: Sequence[Question], seed: int, within: Literal["modality"] | None = None
) -> list[Question]:
    """Return the questions with the images of another patient: what is still answered right was not seen.

    The patients stand in one seeded circle and each gets images of the next, equal images for equal images.
    `within="modality"` makes one circle per modality. Questions without images, and those of a modality with a single
    patient, are left out. Raises UserError if nothing is left.
    """
    circles: dict[str | None, list[Question]] = defaultdict(list)
    for question in questions:
        if question.images:
            circles[question.modality if within else None].append(question)
    exchanged = {
        question.id: question
        for name, members in circles.items()
        for question in _exchange_in_circle(members, seed, name)
    }
    if not exchanged:
        raise UserError("exchange of images: there are no two patients to exchange between; take a larger test split")
    return [exchanged[question.id] for question in questions if question.id in exchanged]


def _exchange_in_circle(questions: Sequence[Question], seed: int, name: str | None) -> list[Question]:
    images_of: dict[Patient, set[str]] = defaultdict(set)
    for question in questions:
        images_of[question.patient].update(question.images)
    if len(images_of) < 2:
        return []
    circle = stable_shuffle(sorted(images_of), seed, name)
    following = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
    return [_with_images(question, images_of[following[question.patient]], seed) for question in questions]


def _with_images(question: Question, images: Iterable[str], seed: int) -> Question:
    choice = sorted(images)
    return replace(question, images=tuple(stable_rng(seed, image).choice(choice) for image in question.images))
