"""The fingerprint of a corpus: what it says, without paths, times, versions, plots or the bytes of Parquet files."""

import hashlib
import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice

from gmai_vl.corpus.schema import Row
from gmai_vl.foundation import canonical_json

LINES_IN_MEMORY = 20_000
"""About 40 MB of sample rows; what is more is sorted on disk."""


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
    """Yield `lines` sorted, with a bounded number of them in memory."""
    with ExitStack() as files:
        runs = []
        waiting = iter(lines)
        while some := sorted(islice(waiting, LINES_IN_MEMORY)):
            run = files.enter_context(tempfile.TemporaryFile())
            run.writelines(some)
            run.seek(0)
            runs.append(run)
        yield from heapq.merge(*runs)
