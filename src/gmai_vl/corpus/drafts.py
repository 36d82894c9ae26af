"""What became of the texts that a language model was asked for: how many held, and which checks stopped the others."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gmai_vl.corpus.tables import table_rows

OUTCOMES = ("kept", "rewritten", "quarantined")


def has_drafts(corpus: Path) -> bool:
    """Say whether a language model wrote for the corpus."""
    return (corpus / "drafts.parquet").exists()


def draft_counts(corpus: Path) -> dict[str, dict[str, Any]]:
    """Return "source, writer, route" -> texts asked for, by outcome, and how many failed each check.

    At first: as first written. At last: when written again, of those that went out. A check of a conversation counts
    once, whichever of its rounds failed.
    """
    tallies: dict[str, dict[str, Counter[str]]] = {}
    for row in table_rows(corpus, "drafts"):
        name = f"{row['source']}, {row['writer']}, {row['route']}"
        tally = tallies.setdefault(name, {"outcomes": Counter(), "first": Counter(), "last": Counter()})
        tally["outcomes"][row["outcome"]] += 1
        attempts = row["failed"]
        if attempts:
            tally["first"].update(_checks(attempts[0]["faults"]))
        if row["outcome"] == "quarantined":
            tally["last"].update(_checks(attempts[-1]["faults"]))
    return {
        name: {
            "texts": tally["outcomes"].total(),
            **{outcome: tally["outcomes"][outcome] for outcome in OUTCOMES},
            "failed_at_first": dict(sorted(tally["first"].items())),
            "failed_at_last": dict(sorted(tally["last"].items())),
        }
        for name, tally in sorted(tallies.items())
    }


def unreadable_drafts(corpus: Path) -> Iterator[str]:
    """Yield which rows have not the form of drafts; only rows that have may be counted."""
    for row in table_rows(corpus, "drafts"):
        try:
            faults = [json.loads(attempt["faults"]) for attempt in row["failed"]]
            fine = all(isinstance(each, dict) and each for each in faults) and row["outcome"] in OUTCOMES
            fine = fine and (row["outcome"] == "kept") == (not faults)
        except (ValueError, TypeError, LookupError):
            fine = False
        if not fine:
            yield f"drafts.parquet: draft of {row['sample_id']}: outcome or attempts are none that a build writes"


def draft_findings(corpus: Path, by_model: set[str], sample_ids: set[str], case_ids: set[str]) -> Iterator[str]:
    """Yield what is wrong between drafts and samples: texts that held must be there, of cases that were kept.

    `by_model` are the samples that a model wrote: each has its draft.
    """
    seen: set[str] = set()
    for row in table_rows(corpus, "drafts"):
        name = f"draft of {row['sample_id']}"
        if row["sample_id"] in seen:
            yield f"{name}: stands twice"
        seen.add(row["sample_id"])
        there = row["sample_id"] in sample_ids
        if row["case_id"] in case_ids and there != (row["outcome"] != "quarantined"):
            yield f"{name}: {row['outcome']}, but {'there is a' if there else 'there is no'} sample"
    yield from (f"sample {sample}: a model wrote it, and there is no draft of it" for sample in sorted(by_model - seen))


def _checks(faults: str) -> set[str]:
    return {name.rpartition(".")[2] for name in json.loads(faults)}
