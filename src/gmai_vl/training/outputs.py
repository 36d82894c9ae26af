"""The folder that a training writes: whether it may, and what of an earlier training is removed from it."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from gmai_vl.foundation import UserError, is_inside

Wrote = Callable[[Path], bool]
"""Whether a training wrote an entry of its folder."""


def check_out(out: Path, needs: Mapping[str, Path], wrote: Wrote, *, overwrite: bool, resume: bool) -> None:
    """Raise UserError where a training may not write to `out`; nothing is changed.

    `needs` is what it reads, name -> path: none of it may lie in `out`, which --overwrite removes.
    """
    if overwrite and resume:
        raise UserError("--overwrite and --resume: give one of them, to begin anew or to go on")
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder as `out`")
    for name, path in needs.items():
        if is_inside(path, out):
            raise UserError(f"{out}: holds {name}; give another `out`")
    foreign = sorted(entry.name for entry in out.iterdir() if not (wrote(entry) or is_unfinished(entry)))
    if foreign:
        raise UserError(f"{out}: holds {foreign[0]}, which no training wrote; give an empty or new folder as `out`")
    if is_begun(out) and not (overwrite or resume):
        raise UserError(
            f"{out}: holds an earlier training; go on with --resume, remove it with --overwrite, or give another `out`"
        )


def is_begun(out: Path) -> bool:
    """Say whether anything stands in `out` but what a kill left unfinished."""
    return out.is_dir() and not all(map(is_unfinished, out.iterdir()))


def is_unfinished(entry: Path) -> bool:
    """Say whether `entry` is what a killed run was writing, or had just replaced."""
    return entry.name.startswith(".") and entry.suffix in (".tmp", ".old")


def remove_earlier(out: Path, wrote: Wrote) -> None:
    """Remove what earlier trainings wrote to `out`, and nothing else."""
    for entry in list(out.iterdir()) if out.is_dir() else ():
        if not (wrote(entry) or is_unfinished(entry)):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
