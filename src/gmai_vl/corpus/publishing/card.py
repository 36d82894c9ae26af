"""The dataset card: what a corpus is, what it may be used for, how it was made, and where its limits lie."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmai_vl.corpus.columns import NOT_GIVEN, Counts, count_samples, paper_shares, unclear_in_paper
from gmai_vl.corpus.licences import combined
from gmai_vl.corpus.publishing.croissant import corpus_croissant
from gmai_vl.foundation import write_json, write_text

_HOW_WRITTEN = {
    "template": "by templates, from facts computed from the annotation",
    "source": "by the source itself, which holds questions and answers (form `given`)",
}
"""Writer -> where its texts come from; any other writer is a language model."""


def write_cards(corpus: Path, manifest: Mapping[str, Any]) -> None:
    """Write card.md and croissant.json into the folder of a corpus whose tables are whole; both depend on them alone.

    `manifest` is what its manifest.json says, or is about to say.
    """
    counts = count_samples(corpus)
    write_text(corpus / "card.md", corpus_card(manifest, counts))
    write_json(corpus / "croissant.json", corpus_croissant(manifest, counts))


def corpus_card(manifest: Mapping[str, Any], counts: Counts) -> str:
    """Return the card of a corpus as Markdown."""
    return _joined(manifest, _opening(manifest, counts), counts)


def export_card(manifest: Mapping[str, Any], counts: Counts, files: str) -> str:
    """Return the card of an export of a corpus; `files`, Markdown, says which files there are and how to read them."""
    exported = (
        "## Files\n\n"
        f"{files}\n\n"
        "Ids trace a sample to its source: dimension, task, modality, source, folder, label, file, running number. "
        "They hold the names of the source's files. Patients are not named; all images of a patient stand on one side "
        "of the split where the sources tell patients, so keep the sides apart."
    )
    return _joined(manifest, [*_opening(manifest, counts), exported], counts)


def _joined(manifest: Mapping[str, Any], opening: Sequence[str], counts: Counts) -> str:
    return "\n\n".join([*opening, *_body(manifest, counts)]) + "\n"


def _opening(manifest: Mapping[str, Any], counts: Counts) -> list[str]:
    numbers = manifest["counts"]
    patients = f", {numbers['patients']:,} patients" if numbers["patients"] else ""
    return [
        f"# {_cell(manifest['name'])}",
        "**Research use only, not for diagnosis.**",
        f"Instruction data about medical images: {numbers['samples']:,} samples on "
        f"{numbers['cases']:,} cases (an image, or text alone){patients}. "
        f"Languages: {', '.join(counts.tables['language'])}.",
    ]


def _body(manifest: Mapping[str, Any], counts: Counts) -> list[str]:
    numbers, recipe = manifest["counts"], manifest["recipe"]
    outcomes = [[outcome, f"{number:,}"] for outcome, number in numbers["outcomes"].items()]
    sides = [
        [side, f"{numbers['cases_by_split'].get(side, 0):,}", f"{numbers['samples_by_split'].get(side, 0):,}"]
        for side in ("train", "val", "test")
    ]
    by_column = [
        f"### By {column.replace('_', ' ')}\n\n" + _table(*_with_shares(column, values))
        for column, values in counts.tables.items()
    ]
    return [
        "## Sources and licences",
        "The licence of a source holds for its images and for the texts written about them. "
        "Every sample names its own.",
        _table(["source", "format", "cases", "samples", "licence", "from"], _sources(manifest)),
        "What the licences together allow (no legal advice):",
        "\n".join(f"- {_cell(sentence)}" for sentence in combined(counts.licences)),
        "## Splits",
        f"The smallest thing that never stands on two sides is the {manifest['split_unit']}. "
        "Pixel-equal images and equal texts are kept once.",
        _table(["side", "cases", "samples"], sides),
        "## How it was made",
        f"Built by gmai-vl {manifest['tool_version']} from the recipe in manifest.json "
        f"(sha256 `{manifest['recipe_sha256']}`), seed {recipe['seed']}. "
        f"Fingerprint `{manifest['fingerprint']}`. The texts were written:",
        "\n".join(f"- {line}" for line in _writers(counts)),
        "Every text was held against its annotation, or against the words of its source, by other code than "
        "wrote it; each sample of the corpus carries the facts, the prompt and the checks that it passed.",
        "What became of the items of the sources (reasons: ledger.parquet of the corpus):",
        _table(["outcome", "items"], outcomes),
        "## Limits",
        "- For research; no part of it has been validated for clinical use.\n"
        "- The texts say what the annotation implies and nothing more; its faults are their faults.\n"
        "- Left and right mean the sides of the image unless the label itself says otherwise.\n"
        "- The sources decide which patients, devices and diseases are met; no clinic has these shares.",
        "## What is in it",
        *by_column,
    ]  # fmt: skip


def _sources(manifest: Mapping[str, Any]) -> list[list[str]]:
    of_source = manifest["counts"]["sources"]
    return [
        [
            source["name"],
            source["format"],
            f"{of_source.get(source['name'], {}).get('cases', 0):,}",
            f"{of_source.get(source['name'], {}).get('samples', 0):,}",
            source.get("license") or NOT_GIVEN,
            source.get("url") or "",
        ]
        for source in manifest["recipe"]["sources"]
    ]


def _writers(counts: Counts) -> list[str]:
    return [
        f"{_HOW_WRITTEN.get(writer, f'by the language model `{_cell(writer)}`')}: {number:,} samples"
        for writer, number in counts.tables["writer"].items()
    ]


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


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Keep text from a source from being read as markup of the table or as HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
