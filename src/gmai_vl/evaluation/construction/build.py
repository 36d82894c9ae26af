"""Build a benchmark: gather, select, word, drop what is answered blind, draw, write."""

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmai_vl.corpus import Corpus
from gmai_vl.evaluation.construction.blind import read_blind
from gmai_vl.evaluation.construction.candidates import Gathered, gather
from gmai_vl.evaluation.construction.card import card
from gmai_vl.evaluation.construction.files import CARD, FILES, MANIFEST, draw_items, fingerprint, write_items
from gmai_vl.evaluation.construction.manifest import FORM, manifest_of
from gmai_vl.evaluation.construction.selection import Selection, select, without
from gmai_vl.evaluation.construction.wording import Item, item_of
from gmai_vl.foundation import UserError, atomic_folder, is_inside, write_json, write_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What a build came to."""

    out: Path
    items: int
    cells: int

    images: int
    """Images of the corpus that are shown; one may be shown with several regions."""

    patients: int
    """Where none is known, each image counts as one."""

    items_by_cell: dict[str, int]
    """Cell in words -> its items."""

    left_out: dict[str, dict[str, int]]
    """Cases, questions -> reason -> how many were left out."""

    fingerprint: str

    manifest: dict[str, Any]
    """All that manifest.json says."""


def build_benchmark(corpus: Path, out: Path, *, per_cell: int | None, seed: int, blind: Path | None = None) -> Built:
    """Make a benchmark in the form of GMAI-MMBench of the test split of the corpus in the folder `corpus`.

    Writes the folder `out` as a whole: the official TSV, the same as Parquet, the questions without images, a manifest
    and a card. `per_cell`: at most so many items of a cell (clinical task, department, modality, granularity), None
    for all. Chance depends on `seed` and names alone: the same corpus and seed give the same bytes.

    `blind` holds the answers of a model (JSON lines `{"id", "response"}`) to the blind.jsonl that a build of the same
    corpus with the same options gave: items that it answered right are dropped, and the others are balanced anew.

    Raises UserError if there is no finished corpus, if `out` holds anything but a benchmark or lies in the corpus, if
    nothing can be asked, if `blind` is not of this build, or if an image of the corpus is missing or changed.
    """
    opened = Corpus(corpus)
    _check_out(out, corpus)
    gathered = gather(opened)
    selection = select(gathered.candidates, per_cell, seed)
    asked = _in_words(selection, opened, seed)
    judged = None if blind is None else read_blind(blind, asked)
    if judged is not None:
        selection = without(selection, judged.right, seed)
    items = _in_words(selection, opened, seed)
    if not items:
        raise UserError(f"{corpus}: {_why_nothing(gathered, selection)}")

    options = {"seed": seed, "per_cell": per_cell}
    manifest = manifest_of(opened, gathered, selection, items, asked=asked, blind=judged, options=options)
    with atomic_folder(out) as folder:
        pictures = folder / "pictures"
        pictures.mkdir()
        manifest["fingerprint"] = fingerprint(items, draw_items(opened, items, pictures))
        write_items(folder, items, pictures)
        shutil.rmtree(pictures)
        write_text(folder / CARD, card(manifest))
        write_json(folder / MANIFEST, manifest)
    return Built(
        out=out,
        **{name: manifest["counts"][name] for name in ("items", "cells", "images", "patients")},
        items_by_cell=dict(Counter(item.cell.name for item in items)),
        left_out={what: manifest["left_out"][what] for what in ("cases", "questions")},
        fingerprint=manifest["fingerprint"],
        manifest=manifest,
    )


def _in_words(selection: Selection, corpus: Corpus, seed: int) -> list[Item]:
    return [item_of(choice, corpus.manifest["recipe"]["languages"], seed) for choice in selection.choices]


def _why_nothing(gathered: Gathered, selection: Selection) -> str:
    reasons = (gathered.cases + gathered.questions + selection.questions).most_common(3)
    told = "; ".join(f"{reason} ({number})" for reason, number in reasons)
    return f"nothing of its test split can be asked: {told or 'it is empty'}; look at its sources, labels and `split`"


def _check_out(out: Path, corpus: Path) -> None:
    """Refuse a folder that a build would destroy: the new one takes its place as a whole."""
    if is_inside(out, corpus) or is_inside(corpus, out):
        raise UserError(f"{out}: lies in the corpus or about it; give another --out")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder")
    there = {path.name for path in out.iterdir()} if out.exists() else set()
    if there and (there - set(FILES) or _form_of(out / MANIFEST) != FORM):
        stranger = min(there - set(FILES), default=min(there))
        raise UserError(f"{out}: holds `{stranger}`, which is no part of a benchmark; give a new or an empty folder")


def _form_of(manifest: Path) -> Any:
    try:
        return json.loads(manifest.read_text(encoding="utf-8"))["form"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
