"""Scores that came back: every rater one CSV file in the folder of the sheets, read with suspicion.

A fault (a score that is none, a pair of another review, one given twice) stops the reading, all faults told at once.
What is only unfinished is told and counts for nothing until it is finished.
"""

import csv
import io
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gmai_vl.corpus.review.cells import as_written
from gmai_vl.corpus.review.rubric import AXES, JUDGE_PREFIX, LEVELS, Scores
from gmai_vl.foundation import UserError, visible

_SHEET = "sheet.csv"
_OTHER_TABLES = (".xlsx", ".xls", ".ods", ".numbers", ".tsv")
_MOST_BYTES = 2**26


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """What was handed out."""

    corpus: str
    fingerprint: str
    seed: int
    per_source: int

    source_of: dict[str, str]
    """Pair -> source, of all pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rater:
    """What one person, or one model, gave."""

    name: str
    scores: dict[str, Scores]
    """Pair -> axis -> level, of the pairs that have a score on every axis."""

    comments: dict[str, str]
    """Pair -> what was said of it."""

    @property
    def is_judge(self) -> bool:
        """Whether it is a model."""
        return self.name.lower().startswith(JUDGE_PREFIX)


@dataclass(frozen=True, kw_only=True, slots=True)
class Returned:
    """All that came back."""

    raters: tuple[Rater, ...]

    faults: tuple[str, ...]
    """One line each: file, row, what is wrong, what to do. With any of them the scores must not be used."""

    notes: tuple[str, ...]
    """One line each on what is unfinished."""


def read_review(sheets: Path) -> Review:
    """Return what was handed out with the sheets in the folder `sheets`. Raises UserError if none were."""
    path = sheets / "review.json"
    advice = "give the folder that `gmai data review CORPUS --out` wrote"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Review(
            corpus=record["corpus"],
            fingerprint=record["fingerprint"],
            seed=record["seed"],
            per_source=record["per_source"],
            source_of={pair["pair"]: pair["source"] for pair in record["pairs"]},
        )
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file; {advice}") from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}: is no record of sheets ({type(error).__name__}: {error}); {advice}") from None


def read_scores(sheets: Path, review: Review) -> Returned:
    """Read all files of scores in the folder `sheets`, in the order of their names."""
    faults: list[str] = []
    notes: list[str] = []
    by_rater: dict[str, tuple[Path, Rater]] = {}
    for path in sorted(sheets.iterdir()):
        if path.suffix.lower() in _OTHER_TABLES:
            faults.append(f"{path}: is not read; save it as CSV UTF-8 (comma delimited), or move it elsewhere")
        if path.suffix.lower() != ".csv" or path.name.startswith("."):
            continue
        read = _File(path, review)
        rater = read.rater()
        faults += read.faults
        notes += read.notes
        if rater is None:
            continue
        name = _plain(rater.name)
        if name in by_rater:
            other = by_rater[name][0].name
            faults.append(f"{path}: rater `{rater.name}` has the file {other} too; remove one, or write another name")
        else:
            by_rater[name] = path, rater
    raters = tuple(rater for _, rater in by_rater.values())
    return Returned(raters=raters, faults=tuple(map(visible, faults)), notes=tuple(map(visible, notes)))


@dataclass
class _File:
    """One file of scores, and what is found in it on the way."""

    path: Path
    review: Review
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def rater(self) -> Rater | None:
        """Return what the file gives; None if it gives nothing or is no table of scores."""
        scores: dict[str, Scores] = {}
        comments: dict[str, str] = {}
        rows_of: dict[str, int] = {}
        names: dict[str, str] = {}
        foreign: list[tuple[int, str]] = []
        for row, cells in self._rows():
            pair, given = cells["pair"].strip(), [cells[axis].strip() for axis in AXES]
            if name := as_written(cells.get("rater", "")).strip():
                names.setdefault(_plain(name), name)
            if pair not in self.review.source_of:
                foreign.append((row, pair))
            elif pair in rows_of:
                self._fault(f"row {row}: pair {pair} stands in row {rows_of[pair]} too; remove one of them")
            else:
                rows_of[pair] = row
                if whole := self._scores(row, given):
                    scores[pair] = whole
                if comment := as_written(cells.get("comment", "")).strip():
                    comments[pair] = comment
        if foreign:
            row, pair = foreign[0]
            more = f" (and {len(foreign) - 1} more rows)" if len(foreign) > 1 else ""
            self._fault(f"row {row}{more}: pair `{pair[:40]}` is not of this review; take the rows or the file out")
        if len(names) > 1:
            told = ", ".join(f"`{name}`" for name in names.values())
            self._fault(f"column rater: holds several names, {told}; one file is of one rater, split it")
        if not scores:
            if self.path.name != _SHEET and not self.faults:
                self.notes.append(f"{self.path}: no pair has all its scores; it counts for nothing yet")
            return None
        if len(scores) < len(self.review.source_of):
            self.notes.append(f"{self.path}: {len(scores)} of {len(self.review.source_of)} pairs have all their scores")
        own = re.sub(r"^(scores|sheet)[-_ ]+", "", self.path.stem, flags=re.IGNORECASE)
        return Rater(name=next(iter(names.values()), own), scores=scores, comments=comments)

    def _rows(self) -> Iterator[tuple[int, Mapping[str, str]]]:
        """Yield the rows as spreadsheets count them, the head being 1, as column -> cell."""
        text = self._text()
        if text is None:
            return
        first = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=first.count)  # spreadsheets write what the language of the system separates by
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            head = [name.strip().lower() for name in next(lines, [])]
            if missing := [name for name in ("pair", *AXES) if head.count(name) != 1]:
                self._fault(f"row 1: column `{missing[0]}` is missing or stands twice; send the sheet with its columns")
                return
            for row, cells in enumerate(lines, 2):
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(head):
                    self._fault(f"row {row}: has {len(cells)} cells, the head {len(head)}; mend it from sheet.csv")
                    continue
                yield row, dict(zip(head, cells, strict=True))
        except csv.Error as error:
            self._fault(f"after row {lines.line_num}: is no CSV ({error}); save it again as CSV UTF-8")

    def _text(self) -> str | None:
        try:
            if self.path.stat().st_size > _MOST_BYTES:
                self._fault(f"has more than {_MOST_BYTES} bytes; take it out")
                return None
            return self.path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            self._fault(f"cannot be read ({error}); take it out or mend it")
        except UnicodeDecodeError:
            self._fault("is not UTF-8; save it in the spreadsheet as CSV UTF-8")
        return None

    def _scores(self, row: int, given: list[str]) -> Scores | None:
        """Return the scores of a row; None if there are none, some are missing, or one is no score."""
        is_good = True
        levels: Scores = {}
        for axis, value in zip(AXES, given, strict=True):
            # Full-width digits are what an East Asian keyboard gives.
            plain = unicodedata.normalize("NFKC", value)
            if plain in map(str, LEVELS):
                levels[axis] = int(plain)
            elif plain:
                is_good = False
                self._fault(f"row {row}: {axis}: `{value[:40]}` is no score; give a whole number from 1 (best) to 5")
        if is_good and levels and len(levels) < len(AXES):
            empty = ", ".join(axis for axis in AXES if axis not in levels)
            self.notes.append(
                f"{self.path}: row {row}: {empty}: empty; fill it in, the row counts for nothing until then"
            )
        return levels if is_good and len(levels) == len(AXES) else None

    def _fault(self, told: str) -> None:
        self.faults.append(f"{self.path}: {told}")


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def by_pair(raters: Iterable[Rater]) -> dict[str, list[Scores]]:
    """Return pair -> the scores that it was given."""
    scores: dict[str, list[Scores]] = defaultdict(list)
    for rater in raters:
        for pair, given in rater.scores.items():
            scores[pair].append(given)
    return dict(scores)
