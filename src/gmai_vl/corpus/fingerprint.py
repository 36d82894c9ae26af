"""The fingerprint of a corpus: what it says, without paths, times, versions, plots or the bytes of Parquet files."""

import hashlib
from collections.abc import Iterable

from gmai_vl.corpus.schema import Row
from gmai_vl.foundation import canonical_json


def fingerprint(sample_rows: Iterable[Row], ledger_rows: Iterable[Row]) -> str:
    """Return the sha256 over lines of canonical JSON: the sample rows, sorted, then the ledger's outcomes, sorted.

    A ledger line holds source, item and outcome; reasons may change their wording from one library version to the next.
    """
    samples = sorted(canonical_json(row) for row in sample_rows)
    outcomes = sorted(canonical_json({key: row[key] for key in ("source", "item", "outcome")}) for row in ledger_rows)
    digest = hashlib.sha256()
    for line in (*samples, *outcomes):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
