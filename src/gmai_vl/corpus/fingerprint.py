"""The fingerprint of a corpus: what it says, without paths, times, versions, plots or the bytes of Parquet files."""

import hashlib
import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from gmai_vl.corpus.schema import Row
from gmai_vl.foundation import canonical_json

BYTES_IN_MEMORY = 2**25
"""Of lines; what is more is sorted on disk. A million cases come to some hundreds of files at once."""


def fingerprint(sample_rows: Iterable[Row], ledger_rows: Iterable[Row]) -> str:
    """Return the sha256 over lines of canonical JSON: the sample rows, sorted, then the ledger's outcomes, sorted.

    A ledger line holds source, item and outcome; reasons may change their wording from one library version to the next.
    """
    outcomes = ({key: row[key] for key in ("source", "item", "outcome")} for row in ledger_rows)
    digest = hashlib.sha256()
    for rows in (sample_rows, outcomes):
        for line in _sorted_on_disk(canonical_json(row).encode() + b"\n" for row in rows):
            digest.update(line)
    return digest.hexdigest()


def _sorted_on_disk(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield `lines` sorted, with a bounded number of bytes in memory."""
    with ExitStack() as files:
        runs = []
        for run in _runs(lines):
            file = files.enter_context(tempfile.TemporaryFile())
            file.writelines(sorted(run))
            run.clear()  # before the next one is gathered
            file.seek(0)
            runs.append(file)
        yield from heapq.merge(*runs)


def _runs(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    run: list[bytes] = []
    size = 0
    for line in lines:
        run.append(line)
        size += len(line)
        if size >= BYTES_IN_MEMORY:
            yield run
            run, size = [], 0
    yield run
