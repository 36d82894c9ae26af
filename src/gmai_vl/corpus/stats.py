"""What is in a corpus: tables, plots and the card that travels with it."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from gmai_vl.corpus.columns import NOT_GIVEN, TASKS
from gmai_vl.corpus.licences import combined
from gmai_vl.corpus.plots import plot
from gmai_vl.corpus.reader import Corpus
from gmai_vl.corpus.schema import sample_of
from gmai_vl.foundation import atomic_file, write_text
from gmai_vl.writing.variety import variety_of

COLUMNS = (
    "source", "original_task", "modality", "department", "clinical_task",
    "subset", "kind", "granularity", "language", "split", "license",
)  # fmt: skip
"""What the samples are counted by; `original_task` is what their source annotates, as in Figure 4 of the paper."""


def stats(corpus: Path) -> dict[str, dict[str, int]]:
    """Return column -> value -> number of samples, most frequent first; write stats/COLUMN.png and card.md.

    Raises UserError if no finished corpus lies at `corpus`.
    """
    opened = Corpus(corpus)
    counters: dict[str, Counter[str]] = {column: Counter() for column in COLUMNS}
    for row in opened.rows("samples", ("id", "task", *(column for column in COLUMNS if column != "original_task"))):
        row["original_task"] = f"{row['id'].partition('#')[0]} {TASKS[row['task']]}"
        for column in COLUMNS:
            counters[column][row[column] or NOT_GIVEN] += 1
    tables = {
        column: dict(sorted(counter.items(), key=lambda entry: (-entry[1], entry[0])))
        for column, counter in counters.items()
    }
    for column, numbers in tables.items():
        with atomic_file(corpus / "stats" / f"{column}.png") as temporary:
            plot(column, numbers, paper_shares().get(column, {}), temporary)
    write_text(corpus / "card.md", _card(opened.manifest, tables))
    return tables


def variety_of_texts(corpus: Path) -> dict[str, dict[str, float]]:
    """Return "en caption caption said" and other groups -> column -> value, as `gmai_vl.writing.variety` tells it.

    Raises UserError if no finished corpus lies at `corpus`.
    """
    return variety_of(sample_of(row) for row in Corpus(corpus).rows("samples"))


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


def _card(manifest: Mapping[str, Any], tables: Mapping[str, Mapping[str, int]]) -> str:
    counts, recipe = manifest["counts"], manifest["recipe"]
    sources = [
        [
            source["name"],
            source["format"],
            f"{counts['sources'].get(source['name'], {}).get('cases', 0):,}",
            f"{counts['sources'].get(source['name'], {}).get('samples', 0):,}",
            source.get("license") or NOT_GIVEN,
            source.get("url") or "",
        ]
        for source in recipe["sources"]
    ]
    sides = [
        [side, f"{counts['cases_by_split'].get(side, 0):,}", f"{counts['samples_by_split'].get(side, 0):,}"]
        for side in ("train", "val", "test")
    ]
    outcomes = [[outcome, f"{number:,}"] for outcome, number in counts["outcomes"].items()]
    by_column = [
        f"### By {column.replace('_', ' ')}\n\n" + _table(*_with_shares(column, numbers))
        for column, numbers in tables.items()
    ]
    patients = f", {counts['patients']:,} patients" if counts["patients"] else ""
    return "\n\n".join(
        [
            f"# {_cell(manifest['name'])}",
            "**Research use only, not for diagnosis.**",
            f"Instruction data about medical images: {counts['samples']:,} samples on "
            f"{counts['cases']:,} cases (an image, or text alone){patients}. "
            f"Languages: {', '.join(tables['language'])}.",
            "## Sources and licences",
            "The licence of a source holds for its images and for the texts written about them. "
            "Every row of the samples names its own.",
            _table(["source", "format", "cases", "samples", "licence", "from"], sources),
            "What the licences together allow (no legal advice):",
            "\n".join(f"- {sentence}" for sentence in combined(_licences(recipe))),
            "## Splits",
            f"The smallest thing that never stands on two sides is the {manifest['split_unit']}. "
            "Pixel-equal images and equal texts are kept once.",
            _table(["side", "cases", "samples"], sides),
            "## How it was made",
            f"Built by gmai-vl {manifest['tool_version']} from the recipe in manifest.json "
            f"(sha256 `{manifest['recipe_sha256']}`), seed {recipe['seed']}. The texts were written by "
            "templates from facts computed from the annotation, or are those of a source that holds questions itself "
            "(form `given`); each sample carries the facts, the prompt and the checks that it passed. "
            f"Fingerprint `{manifest['fingerprint']}`.",
            "What became of the items of the sources (reasons: ledger.parquet):",
            _table(["outcome", "items"], outcomes),
            "## Limits",
            "- For research; no part of it has been validated for clinical use.\n"
            "- The texts say what the annotation implies and nothing more; its faults are their faults.\n"
            "- Left and right mean the sides of the image unless the label itself says otherwise.\n"
            "- The sources decide which patients, devices and diseases are met; no clinic has these shares.",
            "## What is in it",
            *by_column,
        ]
    ) + "\n"  # fmt: skip


def _with_shares(column: str, numbers: Mapping[str, int]) -> tuple[list[str], list[list[str]]]:
    """Return head and lines of a column's table: number, share, and the paper's share where it tells some."""
    paper, unclear, total = paper_shares().get(column, {}), unclear_in_paper(column), sum(numbers.values())
    head = [column.replace("_", " "), "samples", "%"] + (["% in GMAI-VL-5.5M"] if paper else [])
    lines = []
    for name in [*numbers, *(name for name in paper if name not in numbers)]:
        number = numbers.get(name, 0)
        told = [f"{paper[name]:g}" if name in paper else "unclear" if name in unclear else ""] if paper else []
        lines.append([name, f"{number:,}", f"{100 * number / total:.1f}", *told])
    return head, lines


def _licences(recipe: Mapping[str, Any]) -> dict[str, str | None]:
    return {source["name"]: source.get("license") for source in recipe["sources"]}


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Keep text from a source from being read as markup of the table or as HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
