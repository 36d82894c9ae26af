"""The fingerprint, against one computed in memory: with many runs on disk and in any order of rows."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.corpus import fingerprint as module
from gmai_vl.corpus.fingerprint import fingerprint

rows = st.lists(
    st.fixed_dictionaries({"id": st.text(max_size=6), "answer": st.none() | st.text(max_size=6)}), max_size=40
)


def in_memory(samples: list[dict[str, Any]], ledger: list[dict[str, Any]]) -> str:
    def lines(some: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":")) for row in some)

    return hashlib.sha256("".join(f"{line}\n" for line in lines(samples) + lines(ledger)).encode()).hexdigest()


@given(rows, st.randoms())
def test_rows_in_any_order_and_many_runs_give_the_hash_of_the_sorted_lines(samples: Any, random: Any) -> None:
    ledger = [{"source": row["id"], "item": "x", "outcome": "kept"} for row in samples]
    expected = in_memory(samples, ledger)
    shuffled = random.sample(samples, len(samples))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BYTES_IN_MEMORY", 60)
        assert fingerprint(shuffled, [row | {"reason": "any"} for row in ledger]) == expected
    assert fingerprint(samples, ledger) == expected
