"""The official release's list of data sets: `{NAME: {image_dir, annotations, sample_ratio, length, data_augment}}`.

The released code reads neither `length` nor `data_augment`, and `sample_ratio` to no effect. Here the ratio is kept to,
and a length that is not that of the file is named.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from gmai_vl.foundation import BadItem, Settings, UserError, load_settings
from gmai_vl.sources.entries import READERS, read_json


class _Entry(Settings):
    image_dir: str | None = None
    annotations: str
    sample_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    length: int | None = None
    data_augment: bool = False
    format: Literal["llava", "llava_interleave"] = "llava"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """One data set of a list."""

    name: str
    annotations: Path
    images: Path
    """Folder that the paths of its pictures count from."""

    ratio: float
    """Share of its rows that is taken, in (0, 1]."""


def is_dataset_list(file: Path) -> bool:
    """Say whether a file is such a list and not one of conversations. Raises UserError if it is no JSON."""
    return file.suffix.lower() == ".json" and _is_list(_read(file))


def read_dataset_list(file: Path, images: Path | None) -> tuple[list[ListedFile], list[str]]:
    """Return the data sets of a list and, one line each, what is wrong in it and yet does no harm.

    Paths count from the folder of the list, or else from `images`. Raises UserError, naming file and key, for an
    unknown key, a ratio that is not in (0, 1], and files or folders that are not there.
    """
    listed, notes = [], []
    for name, value in _read(file).items():
        entry = load_settings(_Entry, value, f"{file}: {name}")
        annotations = _found(file, images, name, "annotations", entry.annotations)
        if not annotations.is_file():
            raise UserError(f"{file}: {name}.annotations: {annotations} is no file of conversations")
        folder = (
            annotations.parent if entry.image_dir is None else _found(file, images, name, "image_dir", entry.image_dir)
        )
        if not folder.is_dir():
            raise UserError(f"{file}: {name}.image_dir: {folder} is no folder")
        listed.append(ListedFile(name=name, annotations=annotations, images=folder, ratio=entry.sample_ratio))
        if entry.length is not None and (held := _length(annotations)) != entry.length:
            notes.append(f"{file}: {name}.length: says {entry.length}, but {annotations.name} holds {held} entries")
        if entry.data_augment:
            notes.append(f"{file}: {name}.data_augment: pictures are taken as they are, nothing is augmented")
    return listed, notes


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except BadItem as bad:
        raise UserError(f"{file.parent / str(bad)}") from None


def _is_list(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and bool(data)
        and all(isinstance(value, dict) and "annotations" in value for value in data.values())
    )


def _found(file: Path, images: Path | None, name: str, key: str, path: str) -> Path:
    for folder in (file.parent, images):
        if folder is not None and (folder / path).exists():
            return (folder / path).resolve()
    raise UserError(
        f"{file}: {name}.{key}: `{path}` is neither below {file.parent} nor below --images; paths count from there"
    )


def _length(annotations: Path) -> int:
    reader = READERS.get(annotations.suffix.lower())
    try:
        return 0 if reader is None else sum(1 for _ in reader(annotations, ()))
    except BadItem:  # told when the file is read for its rows
        return 0
