"""The catalogue: public source datasets that are known, what is known of them, and a recipe to begin with."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from gmai_vl.foundation import UserError, nearest
from gmai_vl.vocabulary import MODALITIES


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One public dataset, as far as it is known; "" and () where nothing is."""

    name: str
    aliases: tuple[str, ...]
    used: str
    """Whether GMAI-VL-5.5M was made from it: yes (seen in its released annotations), likely (named in a list by its
    makers), no (no trace, which proves nothing)."""

    evidence: str
    """What `used` rests on."""

    modalities: tuple[str, ...]
    dimensions: tuple[str, ...]
    tasks: tuple[str, ...]
    """cls, seg, det, other."""

    anatomy: str
    department: str
    labels: str
    images: str
    """Number of images or volumes as its makers state it, in their words."""

    licence: str
    access: str
    """open, registration, kaggle, request."""

    url: str
    format: str
    """Format of the recipe that would read it, or unknown."""

    layout: str
    """Names of folders and endings of files."""

    verified: str
    """Name of the recipe in recipes/data/ that ran on its real files."""

    note: str


@cache
def datasets() -> tuple[Dataset, ...]:
    """Return all datasets, sorted by name."""
    text = (files("gmai_vl.sources") / "catalogue.csv").read_text(encoding="utf-8")
    return tuple(_dataset(row) for row in csv.DictReader(text.splitlines()))


def _dataset(row: dict[str, str]) -> Dataset:
    return Dataset(
        name=row["name"],
        aliases=_split(row["aliases"], ";"),
        used=row["in_gmai_vl"],
        evidence=row["evidence"],
        modalities=_split(row["modality"], "|"),
        dimensions=_split(row["dimension"], "|"),
        tasks=_split(row["task"], "|"),
        anatomy=row["anatomy"],
        department=row["department"],
        labels=row["labels"],
        images=row["images_or_volumes"],
        licence=row["licence"],
        access=row["access"],
        url=row["url"],
        format=row["format"],
        layout=row["layout_note"],
        verified=row["verified"],
        note=row["note"],
    )


def _split(cell: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(separator) if part.strip())


def search(words: str = "", **wanted: str | None) -> list[Dataset]:
    """Return the datasets that have every one of `words` and hold, in the fields of `wanted`, the texts given.

    Words are sought in name, aliases, anatomy and labels, texts anywhere in their field, both in any letter case.
    """
    return [
        dataset
        for dataset in datasets()
        if all(word.casefold() in _words_of(dataset) for word in words.split())
        and all(text is None or _holds(getattr(dataset, field), text) for field, text in wanted.items())
    ]


def _words_of(dataset: Dataset) -> str:
    return " ".join((dataset.name, *dataset.aliases, dataset.anatomy, dataset.labels)).casefold()


def _holds(value: str | tuple[str, ...], text: str) -> bool:
    wanted = text.casefold()
    return any(wanted == part.casefold() for part in value) if isinstance(value, tuple) else wanted in value.casefold()


def dataset_called(name: str) -> Dataset:
    """Return the dataset of a name or another name of it. Raises UserError, naming the nearest."""
    by_name = {other.casefold(): dataset for dataset in datasets() for other in (*dataset.aliases, dataset.name)}
    if found := by_name.get(name.casefold()):
        return found
    raise UserError(
        f"`{name}` is not in the catalogue; {nearest(name, (dataset.name for dataset in datasets()))[:300]}"
    )


_KEYS = {
    "folder": ['images: "."  # to fill: folder or glob of the pictures, one folder a class'],
    "table": [
        "images: images  # to fill: folder of the pictures",
        "annotations: labels.csv  # to fill: the table",
        "image_column: image  # to fill: or image_pattern",
        "label_column: label  # to fill: or label_columns",
    ],
    "coco": ["images: images  # to fill", "annotations: annotations.json  # to fill"],
    "voc": ["images: JPEGImages  # to fill", "annotations: Annotations  # to fill"],
    "mask": [
        "images: images  # to fill: folder or glob of the pictures",
        'masks: "masks/{stem}.png"  # to fill',
        "mask_labels: {255: lesion}  # to fill: mask value -> label; or threshold, or mask_label",
    ],
    "volume": [
        'images: "imagesTr/*.nii.gz"  # to fill',
        'masks: "labelsTr/{stem}.nii.gz"  # to fill',
        "mask_labels: {1: lesion}  # to fill: label value -> label",
    ],
    "dicom": [],
    "video": ['images: "*.mp4"  # to fill'],
}
"""Format -> the lines that nobody can know without the files."""


def starting_recipe(dataset: Dataset) -> str:
    """Return the YAML of a recipe with what is known filled in; what is not is marked `# to fill`."""
    return "\n".join(_recipe_lines(dataset)) + "\n"


def _recipe_lines(dataset: Dataset) -> Iterator[str]:
    format_ = dataset.format if dataset.format in _KEYS else "volume" if "3d" in dataset.dimensions else "folder"
    known = {term.en for term in MODALITIES}
    modality = next((name for name in dataset.modalities if name in known), None)
    name = re.sub(r"[^\w.-]+", "-", dataset.name).strip("-.").lower()
    yield f"# {dataset.name}: {dataset.images or 'an unknown number of'} images or volumes, as stated by its makers."
    yield f"# Access: {dataset.access or 'unknown'}. Layout: {dataset.layout or 'unknown'}."
    if dataset.note:
        yield f"# Note: {dataset.note}."
    if dataset.verified:
        yield f"# recipes/data/{dataset.verified}.yaml ran on its real files; begin with that one."
    yield f"name: {name}"
    yield "seed: 0"
    yield "languages: {en: 0.7, zh: 0.3}"
    yield "sources:"
    yield f"  - name: {name}"
    guessed = "" if dataset.format in _KEYS else "  # to fill: guessed"
    yield f"    format: {format_}{guessed}"
    yield "    root: .  # to fill: folder of the files, relative to this recipe"
    for line in _KEYS[format_]:
        yield f"    {line}"
    if modality is not None:
        several = f"  # to fill: it has {', '.join(dataset.modalities)}" if len(dataset.modalities) > 1 else ""
        yield f"    modality: {modality}{several}"
    else:
        yield "    modality: CT  # to fill: unknown"
    if departments := _split(dataset.department, "|"):
        several = f"  # to fill: it has {', '.join(departments)}" if len(departments) > 1 else ""
        yield f"    department: {departments[0]}{several}"
    yield f"    # license:  # to fill: stated is `{dataset.licence or 'unknown'}`; write the SPDX name once you read it"
    if dataset.labels:
        yield f"    # labels:  # to fill: source label -> term; known: {' '.join(dataset.labels.split())}"
    yield "    # patient:  # to fill: {regex: ..., of: name}, where names of files tell the patient"
    if urls := re.findall(r"https?://\S+", dataset.url):
        yield f"    url: {urls[0]}"
