"""Readers of annotated images, one module per format: files on disk become cases or reasons why not."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType

from gmai_vl.foundation import BadItem, UserError
from gmai_vl.records import Case, Rejected
from gmai_vl.sources.spec import (
    CocoSource,
    DicomSource,
    EmbeddedSource,
    FolderSource,
    MaskSource,
    PhantomSource,
    SourceSpec,
    TableSource,
    TextSource,
    VideoSource,
    VocSource,
    VolumeSource,
    YoloSource,
)

__all__ = [
    "CocoSource",
    "DicomSource",
    "EmbeddedSource",
    "FolderSource",
    "MaskSource",
    "PhantomSource",
    "SourceSpec",
    "TableSource",
    "TextSource",
    "VideoSource",
    "VocSource",
    "VolumeSource",
    "YoloSource",
    "list_items",
    "read_item",
]


def list_items(spec: SourceSpec, root: Path) -> list[str]:
    """Return the items of a source, sorted by name; `root` is absolute.

    Raises UserError if the recipe is wrong: no such folder, no file that matches, a package that is not installed.
    """
    items: list[str] = _reader(spec).list_items(spec, root)
    if spec.limit is None or len(items) <= spec.limit:
        return items
    # Evenly over the names, so that a trial meets every class of a folder source.
    return [items[index * len(items) // spec.limit] for index in range(spec.limit)]


def read_item(spec: SourceSpec, root: Path, item: str) -> Iterable[Case | Rejected]:
    """Read one file, volume or study; a video frame by frame. What cannot be used is Rejected with its reason."""
    reader = _reader(spec)
    try:
        found: Iterable[Case | Rejected] = reader.read_item(spec, root, item)
    except BadItem as bad:
        # Files of DICOM sources are told by a pseudonym: their names may be names of people.
        name = reader.item_name(spec, item) if spec.format == "dicom" else item
        return [Rejected(item=name, outcome="quarantined", reason=str(bad))]
    return found


def _reader(spec: SourceSpec) -> ModuleType:
    """Import the module that the format is named after: only then are its libraries needed."""
    try:
        return import_module(f"gmai_vl.sources.{spec.format}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("gmai_vl"):
            raise
        raise UserError(
            f"source `{spec.name}`: format `{spec.format}` needs the package `{error.name}`; "
            "run `pip install 'gmai-vl[sources]'`"
        ) from None
