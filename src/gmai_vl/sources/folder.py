"""Pictures sorted into folders: the class of a picture is the name of the folder it lies in."""

import os
from functools import lru_cache
from pathlib import Path, PurePosixPath

from gmai_vl.foundation import BadItem
from gmai_vl.records import Case, Finding, Rejected
from gmai_vl.sources.files import file_of, list_files
from gmai_vl.sources.images import SUFFIXES, read_image
from gmai_vl.sources.labels import look_up, patient_of, severity_of, term_of, terms_of
from gmai_vl.sources.spec import FolderSource


def list_items(spec: FolderSource, root: Path) -> list[str]:
    """Return the pictures below `root`, sorted. Raises UserError if there are none."""
    return list_files(spec.name, root, spec.images, SUFFIXES)


def read_item(spec: FolderSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read one picture: one case with one label of the whole image, or with `negative`. Raises BadItem."""
    path = file_of(root, item, spec.images)
    folder = path.parent
    if folder in (root, root / spec.images):
        raise BadItem("lies in no class folder")
    source_label = PurePosixPath(item).parent.name
    label = look_up(source_label, spec.labels, spec.unknown_labels)
    if label is None:
        return [Rejected(item=item, outcome="excluded", reason=f"the recipe excludes class `{source_label}`")]
    term = term_of(source_label, label)
    case = Case(
        source=spec.name,
        item=item,
        pixels=read_image(path),
        modality=spec.modality,
        department=spec.department,
        clinical_task=spec.clinical_task,
        task="cls",
        findings=() if label.negative else (Finding(label=term, source_label=source_label),),
        negative=term if label.negative else None,
        label_set=terms_of(_classes_beside(folder), spec.labels, spec.unknown_labels),
        severity=severity_of(spec.severity, spec.labels),
        patient_id=patient_of(spec.patient, root, item) if spec.patient else None,
        license=spec.license,
        url=spec.url,
    )
    return [case]


def _classes_beside(folder: Path) -> list[str]:
    return _classes(folder.parent, folder.parent.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _classes(folder: Path, changed: int) -> list[str]:
    """Return the names of the sub-folders with pictures; `changed` (the folder's time) makes it look again."""
    return sorted(each.name for each in folder.iterdir() if each.is_dir() and _holds_pictures(each))


def _holds_pictures(folder: Path) -> bool:
    with os.scandir(folder) as entries:  # not all of them are listed: there may be 100,000
        return any(each.name.lower().endswith(SUFFIXES) for each in entries)
