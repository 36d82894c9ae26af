"""Corpora to make questions to reason about from, and what one reads out of a folder of questions."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from corpus_recipes import write_recipe, write_sources

from gmai_vl.corpus import build
from gmai_vl.corpus.schema import SAMPLES
from gmai_vl.reasoning.items import SIDES, Side, side_file


def build_corpus(folder: Path) -> Path:
    build(write_sources(folder, patients=9, polyps=10), folder / "corpus")
    return folder / "corpus"


def build_other(corpus: Path) -> Path:
    """The same pictures in another corpus, split by another seed, its polyps under another name."""
    sources = yaml.safe_load((corpus.parent / "recipe.yaml").read_text())["sources"]
    sources[1]["name"] = "more-polyps"
    recipe = write_recipe(corpus.parent, name="other", seed=5, sources=sources)
    build(recipe, corpus.parent / "other")
    return corpus.parent / "other"


def rows_of(folder: Path, side: Side) -> list[dict[str, Any]]:
    file = side_file(folder, side)
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def all_rows(folder: Path) -> list[tuple[Side, dict[str, Any]]]:
    return [(side, row) for side in SIDES for row in rows_of(folder, side)]


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text("utf-8"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(corpus: Path, to: Path, change: Any) -> Path:
    """Copy a corpus with other samples."""
    shutil.copytree(corpus, to)
    for path in (to / "samples").glob("*.parquet"):
        rows = [change(row) for row in pq.read_table(path).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), path)
    return to
