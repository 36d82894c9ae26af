"""Synonyms: of known terms, in their language, and never the name of anything else."""

import csv
import re
from collections import Counter
from importlib.resources import files

from gmai_vl.vocabulary import Term, synonyms, term

ROWS = list(csv.DictReader((files("gmai_vl.vocabulary") / "synonyms.csv").read_text(encoding="utf-8").splitlines()))
TERMS = list(csv.DictReader((files("gmai_vl.vocabulary") / "terms.csv").read_text(encoding="utf-8").splitlines()))


def test_every_synonym_is_of_a_term_and_in_its_language():
    names = {row["en"] for row in TERMS}
    for row in ROWS:
        assert row["en"] in names, row
        assert row["language"] in ("en", "zh")
        assert bool(re.search(r"[\u4e00-\u9fff]", row["synonym"])) == (row["language"] == "zh"), row
        assert row["synonym"].strip() == row["synonym"] != "" and row["synonym"].isprintable()


def test_no_synonym_is_the_name_of_a_term_or_of_two():
    names = {row[language].lower() for row in TERMS for language in ("en", "zh")}
    times = Counter(row["synonym"].lower() for row in ROWS)
    assert not names & times.keys()
    assert set(times.values()) == {1}


def test_synonyms_are_looked_up_in_any_case_and_only_where_the_language_is_known():
    assert synonyms(Term("Red Blood Cell"), "en") == ("erythrocyte",)
    assert synonyms(Term("red blood cell"), "zh") == ()
    assert synonyms(term("red blood cell"), "zh") == ("红血球",)
    assert synonyms(Term("unheard-of thing", "怪物"), "zh") == ()
