"""The annotated cases that questions are about, found in their corpora: what a thought is held against."""

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.schema import CASES, Row, case_of
from gmai_vl.foundation import UserError, canonical_json, progress
from gmai_vl.reasoning.items import About
from gmai_vl.writing import MeasuredCase, measured

_COLUMNS = tuple(name for name in CASES.names if name not in ("conversations", "look"))
"""What an annotation is made of."""

_UNPACKED = 8
"""Cases in memory as such. Answers to one question follow each other, so that few serve."""


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases of questions, or why they are unknown; by id of the question."""

    packed: Mapping[str, bytes]
    """Questions about one case share it. Measured on 13 corpora, a case is 0.3 to 2.5 KB (10 KB with masks of
    vessels), where its pixels and masks are up to 2.5 MB."""

    unknown: Mapping[str, str]

    def of(self, question: str) -> MeasuredCase | None:
        """Return the case of a question, whose pixels are blank but as many; None where it is unknown."""
        packed = self.packed.get(question)
        return None if packed is None else _unpacked(packed)

    @property
    def sha256(self) -> str:
        """Hash over the questions with a case and what it says."""
        digest = hashlib.sha256()
        for question, packed in sorted(self.packed.items()):
            digest.update(canonical_json([question, zlib.decompress(packed).decode()]).encode())
        return digest.hexdigest()


def find_cases(folder: Path, about: Mapping[str, About]) -> Cases:
    """Find the cases of questions; `about` names them, seen from `folder`, that of the questions.

    A case counts only as the question names it: corpus, fingerprint and id. Each corpus is read once, without images.
    Raises UserError where the table of a corpus is damaged.
    """
    packed: dict[str, bytes] = {}
    unknown: dict[str, str] = {}
    wanted: dict[tuple[str, str | None], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for question, told in about.items():
        if told.corpus is None or told.case_id is None:
            unknown[question] = "the question names no case"
        else:
            wanted[told.corpus, told.fingerprint][told.case_id].append(question)
    for (name, fingerprint), asking in wanted.items():
        for case_id, found in _found(folder / name, fingerprint, asking).items():
            for question in asking[case_id]:
                if isinstance(found, bytes):
                    packed[question] = found
                else:
                    unknown[question] = found
    return Cases(packed, unknown)


def _found(path: Path, fingerprint: str | None, wanted: Collection[str]) -> Mapping[str, bytes | str]:
    """Return every wanted id -> the packed case of a corpus, or why there is none."""
    try:
        corpus = Corpus(path)
    except UserError:
        return dict.fromkeys(wanted, "the corpus of its case is not there")
    if corpus.manifest.get("fingerprint") != fingerprint:
        return dict.fromkeys(wanted, "the corpus of its case has been changed")
    found: dict[str, bytes | str] = dict.fromkeys(wanted, "the corpus has no such case")
    rows = (row for row in corpus.rows("cases", _COLUMNS) if row["case_id"] in found)
    for row in progress(rows, "finding cases", len(found)):
        found[row["case_id"]] = _packed(row)
    return found


def _packed(row: Row) -> bytes | str:
    # A case of task qa has only what others asked and answered: what it does not name is not therefore absent.
    if row["image"] is None or row["modality"] is None or row["task"] == "qa":
        return "its case is not annotated"
    try:
        _case_of(row)
    except ValueError:
        return "its case cannot be read"
    return zlib.compress(canonical_json(row).encode())


@lru_cache(_UNPACKED)
def _unpacked(packed: bytes) -> MeasuredCase:
    return _case_of(json.loads(zlib.decompress(packed)))


def _case_of(row: Row) -> MeasuredCase:
    # The verifier asks how large the image is, and never for a pixel.
    pixels_HW = np.broadcast_to(np.uint8(0), (row["height"], row["width"]))
    return measured(case_of(row | {"conversations": "[]"}, pixels_HW))
