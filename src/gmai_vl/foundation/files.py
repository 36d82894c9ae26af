"""Files that are either whole or absent, and the canonical forms that hashes are taken over."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success flush it to disk and rename it, on failure remove it.

    A reader sees the old file or the whole new one, also after `kill -9` or a power cut.
    """
    with atomic_files() as temporary_for:
        yield temporary_for(path)


@contextmanager
def atomic_files() -> Iterator[Callable[[Path], Path]]:
    """Give a temporary path beside any path asked for; at the end do with all of them as `atomic_file` does with one.

    Each file is whole or absent. Folders are flushed once, so many small files cost little more than their writing.
    """
    files: dict[Path, Path] = {}  # temporary path -> the path it is for, of all that are not renamed yet

    def temporary_for(path: Path) -> Path:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        files[temporary] = path
        return temporary

    try:
        yield temporary_for
        for temporary in files:
            _flush_to_disk(temporary)
        folders = dict.fromkeys(path.parent for path in files.values())
        for temporary, path in list(files.items()):
            temporary.replace(path)
            del files[temporary]
        for folder in folders:
            _flush_to_disk(folder)
    finally:
        for temporary in files:
            temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no blanks, UTF-8 as it stands, no NaN."""
    return _CANONICAL.encode(value)


def sha256_of_text(text: str) -> str:
    """Return the hexadecimal sha256 of the UTF-8 bytes of `text`."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal sha256 of the bytes of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_inside(path: Path, root: Path) -> bool:
    """Say whether `path`, with every link and `..` resolved, lies in `root`."""
    return path.resolve().is_relative_to(root.resolve())
