"""Zip files: only what plain entries hold, below running numbers; their names are never looked at."""

import stat
import zlib
from collections import Counter
from io import FileIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal

BYTES_AN_ENTRY = 512
"""Of a zip's directory; more than that many for each entry that may be there is no directory of files."""

PIECE = 2**20
ENCRYPTED = 0x1 | 0x40
"""Bits of an entry's flags (APPNOTE 4.4.4)."""

FAULTS = (BadZipFile, EOFError, NotImplementedError, OSError, OverflowError, RuntimeError, ValueError, zlib.error)


class Unpacker:
    """Unpacks the zips of one upload into a folder and counts over all of them."""

    def __init__(self, folder: Path, limits: Limits, files: int = 0) -> None:
        """`folder` is there and empty; `files` of the upload are counted already."""
        self._folder, self._limits = folder, limits
        self._files, self._bytes, self._tried = files, 0, 0
        self.left_out: Counter[str] = Counter()
        """Reason -> how many entries."""

    def unpack(self, path: Path) -> list[Path]:
        """Return the unpacked files in the order of the zip. Raises Refusal (413) for too many or too much."""
        # Past what 4000 entries take, a directory is refused before its entries are objects.
        with _Bounded(path, self._limits.upload_files * BYTES_AN_ENTRY) as stream:
            try:
                archive = ZipFile(stream)
            except FAULTS:
                self.left_out["is a damaged zip"] += 1
                return []
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            self._files += len(entries)
            if self._files > self._limits.upload_files:
                raise Refusal(413, f"files: more than {self._limits.upload_files} with those of the zip")
            return [target for entry in entries if (target := self._taken(archive, entry)) is not None]

    def _taken(self, archive: ZipFile, entry: ZipInfo) -> Path | None:
        if (reason := _unwanted(entry)) is not None:
            self.left_out[reason] += 1
            return None
        self._tried += 1
        target = self._folder / f"{self._tried:06d}"
        try:
            with archive.open(entry) as packed, target.open("xb") as unpacked:
                # What an entry says about its size is not believed.
                while piece := packed.read(PIECE):
                    self._count(len(piece))
                    unpacked.write(piece)
        except FAULTS:
            target.unlink(missing_ok=True)
            self.left_out["is a damaged entry of a zip"] += 1
            return None
        return target

    def _count(self, new: int) -> None:
        self._bytes += new
        if self._bytes > self._limits.unpacked_bytes:
            raise Refusal(413, f"files: the zip unpacks to more than {self._limits.unpacked_bytes} bytes")


def _unwanted(entry: ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device in a zip"
    if entry.flag_bits & ENCRYPTED:
        return "is encrypted in a zip"
    # Others can ask for any amount of memory to be unpacked with.
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return "is packed in a way that is not read here"
    return None


class _Bounded(FileIO):
    """A file of which no more than so much is read at a time: a zip's directory is read in one piece."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > max(self._most, PIECE):
            raise Refusal(413, "files: the zip has too many entries")
        return super().read(size)
