"""What samples are counted by: the columns, how many samples have which value, and what the paper tells of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from gmai_vl.corpus.tables import table_rows

NOT_GIVEN = "not given"

TASKS = {"cls": "classification", "det": "detection", "seg": "segmentation", "qa": "questions"}
"""What a source annotates, as ids have it and in words."""

COLUMNS = (
    "source", "original_task", "modality", "department", "clinical_task",
    "subset", "kind", "granularity", "language", "split", "license", "writer",
)  # fmt: skip
"""What the samples are counted by; `original_task` is what their source annotates, as in Figure 4 of the paper."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many samples of a corpus have which value."""

    tables: Mapping[str, Mapping[str, int]]
    """Column -> value -> number of samples, most frequent first."""

    licences: Mapping[str, str | None]
    """Source -> its licence; a source whose samples bear several stands once for each, as `source (licence)`."""


def count_samples(corpus: Path) -> Counts:
    """Count the samples of the tables in the folder `corpus`, which needs no manifest yet."""
    counters: dict[str, Counter[str]] = {column: Counter() for column in COLUMNS}
    licences: dict[str, dict[str | None, None]] = {}
    wanted = ("id", "task", *(column for column in COLUMNS if column != "original_task"))
    for row in table_rows(corpus, "samples", wanted):
        row["original_task"] = f"{row['id'].partition('#')[0]} {TASKS[row['task']]}"
        for column in COLUMNS:
            counters[column][row[column] or NOT_GIVEN] += 1
        licences.setdefault(row["source"], {})[row["license"]] = None
    tables = {
        column: dict(sorted(counter.items(), key=lambda entry: (-entry[1], entry[0])))
        for column, counter in counters.items()
    }
    return Counts(tables, dict(sorted(_by_name(licences))))


def _by_name(licences: Mapping[str, Mapping[str | None, None]]) -> list[tuple[str, str | None]]:
    return [
        (source if len(several) == 1 else f"{source} ({licence or NOT_GIVEN})", licence)
        for source, several in licences.items()
        for licence in several
    ]


def paper_shares() -> dict[str, dict[str, float]]:
    """Return column -> value -> per cent of GMAI-VL-5.5M, where the paper tells it."""
    return {
        column: {name: share for name, share in shares.items() if share is not None}
        for column, shares in _paper().items()
    }


def unclear_in_paper(column: str) -> set[str]:
    """Return the values of a column whose share the paper gives, but not so that it can be told without doubt."""
    return {name for name, share in _paper().get(column, {}).items() if share is None}


@cache
def _paper() -> dict[str, dict[str, float | None]]:
    shares: dict[str, dict[str, float | None]] = yaml.safe_load(
        (files("gmai_vl.corpus") / "paper_shares.yaml").read_text(encoding="utf-8")
    )
    return shares
