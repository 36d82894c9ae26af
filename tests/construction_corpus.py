"""A small corpus to make a benchmark from, drawn at random; that benchmark; and what one reads out of it."""

import dataclasses
import io
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from corpus_recipes import save
from PIL import Image
from scipy import ndimage

from gmai_vl.corpus import Corpus, build
from gmai_vl.corpus.schema import CASES
from gmai_vl.evaluation.construction import build_benchmark
from gmai_vl.records import Case

OFFICIAL = [
    "index", "image", "question", "A", "B", "C", "D", "E", "answer", "category", "original task", "modality",
    "clinical VQA task", "department", "perceptual granularity",
]  # fmt: skip
"""As the published file has them."""


WIDTH, HEIGHT = 72, 60


ORGANS = {1: "liver", 2: "spleen", 3: "pancreas"}


CELLS = ("red blood cell", "white blood cell", "platelet")


PATIENTS = 16


SOURCES: list[dict[str, Any]] = [
    {
        "name": "skin", "format": "folder", "root": "skin", "modality": "Dermoscopy", "department": "Dermatology",
        "clinical_task": "Disease Diagnosis", "license": "CC0-1.0", "url": "https://example.org/skin",
        "patient": {"regex": r"(PERSONx\d+)_"},
        "labels": {
            "mel": {"en": "melanoma", "zh": "黑色素瘤"},
            "nevus": {"en": "melanocytic nevus", "zh": "黑素细胞痣"},
            "healthy": {"negative": True, "en": "no finding", "zh": "未见异常"},
        },
    },
    {
        "name": "organs", "format": "mask", "root": "organs", "images": "images", "masks": "masks/{stem}.png",
        "mask_labels": ORGANS, "modality": "CT", "department": "General Surgery", "license": "MIT",
        "clinical_task": "Organ Recognition - Abdomen", "patient": {"regex": r"(PERSONx\d+)_"},
    },
    {
        "name": "smears", "format": "yolo", "root": "smears", "images": "images", "annotations": "boxes",
        "names": list(CELLS), "modality": "Microscopy", "department": "Hematology", "license": "MIT",
        "clinical_task": "Cell Recognition",
    },
    {
        "name": "polyps", "format": "mask", "root": "polyps", "images": "images", "masks": "masks/{stem}.png",
        "mask_labels": {255: "colon polyp"}, "modality": "Endoscopy", "clinical_task": "Disease Diagnosis",
        "license": "MIT",
    },
    {
        "name": "shut", "format": "folder", "root": "shut", "modality": "X-Ray", "clinical_task": "Disease Diagnosis",
        "license": "CC-BY-ND-4.0",
    },
]  # fmt: skip


def write_corpus(folder: Path) -> Path:
    """Draw pictures of noise, no two alike, and build a corpus of them; more of some labels than of others."""
    rng = np.random.default_rng(7)

    def noise(*more: int) -> np.ndarray:
        return rng.integers(0, 256, (HEIGHT, WIDTH, *more), np.uint8)

    for number in range(PATIENTS):
        for label, times in {"mel": 2, "nevus": 1, "healthy": 1 + number % 2}.items():
            for again in range(times):
                save(folder / "skin" / label / f"PERSONx{number}_{label}{again}.png", noise(3))
        mask_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask_HW[8 : 20 + number, 10:34] = 1 + number % 3
        mask_HW[12:16, 14:20] = 0  # a hole
        if number % 4 == 0:
            mask_HW[30:50, 44:72] = 1 + (number + 1) % 3  # ends with the image
        save(folder / "organs" / "images" / f"PERSONx{number}_ct.png", noise())
        save(folder / "organs" / "masks" / f"PERSONx{number}_ct.png", mask_HW)
        save(folder / "smears" / "images" / f"{number}.png", noise(3))
        lines = [f"{number % 3} 0.3 0.4 0.25 0.3", f"{number % 3} 0.7 0.6 0.3 0.2", f"{number % 3} 0.2 0.9 0.02 0.02"]
        (folder / "smears" / "boxes").mkdir(parents=True, exist_ok=True)
        (folder / "smears" / "boxes" / f"{number}.txt").write_text("\n".join(lines))
        save(folder / "polyps" / "images" / f"{number}.png", noise(3))
        save(folder / "polyps" / "masks" / f"{number}.png", (mask_HW > 0).astype(np.uint8) * 255)
        save(folder / "shut" / ("a" if number % 2 else "b") / f"{number}.png", noise())
    recipe = {
        "name": "small", "seed": 0, "languages": {"en": 0.6, "zh": 0.4}, "subsets": ["caption"],
        "split": {"train": 0.4, "val": 0.1, "test": 0.5, "by": "patient"}, "near_duplicates": "keep",
        "sources": SOURCES,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True))
    return build(folder / "recipe.yaml", folder / "corpus").corpus


@pytest.fixture(scope="module", name="corpus")
def corpus_of_noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("construction"))


@pytest.fixture(scope="module", name="made")
def made_benchmark(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "bench"
    build_benchmark(corpus, out, per_cell=None, seed=0)
    return out


def changed(corpus: Path, to: Path, change: Any) -> Path:
    """Copy a corpus with the rows of its cases changed; its manifest stays."""
    shutil.copytree(corpus, to)
    rows = change(pq.read_table(to / "cases.parquet").to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, schema=CASES), to / "cases.parquet")
    return to


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "items.parquet").to_pylist()


def cell_of(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in OFFICIAL[-4:])


def by_cell(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    cells = defaultdict(list)
    for row in rows:
        cells[cell_of(row)].append(row)
    return cells


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


@dataclasses.dataclass(frozen=True)
class Shown:
    """A row with what its picture shows: the test case that it is a copy of, found by its pixels alone."""

    row: dict[str, Any]
    case: Case
    marked_HW: np.ndarray
    drawn_HW3: np.ndarray
    original_HW3: np.ndarray


def shown(corpus: Path, rows: list[dict[str, Any]]) -> Iterator[Shown]:
    opened = Corpus(corpus)
    tests = {row["case_id"] for row in opened.rows("cases") if row["split"] == "test"}
    cases = [
        (case, case.pixels if case.pixels.ndim == 3 else np.stack([case.pixels] * 3, axis=-1))
        for case in opened.cases()
        if case.case_id in tests
    ]
    for row in rows:
        drawn = np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"))
        equal = [float((original == drawn).all(axis=-1).mean()) for _, original in cases]
        case, original = cases[int(np.argmax(equal))]
        assert max(equal) > 0.3 and sorted(equal)[-2] < 0.01  # it is that one and no other
        yield Shown(row, case, (original != drawn).any(axis=-1), drawn, original)


def is_closed(line_HW: np.ndarray, mask_HW: np.ndarray) -> bool:
    """Say whether no way from a pixel of the mask to one outside avoids the line."""
    areas_HW, count = ndimage.label(~line_HW)
    return all(len({bool(inside) for inside in mask_HW[(areas_HW == area)]}) == 1 for area in range(1, count + 1))
