"""A small corpus of every sort of sample, for the tests of publishing: drawn pictures, texts, hostile names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from corpus_recipes import RECIPE, save, write_picture, write_recipe, write_sources

from gmai_vl.corpus import Corpus, build
from gmai_vl.records import Sample

TALKS: list[dict[str, Any]] = [
    {"image": "grey.png", "messages": [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": [
            {"type": "text", "text": "Look at this."}, {"type": "image", "image": "grey.png"},
            {"type": "text", "text": "What is it?"}, {"type": "text", "text": "And where?"}]},
        {"role": "assistant", "content": "A grey\n\nsquare."}]},
    {"image": "grey.png", "messages": [
        {"role": "user", "content": "图像正常吗？"}, {"role": "assistant", "content": "是"}]},
    {"messages": [{"role": "user", "content": "What is fever?"}, {"role": "assistant", "content": "A sign."}]},
    {"messages": [{"role": "user", "content": "Is water wet?"}, {"role": "assistant", "content": "Yes."}]},
    {"messages": [
        {"role": "user", "content": "什么是肺炎？"}, {"role": "assistant", "content": "肺部的炎症。"},
        {"role": "user", "content": "会传染吗？"}, {"role": "assistant", "content": "有时会。"}]},
]  # fmt: skip
TEXTS = {
    "name": "texts",
    "format": "text",
    "root": "texts",
    "annotations": "talks.json",
    "conversations_column": "messages",
    "image_column": "image",
}
HOSTILE = (
    "a b", "../up", "x" * 200, "病例", "con.", "NUL", "q#1%2", "<img src=x>'\"&|", "A", "A.png", "-rf", "{}$(id)",
)  # fmt: skip
"""What files may be called, each a patient's picture."""


def write_corpus(folder: Path) -> Path:
    """Draw the sources, build the corpus and return its folder."""
    write_sources(folder)
    for number, name in enumerate(HOSTILE):
        write_picture(folder / "skin" / "nevus" / f"p{number + 10}_{name.replace('/', '_')}.png", seed=5000 + number)
    save(folder / "texts" / "grey.png", np.arange(20 * 30, dtype=np.uint16).reshape(20, 30).astype(np.uint8))
    (folder / "texts" / "talks.json").write_text(json.dumps(TALKS))
    subsets = ["caption", "percept", "instruct", "text-single", "text-multi"]
    recipe = write_recipe(folder, subsets=subsets, sources=[*RECIPE["sources"], TEXTS])
    return build(recipe, folder / "corpus").corpus


def as_published(sample: Sample) -> tuple[object, ...]:
    """Return what an export has to keep of a sample."""
    return (
        sample.id, sample.turns, sample.images, sample.width, sample.height, sample.language, sample.subset,
        sample.kind, sample.granularity, sample.options, sample.answer, sample.split, sample.modality,
        sample.department, sample.clinical_task, sample.license,
    )  # fmt: skip


def published(corpus: Path) -> dict[str, tuple[object, ...]]:
    """Return id -> what an export has to keep, of all samples of a corpus."""
    samples = Corpus(corpus).samples()
    by_id = {sample.id: as_published(sample) for sample in samples}
    assert len(by_id) == len(samples)
    return by_id


def files_of(folder: Path) -> dict[str, bytes]:
    """Return path -> content of all files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
