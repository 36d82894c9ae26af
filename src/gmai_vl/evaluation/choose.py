"""Fewer questions with the mix of all: what `--limit` takes."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import stable_fraction, stable_shuffle


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
