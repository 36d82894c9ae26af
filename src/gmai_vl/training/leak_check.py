"""Before the first step: no corpus of the mixture may share pictures, patients or questions with what is tested on."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gmai_vl.corpus import Corpus
from gmai_vl.corpus.leaks import find_leaks
from gmai_vl.corpus.shown import shown_by
from gmai_vl.foundation import UserError, say
from gmai_vl.training.recipe import LeakCheck


def check_leaks(check: LeakCheck, corpora: Iterable[Corpus], base: Path) -> dict[str, Any]:
    """Hold the train and val sides of `corpora` against `check.against`, whose paths are relative to `base`.

    Returns what was held against what and how much was shared, for the log and the provenance. Raises UserError if
    anything is shared and `on_leak` is stop.
    """
    places = [(base / path).resolve() for path in check.against]
    theirs = [shown for place in places for shown in shown_by(place).shown]
    shared: dict[str, int] = {}
    for corpus in corpora:
        leaks = find_leaks(shown_by(corpus.path, ("train", "val")).shown, theirs)
        shared[corpus.manifest["name"]] = len(leaks)
        if not leaks:
            continue
        first = leaks[0]
        told = (
            f"leak_check: {corpus.path} shares {len(leaks)} with {', '.join(check.against)}, first {first.ours.id} "
            f"({first.evidence} as {first.theirs.id}); `gmai data leaks {corpus.path} "
            f"{' '.join(f'--against {place}' for place in places)}` shows all"
        )
        if check.on_leak == "stop":
            raise UserError(f"{told}; take them out, or write `on_leak: warn`")
        say(told)
    return {"against": list(check.against), "compared": len(theirs), "shared": shared}
