"""What a benchmark says of itself: counts, baselines, and what was left out for which reason."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from gmai_vl import __version__
from gmai_vl.corpus import Corpus
from gmai_vl.evaluation.construction.blind import Blind, chance, majority
from gmai_vl.evaluation.construction.candidates import Gathered, sources_of
from gmai_vl.evaluation.construction.selection import Selection
from gmai_vl.evaluation.construction.subjects import Cell
from gmai_vl.evaluation.construction.wording import Item

FORM = "GMAI-MMBench"


def manifest_of(
    corpus: Corpus,
    gathered: Gathered,
    selection: Selection,
    items: Sequence[Item],
    *,
    asked: Sequence[Item],
    blind: Blind | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Return the manifest, but for the fingerprint.

    `items` are those of `selection` in words, `asked` those before the blind baseline took some away, `options` what
    the build was called with.
    """
    return {
        "form": FORM,
        "corpus": {"name": corpus.manifest["name"], "fingerprint": corpus.manifest["fingerprint"]},
        **options,
        "tool_version": __version__,
        "use": "research use only, not for diagnosis",
        "counts": {
            "items": len(items),
            "cells": len({item.cell for item in items}),
            "images": len({item.choice.candidate.case_id for item in items}),
            "patients": len({item.choice.patient for item in items}),
            "languages": _counted(item.language for item in items),
            "granularities": _counted(item.cell.granularity for item in items),
        },
        "cells": [_about(cell, members, gathered, asked, blind) for cell, members in _by_cell(items).items()],
        "blind": None if blind is None else {"sha256": blind.sha256} | _judged(asked, blind),
        "left_out": {
            "cases": dict(sorted(gathered.cases.items())),
            "questions": dict(sorted((gathered.questions + selection.questions).items())),
            "cells": [_named(cell) | {"reason": reason} for cell, reason in sorted(selection.cells.items())],
        },
        "sources": _sources(corpus, items),
    }


def _about(
    cell: Cell, items: Sequence[Item], gathered: Gathered, asked: Sequence[Item], blind: Blind | None
) -> dict[str, Any]:
    likeliest = majority(items, gathered.train.get(cell, {}))
    told = _named(cell) | {
        "items": len(items),
        "patients": len({item.choice.patient for item in items}),
        "labels": _counted(item.choice.label.en for item in items),
        "options": _counted(str(len(item.options)) for item in items),
        "answers": _counted(item.answer for item in items),
        "chance": round(chance(items), 4),
        "majority": None if likeliest is None else {"label": likeliest[0], "accuracy": round(likeliest[1], 4)},
    }
    if blind is not None:
        told["blind"] = _judged([item for item in asked if item.cell == cell], blind)
    return told


def _judged(asked: Sequence[Item], blind: Blind) -> dict[str, Any]:
    right = sum(item.id in blind.right for item in asked)
    return {"asked": len(asked), "right": right, "accuracy": round(right / len(asked), 4)}


def _sources(corpus: Corpus, items: Sequence[Item]) -> list[dict[str, Any]]:
    numbers = Counter(item.choice.candidate.source for item in items)
    return [
        {"source": source, "license": licence, "url": url, "items": numbers[source]}
        for source, licence, url in sources_of(corpus)
        if numbers[source]
    ]


def _by_cell(items: Sequence[Item]) -> dict[Cell, list[Item]]:
    cells: dict[Cell, list[Item]] = defaultdict(list)
    for item in items:
        cells[item.cell].append(item)
    return dict(sorted(cells.items()))


def _named(cell: Cell) -> dict[str, str]:
    return {name: getattr(cell, name) for name in ("clinical_task", "department", "modality", "granularity")}


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
