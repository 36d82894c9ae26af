"""Import conversations, as the official release, most trainers and our own exports write them, as a corpus."""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from gmai_vl.corpus.build import Summary, build_recipe
from gmai_vl.corpus.dataset_list import ListedFile, is_dataset_list, read_dataset_list
from gmai_vl.corpus.recipe import DataRecipe
from gmai_vl.foundation import UserError, load_settings
from gmai_vl.records import Subset
from gmai_vl.sources.entries import READERS, filled_columns
from gmai_vl.sources.spec import EXPORT_KEY, EXPORTED

_CONVERSATIONS = ("conversations", "messages")
_IMAGES = ("image", "images")
_MARKS = ("subset", "kind", "granularity", "language", "split")
"""Columns that only our own messages have, all of them."""
_LOOKED_AT = 100
"""Entries from which the form is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Form:
    """What the columns of one or more files are called; None where there is none."""

    conversations: str
    image: str | None
    id: str | None
    exported: Literal["llava", "messages"] | None


def import_conversations(
    file: Path, images: Path | None, out: Path, *, license: str | None = None, workers: int = 1
) -> Summary:
    """Build a corpus in `out` of conversations in LLaVA's form or as messages; resumes by itself.

    `file` is one file, the folder of an export of ours, or the official release's list of data sets. `images` is the
    folder that the paths of the pictures count from; without it, the folder of the file, or what the list says.
    Pictures are stored as in every corpus; what cannot be used is quarantined with its reason, at most half of it. What
    an export of ours tells of a sample, its id and its side of the split too, is taken over. Of other pictures (of the
    texts, where there are none) a twentieth is held out for validation, nothing for tests.
    Raises UserError if the file is of no known kind or form, and what `build` raises.
    """
    notes: list[str] = []
    name = re.sub(r"[^\w.-]+", "-", file.stem) or "imported"
    if file.is_dir():
        forms, sources = _of_folder(name, file, images)
    elif not file.is_file():
        raise UserError(f"{file}: no such file; give a file of conversations ({', '.join(READERS)})")
    elif is_dataset_list(file):
        listed, notes = read_dataset_list(file, images)
        forms, sources = _of_list(name, listed)
    else:
        forms, sources = _of_file(name, file, images)
    exported = any(form.exported for form in forms)
    recipe = {
        "name": name,
        "languages": {"en": 1.0},
        "subsets": list(get_args(Subset)) if exported else ["instruct", "text-single", "text-multi"],
        "split": {"train": 0.95, "val": 0.05, "test": 0.0},
        # Pictures of an export have their sides already, and what looked alike was tied when those were given.
        "near_duplicates": "keep" if exported else "tie",
        "max_quarantined": 0.5,
        "sources": [source | {"license": license} for source in sources],
    }
    summary = build_recipe(load_settings(DataRecipe, recipe, file), file, out, workers=workers)
    return replace(summary, notes=tuple(notes))


def _of_file(name: str, file: Path, images: Path | None) -> tuple[list[_Form], list[dict[str, Any]]]:
    root = _folder(images or file.parent)
    form = _form([file])
    return [form], [_source(name, form, root) | {"annotations": _below(file, root)}]


def _of_folder(name: str, folder: Path, images: Path | None) -> tuple[list[_Form], list[dict[str, Any]]]:
    below = folder / "annotations"
    files = sorted(path for path in below.rglob("*") if path.suffix.lower() in READERS and path.is_file())
    if not files:
        raise UserError(
            f"{folder}: has no files of conversations below `annotations`; give the folder that "
            "`gmai data export --to llava` or `--to messages` made, or one file"
        )
    root = _folder(images or folder)
    form = _form(files)
    return [form], [_source(name, form, root, several=True) | {"annotations": _below(below, root)}]


def _of_list(name: str, listed: Sequence[ListedFile]) -> tuple[list[_Form], list[dict[str, Any]]]:
    """Make one source of all files with one folder of images, so that what they say of one picture comes together."""
    groups: dict[Path, list[ListedFile]] = {}
    for each in listed:
        groups.setdefault(each.images, []).append(each)
    forms, sources = [], []
    for number, (root, group) in enumerate(groups.items()):
        form = _form([each.annotations for each in group])
        ratios = {_below(each.annotations, root): each.ratio for each in group}
        if len(ratios) < len(group):
            raise UserError(f"{root}: the list names an annotation file for it twice; leave one out")
        source = _source(name if len(groups) == 1 else f"{name}-{number}", form, root, several=True)
        forms.append(form)
        sources.append(source | {"annotations": min(ratios), "sample_ratios": ratios})
    return forms, sources


def _source(name: str, form: _Form, root: Path, *, several: bool = False) -> dict[str, Any]:
    optional = (form.image, form.id, *({"llava": (EXPORT_KEY,), "messages": EXPORTED}[form.exported or "llava"]))
    return {
        "name": name,
        "format": "text",
        "root": str(root),
        "conversations_column": form.conversations,
        "image_column": form.image,
        "id_column": form.id,
        "exported": form.exported,
        "may_lack": [column for column in optional if column] if several else [],
    }


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise UserError(f"--images: {path.resolve()} is no folder")
    return path.resolve()


def _below(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path.resolve(), root)).as_posix()


def _form(files: Sequence[Path]) -> _Form:
    """Return the columns of conversation, image and id, from the first entries of files that are read as one."""
    forms = {file: _form_of_file(file) for file in files}
    conversations = _only({file: form.conversations for file, form in forms.items()})
    return _Form(
        conversations=str(conversations),
        image=_only({file: form.image for file, form in forms.items()}),
        id=_only({file: form.id for file, form in forms.items()}),
        exported=_only({file: form.exported for file, form in forms.items()}),  # type: ignore[arg-type]
    )


def _only(names: dict[Path, str | None]) -> str | None:
    """Return the one name that the files use; some may have none. Raises UserError if they use two."""
    used = {name: file for file, name in names.items() if name is not None}
    if len(used) > 1:
        (one, first), (other, second), *_ = used.items()
        raise UserError(f"{second}: writes `{other}` where {first.name} writes `{one}`; import them one by one")
    return next(iter(used), None)


def _form_of_file(file: Path) -> _Form:
    if file.suffix.lower() == ".parquet" and _holds_pictures(file):
        raise UserError(
            f"{file}: holds its pictures as bytes, which import does not read; export with `--to llava` or `messages`"
        )
    filled = filled_columns(file, str(file), (*_CONVERSATIONS, *_IMAGES, *_MARKS, "id", EXPORT_KEY), _LOOKED_AT)
    conversations = next((column for column in _CONVERSATIONS if column in filled), None)
    if conversations is None:
        raise UserError(
            f"{file}: its entries have neither `conversations` nor `messages`; use a recipe with a text source"
        )
    return _Form(
        conversations=conversations,
        image=next((column for column in _IMAGES if column in filled), None),
        id="id" if "id" in filled else None,
        exported=_exported(filled),
    )


def _holds_pictures(file: Path) -> bool:
    """Say whether a Parquet file has pictures in a column of its own, as `gmai data export --to hf` writes them."""
    try:
        schema = pq.read_schema(file)
    except (OSError, pa.ArrowException):  # told when its columns are read
        return False
    kinds = [schema.field(name).type for name in schema.names if name in _IMAGES]
    return any(pa.types.is_struct(kind.value_type if pa.types.is_list(kind) else kind) for kind in kinds)


def _exported(filled: Collection[str]) -> Literal["llava", "messages"] | None:
    if EXPORT_KEY in filled and "conversations" in filled:
        return "llava"
    return "messages" if {*_MARKS, "messages", "id"} <= set(filled) else None
