"""What a folder of questions says of itself: where they are from, how many of what, and under which licences."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gmai_vl import __version__
from gmai_vl.corpus.licences import LICENCES, combined, known_licence
from gmai_vl.evaluation import majority_answers
from gmai_vl.reasoning.items import SIDES, Side
from gmai_vl.reasoning.questions.files import FORM, Row
from gmai_vl.reasoning.questions.item import Item

USE = "research use only, not for diagnosis"


def manifest_of(
    items_by_side: Mapping[Side, Sequence[Item]],
    rows_by_side: Mapping[Side, Sequence[Row]],
    *,
    made_of: Mapping[str, Any],
    options: Mapping[str, Any],
    left_out: Mapping[str, int],
    fingerprint: str,
) -> dict[str, Any]:
    """Return the manifest. `made_of` tells the corpora or the file, `options` what the command was called with."""
    every = [item for items in items_by_side.values() for item in items]
    return {
        "form": FORM,
        **made_of,
        **options,
        "tool_version": __version__,
        "use": USE,
        "counts": {
            "questions": {side: len(items_by_side.get(side, ())) for side in SIDES},
            "images": {side: len({item.image for item in items}) for side, items in items_by_side.items()},
            "patients": {side: len({row["patient"] for row in rows}) for side, rows in rows_by_side.items()},
            "sources": _counted(items_by_side, lambda item: item.question.source),
            "forms": _counted(items_by_side, lambda item: item.question.form or "not given"),
            "languages": _counted(items_by_side, lambda item: item.question.language),
            "answers": _answers(items_by_side),
        },
        "baselines": _baselines(items_by_side),
        "left_out": dict(sorted(left_out.items())),
        "licences": _licences(every),
        "fingerprint": fingerprint,
    }


def strictest(licences: Sequence[str | None]) -> str:
    """Return the licence that allows least: passing on first, then works made from it, then use for money.

    What is not known counts as less than a yes and more than a no.
    """
    return min((known_licence(licence) for licence in licences), key=lambda name: (_freedom(name), name))


def _freedom(name: str) -> tuple[float, ...]:
    terms = LICENCES[name]
    allowed = (terms.redistribution, terms.derivatives, terms.commercial)
    return (
        *(0.5 if each is None else float(each) for each in allowed),
        terms.share_alike is None,
        not terms.attribution,
    )


def _licences(items: Sequence[Item]) -> dict[str, Any]:
    """Return source -> licence, the strictest of them, and what may be done with all together."""
    told: dict[str, set[str | None]] = defaultdict(set)
    for item in items:
        told[item.question.source].add(item.license)
    of_source = {source: strictest(list(licences)) for source, licences in sorted(told.items())}
    return {"sources": of_source, "strictest": strictest(list(of_source.values())), "together": combined(of_source)}


def _baselines(items_by_side: Mapping[Side, Sequence[Item]]) -> dict[str, dict[str, float]]:
    """Return for each side but train what one reaches who never looks: by chance, or by the frequent answers of train.

    Both are shares of right answers, 0-1. Even letters leave the second: labels are as frequent as the data have them.
    """
    train = [item.question for item in items_by_side.get("train", ())]
    told: dict[str, dict[str, float]] = {}
    for side, items in items_by_side.items():
        if side != "train":
            said = majority_answers(train, [item.question for item in items])
            right = sum(said[item.id] == item.question.reference for item in items)
            chance = sum(1 / len(item.options) for item in items)
            told[side] = {"chance": round(chance / len(items), 4), "majority": round(right / len(items), 4)}
    return told


def _counted(items_by_side: Mapping[Side, Sequence[Item]], what: Callable[[Item], str]) -> dict[str, dict[str, int]]:
    return {side: dict(sorted(Counter(map(what, items)).items())) for side, items in items_by_side.items()}


def _answers(items_by_side: Mapping[Side, Sequence[Item]]) -> dict[str, dict[str, dict[str, int]]]:
    """Return side -> number of options -> letter -> how often it is right."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for side, items in items_by_side.items():
        for number in sorted({len(item.options) for item in items}):
            right = Counter(item.question.reference for item in items if len(item.options) == number)
            counts.setdefault(side, {})[str(number)] = dict(sorted(right.items()))
    return counts
