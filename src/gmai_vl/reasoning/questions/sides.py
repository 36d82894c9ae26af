"""No patient, image or question on two sides: what is on several is kept on the first of held_out, test, val, train."""

from collections.abc import Hashable, Iterator, Sequence

from gmai_vl.reasoning.items import Side
from gmai_vl.reasoning.questions.item import Item, LeftOut, alike

FIRST: tuple[Side, ...] = ("held_out", "test", "val", "train")
"""Which side keeps what is on several: a question less to train on costs less than one that was seen."""


def apart(items: Sequence[Item]) -> tuple[list[Item], list[LeftOut]]:
    """Return the items that may stay where they are, and those that a side before theirs has a patient or image of.

    Patients that share an image are taken for one, and so on: two corpora may call a patient by two names.
    """
    groups = _Groups()
    for item in items:
        groups.tie(*_ties(item))
    on_side = {side: {tie for item in items if item.side == side for tie in _ties(item)} for side in FIRST}
    first = {groups.of(tie): side for side in reversed(FIRST) for tie in on_side[side]}
    kept: list[Item] = []
    left_out: list[LeftOut] = []
    for item in items:
        image, *patient = _ties(item)
        side = first[groups.of(image)]
        if side == item.side:
            kept.append(item)
        elif image in on_side[side]:
            left_out.append((item, f"its image is also in {side}"))
        elif patient and patient[0] in on_side[side]:
            left_out.append((item, f"its patient is also in {side}"))
        else:
            left_out.append((item, f"its patient shares an image with one in {side}"))
    return kept, left_out


def without_repeats(items: Sequence[Item], every: Sequence[Item]) -> tuple[list[Item], list[LeftOut]]:
    """Return each question once, the first of several with the same image, words and options.

    Where some of `every` item, those that lost their side among them, disagree on what is right, none is kept: at least
    one of the answers is wrong.
    """
    answers: dict[str, set[str]] = {}
    for item in every:
        answers.setdefault(item.id, set()).add(_answer(item))
    kept: dict[str, Item] = {}
    left_out: list[LeftOut] = []
    for item in items:
        if len(answers[item.id]) > 1:
            left_out.append((item, "is asked again with another answer"))
        elif item.id in kept:
            left_out.append((item, f"is asked before: {kept[item.id].place}"))
        else:
            kept[item.id] = item
    return list(kept.values()), left_out


def _answer(item: Item) -> str:
    return alike(item.options[item.question.reference])


def _ties(item: Item) -> Iterator[Hashable]:
    yield item.image
    if item.question.patient_id is not None:
        yield item.question.source, item.question.patient_id


class _Groups:
    """What belongs together, directly or through others."""

    def __init__(self) -> None:
        self._parents: dict[Hashable, Hashable] = {}

    def of(self, name: Hashable) -> Hashable:
        """Return the one name that stands for the group of `name`."""
        parent = self._parents.setdefault(name, name)
        while parent != self._parents[parent]:
            self._parents[parent] = self._parents[self._parents[parent]]
            parent = self._parents[parent]
        self._parents[name] = parent
        return parent

    def tie(self, *names: Hashable) -> None:
        """Put the groups of all `names` together."""
        for name in names[1:]:
            self._parents[self.of(name)] = self.of(names[0])
