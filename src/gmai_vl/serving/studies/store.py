"""Studies that people have uploaded: kept for a while below one folder, and gone without a trace afterwards."""

import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.studies.study import Study, open_study

OPENED_AT_ONCE = 2
"""Studies: each can take a GiB or two while its files are read."""


@dataclass(slots=True)
class _Kept:
    study: Study
    folder: Path
    last_used: float


class StudyStore:
    """Keeps studies by ids that nobody guesses. From any thread. `close` it."""

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a folder of its own within `folder`, for nobody else's eyes."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="studies-", dir=folder))
        self._limits, self._clock = limits, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        """By id, the longest unused first."""

        self._lock = threading.Lock()
        self._opening = threading.BoundedSemaphore(OPENED_AT_ONCE)
        self._is_closed = False

    @property
    def limits(self) -> Limits:
        """What an upload may hold, and how long it is kept."""
        return self._limits

    def room(self) -> Path:
        """Return a new empty folder for the files of an upload, then for `add` or `give_up`. Raises Refusal (503)."""
        with self._lock:
            if self._is_closed:
                raise Refusal(503, "the server is shutting down", retry_after=5)
            return Path(tempfile.mkdtemp(dir=self._folder))

    def give_up(self, room: Path) -> None:
        """Remove the folder of an upload that comes to nothing."""
        shutil.rmtree(room, ignore_errors=True)

    def add(self, room: Path, files: Sequence[Path]) -> tuple[str, Study]:
        """Open the files of an upload, which lie in a folder of `room`, and keep the study under a new id.

        Files that are not needed any more are removed at once, all of them where the study is refused. Waits while
        others are opened. Raises Refusal as `open_study` does.
        """
        try:
            with self._opening:
                unpacked = room / "unpacked"
                unpacked.mkdir(mode=0o700)
                study = open_study(files, self._limits, unpacked)
            for path in [path for path in room.rglob("*") if path.is_file() and path not in study.files]:
                path.unlink()
            return self._keep(study, room), study
        except BaseException:
            self.give_up(room)
            raise

    def _keep(self, study: Study, room: Path) -> str:
        name = secrets.token_urlsafe(16)
        with self._lock:
            if self._is_closed:
                raise Refusal(503, "the server is shutting down", retry_after=5)
            self._kept[name] = _Kept(study, room, self._clock())
            self._forget_expired()
            while len(self._kept) > 1 and (
                len(self._kept) > self._limits.studies or self._bytes() > self._limits.study_memory
            ):
                self._forget(next(iter(self._kept)))
        return name

    def get(self, name: str) -> Study:
        """Return a study and count its time anew. Raises Refusal (404) for one that is not there, or not any more."""
        with self._lock:
            self._forget_expired()
            kept = self._kept.get(name)
            if kept is None:
                raise Refusal(404, "study: not here, or not any more; upload it again", param="study")
            kept.last_used = self._clock()
            self._kept.move_to_end(name)
            return kept.study

    def remove(self, name: str) -> None:
        """Forget a study and remove its files. Raises Refusal (404)."""
        self.get(name)
        with self._lock:
            self._forget(name)

    def sweep(self) -> None:
        """Forget what was not looked at for too long."""
        with self._lock:
            self._forget_expired()

    def close(self) -> None:
        """Forget everything and remove the folder."""
        with self._lock:
            self._is_closed = True
            self._kept.clear()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _bytes(self) -> int:
        return sum(kept.study.nbytes for kept in self._kept.values())

    def _forget_expired(self) -> None:
        latest = self._clock() - self._limits.study_seconds
        for name in [name for name, kept in self._kept.items() if kept.last_used < latest]:
            self._forget(name)

    def _forget(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            shutil.rmtree(kept.folder, ignore_errors=True)
