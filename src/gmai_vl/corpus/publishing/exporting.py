"""Export a corpus: the folder is whole or marked as unfinished, and the same command finishes it."""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from gmai_vl import __version__
from gmai_vl.corpus.columns import Counts, count_samples
from gmai_vl.corpus.publishing import hf, lines, tars
from gmai_vl.corpus.publishing.card import export_card
from gmai_vl.corpus.publishing.croissant import Node, croissant
from gmai_vl.corpus.reader import Corpus
from gmai_vl.foundation import UserError, write_json, write_text

Form = Literal["llava", "messages", "hf", "webdataset"]

DONE = "export.json"
"""Says what was exported; the last file to be written."""
MARK = ".exporting.json"
"""Lies in an export that is not finished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What an export came to."""

    out: Path
    samples: int
    images: int
    """Pictures; in shards those of samples that share one are counted each."""

    files: int
    """All files, the card and its like among them."""

    size: int
    """Bytes of all files."""

    new: bool
    """Whether anything was left to do."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How one form is written and described."""

    write: Callable[[Corpus, Path], int]
    """Writes the data and returns the number of images."""

    head: Callable[[dict[str, Any], Counts], str]
    """What stands above the card."""

    files: str
    """What the card says of the files."""

    describe: Callable[[Counts], tuple[list[Node], list[Node]]]
    """Distribution and record sets of croissant.json."""


_WAYS: dict[Form, _Way] = {
    "llava": _Way(lines.write_llava, lambda *_: "", lines.LLAVA_FILES, lines.describe_llava),
    "messages": _Way(lines.write_messages, lambda *_: "", lines.MESSAGES_FILES, lines.describe_messages),
    "hf": _Way(hf.write, hf.header, hf.FILES, hf.describe),
    "webdataset": _Way(tars.write, lambda *_: "", tars.FILES, tars.describe),
}


def export(corpus: Path, to: Form, out: Path) -> Exported:
    """Write the corpus in the folder `corpus` into the folder `out` in the form `to`, with a card and croissant.json.

    Sides of the split are kept apart, patients are not named. The same corpus gives the same bytes. An export that was
    interrupted goes on, also after `kill -9`; a finished one is left as it is. Every image is held against its name.
    Raises UserError if `out` holds anything else, or if the corpus lacks an image.
    """
    opened = Corpus(corpus)
    identity = {
        "form": to,
        "name": opened.manifest["name"],
        "fingerprint": opened.manifest["fingerprint"],
        "tool_version": __version__,
    }
    if done := _done(out, identity):
        (out / MARK).unlink(missing_ok=True)  # the one thing that may be left to do
        return _summary(out, done, new=False)
    with _begun(out, identity):
        for left in out.rglob(".*.tmp"):
            left.unlink()
        way, counts = _WAYS[to], count_samples(corpus)
        images = way.write(opened, out)
        card = export_card(opened.manifest, counts, way.files)
        write_text(out / "README.md", way.head(opened.manifest, counts) + card)
        write_json(out / "croissant.json", croissant(opened.manifest, counts, *way.describe(counts)))
        done = identity | {"samples": opened.manifest["counts"]["samples"], "images": images}
        write_json(out / DONE, done)
    return _summary(out, done, new=True)


def _done(out: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the finished export in `out` says of itself; None if there is none yet.

    Raises UserError if `out` holds another export, finished or not, or anything else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder for the export")
    there = [path.name for path in out.iterdir()] if out.exists() else []
    for name in (DONE, MARK):
        if name in there:
            found = _read(out / name)
            if {key: found.get(key) for key in identity} != identity:
                what = f"{found.get('form')} of `{found.get('name')}` {str(found.get('fingerprint'))[:12]}"
                raise UserError(f"{out}: holds another export ({what}); give another --out, or remove the folder")
            return found if name == DONE else None
    # One that was killed while it wrote its mark has left a piece of that; it is cleared away below.
    if strangers := sorted(name for name in there if not fnmatch(name, f".{MARK}.*.tmp")):
        raise UserError(f"{out}: holds `{strangers[0]}` and no export; give a new or an empty folder")
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove the folder and export again") from None
    return found if isinstance(found, dict) else {}


@contextmanager
def _begun(out: Path, identity: dict[str, Any]) -> Iterator[None]:
    """Mark `out` as unfinished while it is worked on; only one export at a time may do so."""
    if not (out / MARK).exists():
        write_json(out / MARK, identity)
    with (out / MARK).open("rb") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{out}: another export is at work here; wait for it, or give another --out") from None
        yield
        (out / MARK).unlink()


def _summary(out: Path, done: dict[str, Any], *, new: bool) -> Exported:
    sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    return Exported(out=out, samples=done["samples"], images=done["images"], files=len(sizes), size=sum(sizes), new=new)
