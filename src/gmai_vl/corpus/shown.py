"""What corpora and folders of pictures show, for the leak gate."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gmai_vl.corpus.leaks import Shown
from gmai_vl.corpus.looks import look_of
from gmai_vl.corpus.reader import Corpus
from gmai_vl.corpus.schema import Row
from gmai_vl.foundation import BadItem, UserError, is_inside, progress
from gmai_vl.records import Split, pixel_sha256
from gmai_vl.sources.files import list_files
from gmai_vl.sources.images import SUFFIXES, read_image

PSEUDONYMS = ("patient-", "study-")
"""How ids begin that de-identification gives: equal wherever the same person stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exhibit:
    """All that a corpus or a folder shows."""

    shown: list[Shown] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    """File -> reason why it could not be compared."""


def shown_by(path: Path, splits: Collection[Split] | None = None) -> Exhibit:
    """Return what a corpus shows on the given sides of its split (None: all), or a folder in all pictures below it.

    Raises UserError if `path` is neither.
    """
    if (path / "manifest.json").exists() or (path / ".parts").is_dir():
        return Exhibit(shown=list(_of_corpus(Corpus(path), splits)))
    if not path.is_dir():
        raise UserError(f"{path}: is neither a corpus nor a folder of pictures")
    return _of_folder(path)


def _of_corpus(corpus: Corpus, splits: Collection[Split] | None) -> Iterator[Shown]:
    place = str(corpus.path)
    questions: dict[str, list[str]] = defaultdict(list)
    for row in corpus.rows("samples", ("case_id", "images", "messages", "writer")):
        if row["writer"] == "source" and not row["images"]:
            questions[row["case_id"]].append(_words(row))
    for row in corpus.rows("cases", ("case_id", "source", "url", "split", "image", "look", "patient_id")):
        if splits is not None and row["split"] not in splits:
            continue
        patient = _patient(row)
        if row["image"] is not None:
            yield Shown(id=row["case_id"], place=place, pixels=row["image"], look=row["look"], patient=patient)
        for question in questions.get(row["case_id"], ()):
            yield Shown(id=row["case_id"], place=place, patient=patient, question=question)


def _words(row: Row) -> str:
    return "\n".join(piece["text"] for message in row["messages"] for piece in message["content"] if piece["text"])


def _patient(row: Row) -> str | None:
    """Return an id that means one person everywhere: "p1" of two unrelated sets are two people."""
    if row["patient_id"] is None or row["patient_id"].startswith(PSEUDONYMS):
        return row["patient_id"]
    return f"{row['url'] or row['source']}|{row['patient_id']}"


def _of_folder(folder: Path) -> Exhibit:
    exhibit = Exhibit()
    names = list_files("--against", folder, ".", SUFFIXES)
    for name in progress(names, f"{folder.name}: pictures", len(names)):
        try:
            if not is_inside(folder / name, folder):
                raise BadItem("leads out of the folder")
            pixels = read_image(folder / name)
        except (BadItem, RuntimeError) as bad:
            exhibit.unreadable[name] = str(bad)
            continue
        look = look_of(pixels).tobytes()
        exhibit.shown.append(Shown(id=name, place=str(folder), pixels=pixel_sha256(pixels), look=look))
    return exhibit
