"""Other names of terms, from `synonyms.csv`: well established, and of exactly the same meaning."""

import csv
from functools import cache
from importlib.resources import files

from gmai_vl.vocabulary.terms import Language, Term


@cache
def _by_name() -> dict[tuple[str, str], tuple[str, ...]]:
    """(English name in lower case, language) -> its synonyms, in the order of the file."""
    text = (files("gmai_vl.vocabulary") / "synonyms.csv").read_text(encoding="utf-8")
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for row in csv.DictReader(text.splitlines()):
        key = (row["en"].lower(), row["language"])
        found[key] = (*found.get(key, ()), row["synonym"])
    return found


def synonyms(label: Term, language: Language) -> tuple[str, ...]:
    """Return the other names of `label` in `language`; none where its own name there is not known either."""
    return _by_name().get((label.en.lower(), language), ()) if language == "en" or label.zh else ()
