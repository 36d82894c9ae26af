"""Export as Parquet that `datasets.load_dataset` opens: images as bytes, decoded by its Image feature."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from gmai_vl.corpus.columns import Counts
from gmai_vl.corpus.licences import known_licence
from gmai_vl.corpus.publishing.croissant import SAMPLE_FIELDS, Field, Node, file_set, record_set
from gmai_vl.corpus.publishing.entries import image_paths, indexed_messages, told
from gmai_vl.corpus.publishing.images import png_of
from gmai_vl.corpus.publishing.shards import write_shards
from gmai_vl.corpus.reader import Corpus
from gmai_vl.foundation import atomic_file
from gmai_vl.records import Sample, Split

SIDES: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}
"""Side -> what the hub calls it."""

FILES = """\
- `data/train-*.parquet`, `data/validation-*.parquet`, `data/test-*.parquet`: one row a sample. `images` holds the
  pictures themselves; `messages` has a role and a list of parts, an image by its `index` in `images`.

To read it (`pip install 'gmai-vl[publish]'`):

```python
from datasets import load_dataset

data = load_dataset("THIS_FOLDER")
data["train"][0]["images"][0]  # a PIL image
```"""

_ROWS_AT_A_TIME = 100
"""Rows of a group: readers decode a group as a whole, and its pictures are in memory meanwhile."""

_TEXT = (
    "id", "split", "subset", "kind", "granularity", "language", "answer", "modality", "department", "clinical_task",
    "source", "license", "writer", "image_sha256",
)  # fmt: skip

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_PART = pa.struct([("type", pa.string()), ("text", pa.string()), ("index", pa.int32())])
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.list_(_PART))])


def _list_of(feature: Any) -> dict[str, Any]:
    return {"feature": feature, "_type": "List"}


def _value(kind: str) -> dict[str, str]:
    return {"dtype": kind, "_type": "Value"}


_FEATURES = {
    **{name: _value("string") for name in _TEXT},
    "images": _list_of({"_type": "Image"}),
    "width": _value("int32"),
    "height": _value("int32"),
    "messages": _list_of(
        {
            "role": _value("string"),
            "content": _list_of({"type": _value("string"), "text": _value("string"), "index": _value("int32")}),
        }
    ),
    "options": _list_of(_value("string")),
}
"""What `datasets` (from 4) reads from the Parquet file's own description, so that bytes become images."""

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXT),
        ("images", pa.list_(_IMAGE)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("messages", pa.list_(_MESSAGE)),
        ("options", pa.list_(pa.string())),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


def write(corpus: Corpus, out: Path) -> int:
    """Write the shards; return the number of images in them."""
    return write_shards(
        corpus,
        lambda split, number: out / "data" / f"{SIDES[split]}-{number:05d}.parquet",
        partial(_write_shard, corpus),
    )


def _write_shard(corpus: Corpus, samples: Sequence[Sample], path: Path) -> None:
    with (
        atomic_file(path) as temporary,
        pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as file,
    ):
        for start in range(0, len(samples), _ROWS_AT_A_TIME):
            rows = [_row(corpus, sample) for sample in samples[start : start + _ROWS_AT_A_TIME]]
            file.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def _row(corpus: Corpus, sample: Sample) -> dict[str, Any]:
    images = [
        {"bytes": png_of(corpus, name), "path": path}
        for name, path in zip(sample.images, image_paths(sample), strict=True)
    ]
    size = {"width": sample.width, "height": sample.height}
    return {"id": sample.id, "images": images, "messages": indexed_messages(sample), **size, **told(sample)}


def header(manifest: dict[str, Any], counts: Counts) -> str:
    """Return the YAML that the hub and `load_dataset` read at the top of README.md."""
    licences = {known_licence(licence) for licence in counts.licences.values()}
    files = [
        {"split": SIDES[split], "path": f"data/{SIDES[split]}-*.parquet"}
        for split in SIDES
        if counts.tables["split"].get(split)
    ]
    told = {
        "pretty_name": manifest["name"],
        # One tag for one licence; of several the card tells what they allow together.
        "license": min(licences).lower() if len(licences) == 1 and "unknown" not in licences else "other",
        "language": sorted(counts.tables["language"]),
        "task_categories": ["visual-question-answering", "image-to-text"],
        "tags": ["medical", "research-use-only"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return f"---\n{yaml.safe_dump(told, allow_unicode=True, sort_keys=False)}---\n\n"


def describe(counts: Counts) -> tuple[list[Node], list[Node]]:
    """Return the distribution and the record sets of the Parquet files."""
    files = file_set("sample-files", "data/*.parquet", "application/x-parquet", "The samples with their images.")
    size = [Field(name=name, says="Pixels of the first image.", type="sc:Integer") for name in ("width", "height")]
    says = (
        "One row a sample. The columns `images` (bytes of PNG files) and `messages` are nested deeper than a field "
        "can tell."
    )
    return [files], [record_set("samples", says, "sample-files", [*SAMPLE_FIELDS, *size])]
