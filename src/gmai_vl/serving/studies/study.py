"""An upload, opened: its series, told by what the files hold, and what had to be left out."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gmai_vl.foundation import BadItem
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.studies.content import Content, content_of
from gmai_vl.serving.studies.dicom_series import read_series
from gmai_vl.serving.studies.pictures import read_picture
from gmai_vl.serving.studies.series import Series
from gmai_vl.serving.studies.unpacking import Unpacker
from gmai_vl.serving.studies.volumes import read_volume


@dataclass(frozen=True, slots=True)
class Study:
    """What one upload holds."""

    series: tuple[Series, ...]
    left_out: tuple[tuple[str, int], ...]
    """Why files were left out, and how many; the most frequent first. Names nothing of a file."""

    nbytes: int
    """Memory, and disk for the files that slices are read from."""

    @property
    def files(self) -> frozenset[Path]:
        """What slices are read from; these have to stay where they are."""
        return frozenset(path for one in self.series for path in one.files)


def open_study(files: Sequence[Path], limits: Limits, folder: Path) -> Study:
    """Read pictures, DICOM files, volumes and zips of them, whatever their names.

    `folder` takes what has to be unpacked and stays as long as the study is looked at. Raises Refusal: 413 for too many
    files or too much in them, 422 where nothing can be shown.
    """
    if len(files) > limits.upload_files:
        raise Refusal(413, f"files: more than {limits.upload_files}", param="files")
    left_out: Counter[str] = Counter()
    dicom: list[Path] = []
    series: list[Series] = []
    room = limits.study_memory
    for path, content in _told(files, limits, folder, left_out):
        if content == "dicom":
            dicom.append(path)
            continue
        try:
            one = read_picture(path, limits) if content == "picture" else _volume(path, content, limits, room, folder)
        except BadItem as bad:
            left_out[str(bad)] += 1
            continue
        room -= one.nbytes
        series.append(one)
    of_dicom, reasons = read_series(dicom, limits, room)
    series = [*of_dicom, *series]
    told = tuple(sorted((left_out + reasons).items(), key=lambda each: (-each[1], each[0])))
    if not series:
        raise Refusal(422, f"files: nothing that can be shown; {_first_reason(told)}", param="files")
    numbered = tuple(replace(one, number=number) for number, one in enumerate(series))
    on_disk = sum(path.stat().st_size for path in {path for one in series for path in one.files})
    return Study(numbered, told, on_disk + sum(one.nbytes for one in series))


def _told(files: Sequence[Path], limits: Limits, folder: Path, left_out: Counter[str]) -> list[tuple[Path, Content]]:
    """Return all files, those within zips too, with what they are."""
    unpacker = Unpacker(folder, limits, len(files))
    plain = []
    for path in files:
        plain += unpacker.unpack(path) if content_of(path) == "zip" else [path]
    left_out.update(unpacker.left_out)
    told: list[tuple[Path, Content]] = []
    for path in plain:
        content = content_of(path)
        if content == "zip":
            left_out["is a zip in a zip"] += 1
        elif content is None:
            left_out["is no kind of file that is read here" if path.stat().st_size else "is empty"] += 1
        else:
            told.append((path, content))
    return told


def _volume(path: Path, suffix: str, limits: Limits, room: int, folder: Path) -> Series:
    """Read a volume under a name that tells its format and nothing else."""
    named = folder / f"volume{suffix}"
    try:
        try:
            os.link(path, named, follow_symlinks=True)
        except OSError:
            shutil.copyfile(path, named)
        return read_volume(named, limits, room)
    finally:
        named.unlink(missing_ok=True)


def _first_reason(told: Sequence[tuple[str, int]]) -> str:
    if not told:
        return "there is no file"
    reason, count = told[0]
    return f"a file {reason}" if count == 1 else f"{count} files: each {reason}"
