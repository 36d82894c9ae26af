"""Whether a model has seen what it is asked: the corpora that its provenance names, held against a benchmark.

The leak gate tells what two sides share: pictures, also re-encoded, resized or cropped, and questions without a
picture. What a backbone was pretrained on is not known here.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.leaks import Shown, find_leaks
from gmai_vl.corpus.looks import look_of
from gmai_vl.corpus.shown import shown_by
from gmai_vl.evaluation.benchmarks.benchmark import Benchmark
from gmai_vl.evaluation.benchmarks.own import read_own
from gmai_vl.foundation import UserError, progress, write_json
from gmai_vl.records import pixel_sha256

Status = Literal["clean", "leaked", "unknown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contamination:
    """What a model's training shares with a benchmark."""

    status: Status
    """`unknown` where a corpus could not be compared, or nothing says what the model was trained on."""

    leaked: frozenset[str]
    """Ids of questions that show or say what a training corpus has."""

    why: str
    """What was compared, or why not, in one line."""


LEAKS = "leaks.json"
"""Name of the file in a run's folder."""

UNSEEING = Contamination(status="clean", leaked=frozenset(), why="it answers without looking, as the train side does")
"""Of what never learns a picture: the most frequent answers."""


def write_contamination(run: Path, seen: Contamination, data_sha256: str) -> None:
    """Write what was found, with the ids of the questions, into a run's folder."""
    told = {"data": data_sha256, "status": seen.status, "why": seen.why, "questions": sorted(seen.leaked)}
    write_json(run / LEAKS, told)


def kept_contamination(run: Path, data_sha256: str) -> Contamination:
    """Return what a run's folder tells of the same data; unknown where it tells nothing.

    Raises UserError where its file cannot be read.
    """
    file = run / LEAKS
    if not file.is_file():
        return _unknown("the predictions lie in no folder of a run that looked for leaks")
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        seen = Contamination(status=told["status"], leaked=frozenset(told["questions"]), why=told["why"])
        same = told["data"] == data_sha256
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{file}: cannot be read: {error!r}; run `gmai eval run` once more") from None
    return seen if same else _unknown("the run of the predictions looked for leaks of other data")


def contamination(model: Path | None, benchmark: Benchmark, places: Sequence[Path]) -> Contamination:
    """Hold the training corpora of a checkpoint against a benchmark.

    A corpus is looked for where the recipe says, seen from the checkpoint and from here, and in `places` (corpora or
    folders of them); it is the right one if its fingerprint is. `model` is None for one behind a server. Raises
    UserError where a provenance cannot be read.
    """
    if model is None:
        return _unknown("nothing says what a model behind a server was trained on")
    trained_on, reinforced_on = list(_trained_on(model)), list(_reinforced_on(model))
    if not trained_on and not reinforced_on:
        return _unknown(f"{model} names no training corpora in a provenance.json")
    found: dict[str, Corpus] = {}
    for name, fingerprint, near in trained_on:
        if fingerprint in found:
            continue
        corpus = _find(fingerprint, [*near, *places])
        if corpus is None:
            return _unknown(f"training corpus `{name}` ({fingerprint[:12]}) is not here; give its folder by --corpora")
        found[fingerprint] = corpus
    folders: list[Path] = []
    for fingerprint, path in dict(reinforced_on).items():  # rounds learn the same questions several times
        folder = _find_questions(fingerprint, [path, *_seen_from(model, path), *places])
        if folder is None:
            return _unknown(f"questions that it was taught by ({path}) are not here; give their folder by --corpora")
        folders.append(folder)
    theirs = list(_shown(benchmark))
    leaked: set[str] = set()
    for corpus in found.values():
        leaked |= {leak.theirs.id for leak in find_leaks(shown_by(corpus.path, ("train", "val")).shown, theirs)}
    for folder in folders:
        sides = (folder / f"{side}.jsonl" for side in ("train", "val"))
        learnt = [shown for side in sides if side.is_file() for shown in _shown(read_own(side))]
        leaked |= {leak.theirs.id for leak in find_leaks(learnt, theirs)}
    told = ", ".join([*(corpus.manifest["name"] for corpus in found.values()), *(folder.name for folder in folders)])
    status: Status = "leaked" if leaked else "clean"
    return Contamination(status=status, leaked=frozenset(leaked), why=f"held against training corpora: {told}")


def _unknown(why: str) -> Contamination:
    return Contamination(status="unknown", leaked=frozenset(), why=why)


def _trained_on(model: Path) -> Iterator[tuple[str, str, list[Path]]]:
    """Yield name, fingerprint and likely places of each corpus that a checkpoint, or one before it, has learnt."""
    file = model / "provenance.json"
    if not file.is_file():
        return
    try:
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        fingerprints = {
            corpus["fingerprint"]: corpus["name"] for stage in told["stages"] for corpus in stage["corpora"]
        }
        paths = [part["corpus"] for stage in told["recipe"].get("stages", ()) for part in stage["mixture"]]
        if fingerprints and not paths:
            raise KeyError("mixture")
        before = told.get("origin", {}).get("init")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: cannot be read: {error!r}; the checkpoint was not saved by `gmai train`") from None
    for fingerprint, name in fingerprints.items():
        named = [path for path in paths if Path(path).name == name] or paths
        yield name, fingerprint, [Path(named[0]), *_seen_from(model, Path(named[0]))]
    if before:
        yield from _trained_on(Path(before))


def _reinforced_on(model: Path) -> Iterator[tuple[str, Path]]:
    """Yield fingerprint and path of each folder of questions that a checkpoint, or one before it, learnt by rewards."""
    file = model / "provenance.json"
    if not file.is_file():
        return
    told = json.loads(file.read_text(encoding="utf-8"))  # `_trained_on` has read it
    for questions in told.get("questions", []):
        yield questions["fingerprint"], Path(questions["path"])
    if before := told.get("origin", {}).get("init"):
        yield from _reinforced_on(Path(before))


def _find_questions(fingerprint: str, candidates: Sequence[Path]) -> Path | None:
    for place in candidates:
        for folder in [place, *(sorted(place.iterdir()) if place.is_dir() else [])]:
            try:
                if json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["fingerprint"] == fingerprint:
                    return folder
            except (OSError, ValueError, LookupError, TypeError):
                continue
    return None


def _seen_from(model: Path, path: Path) -> Iterator[Path]:
    """Yield where a relative path may lead: seen from here and from each folder above the checkpoint."""
    if path.is_absolute():
        return
    parts = [part for part in path.parts if part != ".."]
    for above in [Path(), *model.resolve().parents]:
        yield above.joinpath(*parts)


def _find(fingerprint: str, candidates: Sequence[Path]) -> Corpus | None:
    for place in candidates:
        for folder in [place, *(sorted(place.iterdir()) if place.is_dir() else [])]:
            if (folder / "manifest.json").is_file():
                corpus = Corpus(folder)
                if corpus.manifest["fingerprint"] == fingerprint:
                    return corpus
    return None


def _shown(benchmark: Benchmark) -> Iterator[Shown]:
    """Yield what each question shows, or says where it shows nothing; each image is looked at once."""
    looks: dict[str, tuple[str, bytes]] = {}
    for question in progress(benchmark.questions, "pictures compared", len(benchmark.questions)):
        for name in question.images:
            if name not in looks:
                pixels = benchmark.image(name)
                looks[name] = pixel_sha256(pixels), look_of(pixels).tobytes()
            sha256, look = looks[name]
            yield Shown(id=question.id, place=benchmark.name, pixels=sha256, look=look)
        if not question.images:
            words = "\n".join([*(turn.text for turn in question.turns), question.answer or ""])
            yield Shown(id=question.id, place=benchmark.name, question=words)
