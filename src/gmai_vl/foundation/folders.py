"""Folders that are either whole or absent."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; on success flush it to disk and give it that name, on failure remove it.

    A folder that stood under the name before is replaced as a whole. A half-written one is never seen under it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        for entry in [*temporary.rglob("*"), temporary]:
            if entry.is_dir():
                entry.chmod(0o755)
            elif entry.stat().st_nlink == 1:  # another name of the file is not ours to open or close
                entry.chmod(0o644)
            _flush_to_disk(entry)
        _give_name(temporary, path)
        _flush_to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _give_name(folder: Path, path: Path) -> None:
    if not path.exists():
        folder.rename(path)
        return
    previous = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".old"))
    try:
        path.rename(previous / path.name)
        folder.rename(path)
    finally:
        shutil.rmtree(previous)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
