"""Files of a source: which there are, which mask belongs to which image, and that none lies outside the root."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gmai_vl.foundation import BadItem, UserError, is_inside, visible
from gmai_vl.sources.spec import BoxedSource


def list_files(name: str, root: Path, images: str, suffixes: Sequence[str] | None, key: str = "images") -> list[str]:
    """Return the paths below `root`, sorted, of the files that `images` (a folder or a glob) means.

    `key` is what the recipe calls it. A folder gives every file below it that ends in one of `suffixes` (None: all),
    hidden ones apart.
    Raises UserError, naming the source, if a folder is absent or nothing is found.
    """
    if not root.is_dir():
        raise UserError(f"source `{name}`: root: {root} is no folder; set `root`, relative to the recipe")
    if (root / images).is_dir():
        found = _below(root / images, suffixes)
        paths = [os.path.relpath(path, root) for path in found]
    else:
        paths = [path for path in _glob(images, root) if (root / path).is_file()]
    if not paths:
        what = f"no file that ends in {', '.join(suffixes)}" if suffixes else "no file"
        raise UserError(f"source `{name}`: {key}: {what} is found at `{images}` below {root}; set `{key}`")
    return sorted(Path(path).as_posix() for path in paths)


def _below(folder: Path, suffixes: Sequence[str] | None) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        found += [Path(parent, each) for each in files if not each.startswith(".") and _ends_in(each, suffixes)]
    return found


def _ends_in(file_name: str, suffixes: Sequence[str] | None) -> bool:
    return suffixes is None or file_name.lower().endswith(tuple(suffixes))


def stem_of(item: str) -> str:
    """Return the file name without its ending; `.nii.gz` is one ending."""
    file_name = PurePosixPath(item).name
    return file_name[: -len(".nii.gz")] if file_name.lower().endswith(".nii.gz") else PurePosixPath(file_name).stem


def plain_name(name: str) -> str:
    """Return a file name that an annotation file gives, fit to be looked up, logged and stored.

    What no file can be called (control characters, halves of characters, parts of more than 255 bytes) is written out
    or cut, so that there is no such file and the item is told as missing.
    """
    parts = visible(name).split("/")
    return "/".join(part if len(part.encode()) <= 255 else f"{part[:50]}..." for part in parts)[:1000]


def file_of(root: Path, item: str, pattern: str) -> Path:
    """Return the path of an item found through the recipe's `pattern`.

    Raises BadItem if it is no file, or if links or a `..` that the recipe did not write lead out of `root`.
    """
    path = root / item
    try:
        inside = is_inside(path, _ground(root, pattern))
    except (OSError, RuntimeError, ValueError):  # pathlib's RuntimeError is a loop of links
        raise BadItem(f"{item}: cannot be followed: a loop of links, or a name that no file has") from None
    if not inside:
        raise BadItem(f"{item}: leads out of the source's root")
    if not path.is_file():
        raise BadItem(f"{item}: is no file")
    return path


def _ground(root: Path, pattern: str) -> Path:
    """Return the folder that files must lie in: the root, or where the recipe's own `..` leads to."""
    parts = PurePosixPath(pattern).parts
    if ".." not in parts:
        return root
    fixed = next((number for number, part in enumerate(parts) if re.search(r"[*?\[{]", part)), len(parts))
    return root.joinpath(*parts[:fixed])


def list_annotated(spec: BoxedSource, root: Path, suffixes: Sequence[str], ending: str) -> list[str]:
    """Return the pictures of a source with one annotation file each, and the annotation files that have no picture.

    Raises UserError, naming the source, if there are no pictures or no folder of annotations.
    """
    folder = root / spec.annotations
    if not folder.is_dir():
        raise UserError(f"source `{spec.name}`: annotations: {folder} is no folder; set `annotations`, below `root`")
    items = list_files(spec.name, root, spec.images, suffixes)
    taken = {place for item in items for place in _annotation_places(spec, root, item, ending)}
    alone = [os.path.relpath(path, root) for path in _below(folder, (ending,)) if path not in taken]
    return sorted(items + [Path(path).as_posix() for path in alone])


def annotation_of(spec: BoxedSource, root: Path, item: str, ending: str) -> Path | None:
    """Return the annotation file of a picture, None if it has none. Raises BadItem if links lead out of `root`.

    It has the picture's path below `images`, or its name, below `annotations`.
    """
    for path in _annotation_places(spec, root, item, ending):
        if path.is_file():
            return file_of(root, os.path.relpath(path, root), spec.annotations)
    return None


def _annotation_places(spec: BoxedSource, root: Path, item: str, ending: str) -> list[Path]:
    folder, name = root / spec.annotations, f"{stem_of(item)}{ending}"
    below = PurePosixPath(os.path.relpath(root / item, root / spec.images)).parent
    same_path = [] if ".." in below.parts or not (root / spec.images).is_dir() else [folder / below / name]
    return list(dict.fromkeys([*same_path, folder / name]))


def masks_of(root: Path, item: str, masks: str, key: str | None) -> list[str]:
    """Return the paths below `root`, sorted, of the mask files of an image.

    `masks` holds {stem}, {parent} (name of the image's folder) or {key} (first group of `key` in the image's file
    name), and may be a glob. Raises BadItem if there is none.
    """
    names = {"stem": stem_of(item), "parent": (root / item).parent.name}
    if key is not None:
        match = re.search(key, PurePosixPath(item).name)
        if match is None or match[1] is None:
            raise BadItem(f"`key` {key!r} is not found in the file name")
        names["key"] = match[1]
    escaped = {name: glob.escape(value) for name, value in names.items()}
    found = sorted(Path(path).as_posix() for path in _glob(_filled(masks, escaped), root))
    if not found:
        raise BadItem(f"has no mask at `{_filled(masks, names)}`")
    return found


def _filled(pattern: str, names: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], pattern)


def _glob(pattern: str, root: Path) -> list[str]:
    # Path.glob would take hidden files too.
    return glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207
