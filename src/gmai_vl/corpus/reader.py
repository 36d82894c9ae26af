"""A finished corpus, read: samples, cases, images and where they came from."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gmai_vl.corpus.images import load_image
from gmai_vl.corpus.schema import Row, Table, case_of, sample_of
from gmai_vl.corpus.tables import open_table, table_files, table_rows
from gmai_vl.foundation import UserError
from gmai_vl.records import Case, Sample, Split
from gmai_vl.vocabulary import Language

WITHDRAWING = ".withdrawing.json"
"""Lies in a corpus while a source is being withdrawn."""


class Corpus:
    """A corpus on disk. Nothing but the manifest is held in memory; every call reads what it returns."""

    def __init__(self, path: Path) -> None:
        """Open the corpus in the folder `path`. Raises UserError if no finished corpus lies there."""
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(path)

    def samples(
        self,
        split: Split | None = None,
        subsets: Collection[str] | None = None,
        languages: Collection[Language] | None = None,
    ) -> list[Sample]:
        """Return the samples, in row order: all, or those of one side of the split, some subsets, some languages."""
        wanted = {"split": None if split is None else (split,), "subset": subsets, "language": languages}
        return [sample_of(row) for row in self._rows("samples", wanted)]

    def sample(self, sample_id: str) -> Sample:
        """Return one sample. Raises UserError if the corpus has none of that id."""
        for row in self._rows("samples", {"id": (sample_id,)}):
            return sample_of(row)
        raise UserError(f"{self.path}: no sample `{sample_id}`; `gmai data browse {self.path}` shows the ids")

    def samples_by_id(self, ids: Collection[str]) -> dict[str, Sample]:
        """Return the samples of these ids, in one pass; ids that the corpus does not have are left out."""
        return {row["id"]: sample_of(row) for row in self._rows("samples", {"id": ids})}

    def cases(self) -> Iterator[Case]:
        """Yield the cases with their images, in row order."""
        for row in table_rows(self.path, "cases"):
            yield self._case(row)

    def case(self, case_id: str) -> Case:
        """Return one case with its image. Raises UserError if the corpus has none of that id."""
        for row in self._rows("cases", {"case_id": (case_id,)}):
            return self._case(row)
        raise UserError(f"{self.path}: no case `{case_id}`; run `gmai data verify {self.path}`")

    def image(self, sha256: str) -> NDArray[np.uint8]:
        """Return the pixels [H, W] or [H, W, 3] of an image. Raises UserError if they are missing or changed."""
        return load_image(self.path, sha256)

    def rows(self, table: Table, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Yield the rows of `cases`, `samples` or `ledger` as plain dicts, all columns or some."""
        return table_rows(self.path, table, columns)

    @cached_property
    def prompts(self) -> dict[str, str]:
        """Prompt id -> text."""
        lines = (self.path / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
        return {entry["prompt_id"]: entry["text"] for entry in map(json.loads, lines)}

    def _case(self, row: Row) -> Case:
        return case_of(row, np.zeros((0, 0), np.uint8) if row["image"] is None else self.image(row["image"]))

    def _rows(self, table: Table, wanted: Mapping[str, Collection[str] | None]) -> Iterator[Row]:
        """Yield the rows whose columns hold one of the wanted values; None wants all."""
        for path in table_files(self.path, table):
            with open_table(path, table) as file:
                for batch in file.iter_batches():
                    for column, values in wanted.items():
                        if values is not None:
                            batch = batch.filter(pc.is_in(batch[column], pa.array(list(values), pa.string())))
                    yield from batch.to_pylist()


def read_manifest(path: Path, *, unfinished_withdrawal: bool = False) -> dict[str, Any]:
    """Return the manifest of the corpus in the folder `path`. Raises UserError if there is none that can be read.

    A corpus whose withdrawal of a source was interrupted is refused unless `unfinished_withdrawal`.
    """
    if (path / WITHDRAWING).exists() and not unfinished_withdrawal:
        raise UserError(f"{path}: the withdrawal of a source was interrupted; run its `gmai data withdraw` again")
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        unfinished = (path / ".parts").is_dir()
        advice = "run its `gmai data build` again to finish it" if unfinished else "make one with `gmai data build`"
        raise UserError(f"{path}: no finished corpus (no manifest.json); {advice}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}/manifest.json: cannot be read ({error}); build the corpus anew") from None
    if not isinstance(manifest, dict):
        raise UserError(f"{path}/manifest.json: no JSON object; build the corpus anew")
    return manifest
