"""The order of the options: shuffled anew, the right letters in equal numbers, so that no letter is worth a guess."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from gmai_vl.corpus.schema import letters
from gmai_vl.foundation import stable_fraction, stable_rng
from gmai_vl.reasoning.items import Side
from gmai_vl.reasoning.questions.item import Item


def with_letters(items: Sequence[Item], seed: int) -> list[Item]:
    """Return the items with their options in a new order; it depends on `seed`, ids and which items there are.

    Among the questions of a side with equally many options each letter is right as often as any other, to within one.
    As far as that leaves a choice, letters are evened out within each source and form, too.
    """
    of_number: Counter[tuple[Side, int, str]] = Counter()
    of_form: Counter[tuple[Side, str, str | None, str]] = Counter()
    dealt = []
    for item in sorted(items, key=lambda item: item.id):
        question, number = item.question, len(item.options)
        answer = min(
            letters(number),
            key=lambda letter: (
                of_number[item.side, number, letter],
                of_form[item.side, question.source, question.form, letter],
                stable_fraction(seed, "letter", item.id, letter),
            ),
        )
        of_number[item.side, number, answer] += 1
        of_form[item.side, question.source, question.form, answer] += 1
        dealt.append(_with_answer(item, answer, seed))
    return dealt


def _with_answer(item: Item, answer: str, seed: int) -> Item:
    right = item.options[item.question.reference]
    texts = sorted(text for text in item.options.values() if text != right)
    stable_rng(seed, "options", item.id).shuffle(texts)
    texts.insert(ord(answer) - ord("A"), right)
    options = dict(zip(letters(len(texts)), texts, strict=True))
    return replace(item, question=replace(item.question, options=options, answer=answer))
