"""The files of a benchmark: the official TSV, the same as Parquet, and the questions without images."""

import base64
import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.images import write_png
from gmai_vl.corpus.schema import case_of
from gmai_vl.evaluation.construction.draw import draw
from gmai_vl.evaluation.construction.subjects import region_name
from gmai_vl.evaluation.construction.wording import Item, blind_line
from gmai_vl.foundation import canonical_json, progress, sha256_of_text
from gmai_vl.records import pixel_sha256

TSV = "GMAI-MMBench_VAL.tsv"
PARQUET = "items.parquet"
BLIND = "blind.jsonl"
MANIFEST = "manifest.json"
CARD = "card.md"
FILES = (TSV, PARQUET, BLIND, MANIFEST, CARD)

_LETTERS = ("A", "B", "C", "D", "E")

COLUMNS = (
    "index", "image", "question", *_LETTERS, "answer", "category", "original task", "modality", "clinical VQA task",
    "department", "perceptual granularity",
)  # fmt: skip
"""Of the official file; `category` is the text of the right option, and an option that there is not is empty."""

_FURTHER = ("id", "language", "patient_id", "source", "license")

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _FURTHER),
        ("index", pa.int32()),
        ("image", pa.binary()),
        *((name, pa.string()) for name in COLUMNS[2:]),
    ]
)
"""Of items.parquet: `image` holds the bytes of a PNG file."""

_ROWS_AT_A_TIME = 100


def draw_items(corpus: Corpus, items: Sequence[Item], folder: Path) -> dict[str, str]:
    """Write the image of every item as ID.png, its region marked; return id -> hash of the pixels, as `pixel_sha256`.

    Raises UserError if an image of the corpus is missing or changed.
    """
    by_case: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_case[item.choice.candidate.case_id].append(item)
    hashes = {}
    for row in progress(corpus.rows("cases"), "drawing", corpus.manifest["counts"]["cases"]):
        if row["case_id"] not in by_case:
            continue
        assert row["split"] == "test", row["case_id"]
        case = case_of(row, corpus.image(row["image"]))
        regions = {region_name(finding): finding for finding in case.findings}
        for item in by_case[case.case_id]:
            region, pixels = item.choice.candidate.region, case.pixels
            if region:
                pixels = draw(pixels, regions[region], item.cell.granularity)
            write_png(pixels, folder / f"{item.id}.png")
            hashes[item.id] = pixel_sha256(pixels)
    return hashes


def write_items(folder: Path, items: Sequence[Item], pictures: Path) -> None:
    """Write the TSV, the Parquet file and the questions without images; `pictures` holds ID.png of every item."""
    with (
        (folder / TSV).open("w", encoding="utf-8", newline="") as tsv,
        (folder / BLIND).open("w", encoding="utf-8", newline="\n") as blind,
        pq.ParquetWriter(folder / PARQUET, SCHEMA, compression="zstd") as parquet,
    ):
        writer = csv.DictWriter(tsv, COLUMNS, delimiter="\t", lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for start in range(0, len(items), _ROWS_AT_A_TIME):
            rows = []
            for index, item in enumerate(items[start : start + _ROWS_AT_A_TIME], start=start):
                png = (pictures / f"{item.id}.png").read_bytes()
                row = row_of(item)
                writer.writerow(row | {"index": index, "image": base64.b64encode(png).decode("ascii")})
                rows.append(row | {"index": index, "image": png})
                blind.write(json.dumps(blind_line(item), ensure_ascii=False) + "\n")
            parquet.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def row_of(item: Item) -> dict[str, Any]:
    """Return all that both tables say of an item, but for its index and image."""
    candidate, cell = item.choice.candidate, item.cell
    return {
        "id": item.id,
        "language": item.language,
        "patient_id": candidate.patient,
        "source": candidate.source,
        "license": candidate.license,
        "question": item.question,
        **{letter: item.options.get(letter, "") for letter in _LETTERS},
        "answer": item.answer,
        "category": item.options[item.answer],
        "original task": candidate.original_task,
        "modality": cell.modality,
        "clinical VQA task": cell.clinical_task,
        "department": cell.department,
        "perceptual granularity": f"{cell.granularity.capitalize()} level",
    }


def fingerprint(items: Sequence[Item], hashes: dict[str, str]) -> str:
    """Return the sha256 over the sorted canonical JSON of all rows, each with the hash of its image's pixels."""
    lines = sorted(canonical_json(row_of(item) | {"image": hashes[item.id]}) for item in items)
    return sha256_of_text("\n".join(lines))
