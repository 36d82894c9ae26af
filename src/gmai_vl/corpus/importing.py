"""Import a file of conversations, as the official release and most trainers write them, as a corpus."""

import os
import re
from pathlib import Path

from gmai_vl.corpus.build import Summary, build_recipe
from gmai_vl.corpus.recipe import DataRecipe
from gmai_vl.foundation import UserError, load_settings
from gmai_vl.sources.entries import READERS, filled_columns

_CONVERSATIONS = ("conversations", "messages")
_IMAGES = ("image", "images")
_LOOKED_AT = 100
"""Entries from which the form is told."""


def import_conversations(
    file: Path, images: Path | None, out: Path, *, license: str | None = None, workers: int = 1
) -> Summary:
    """Build a corpus in `out` of a file of conversations in LLaVA's form or as messages; resumes by itself.

    `images` is the folder that the paths of the pictures count from; without it, the folder of the file.
    Pictures are stored as in every corpus; what cannot be used is quarantined with its reason, at most half of it. A
    twentieth of the pictures (of the texts, where there are none) is held out for validation, nothing for tests.
    Raises UserError if the file is of no known kind or form, and what `build` raises.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; give a file of conversations ({', '.join(READERS)})")
    root = (images or file.parent).resolve()
    if not root.is_dir():
        raise UserError(f"--images: {root} is no folder")
    name = re.sub(r"[^\w.-]+", "-", file.stem) or "imported"
    conversations, image, id_column = _form(file)
    source = {
        "name": name,
        "format": "text",
        "root": str(root),
        "annotations": Path(os.path.relpath(file.resolve(), root)).as_posix(),
        "conversations_column": conversations,
        "image_column": image,
        "id_column": id_column,
        "license": license,
    }
    recipe = {
        "name": name,
        "languages": {"en": 1.0},
        "subsets": ["instruct", "text-single", "text-multi"],
        "split": {"train": 0.95, "val": 0.05, "test": 0.0},
        "max_quarantined": 0.5,
        "sources": [source],
    }
    return build_recipe(load_settings(DataRecipe, recipe, file), file, out, workers=workers)


def _form(file: Path) -> tuple[str, str | None, str | None]:
    """Return the columns of conversation, image and id, from the first entries."""
    filled = filled_columns(file, str(file), (*_CONVERSATIONS, *_IMAGES, "id"), _LOOKED_AT)
    conversations = next((column for column in _CONVERSATIONS if column in filled), None)
    if conversations is None:
        raise UserError(
            f"{file}: its entries have neither `conversations` nor `messages`; use a recipe with a text source"
        )
    image = next((column for column in _IMAGES if column in filled), None)
    return conversations, image, "id" if "id" in filled else None
