"""The licence ledger: what several licences allow together, and sources that a build refuses."""

from pathlib import Path

import pytest
from corpus_recipes import write_sources
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.corpus import build
from gmai_vl.corpus.licences import LICENCES, check_allowed, combined, known_licence
from gmai_vl.corpus.stats import stats
from gmai_vl.foundation import UserError

names = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(list(LICENCES)), min_size=1)


def said(told: list[str], what: str) -> str:
    (sentence,) = [sentence for sentence in told if sentence.startswith(f"{what}:")]
    return sentence


@given(names)
def test_the_whole_allows_what_every_part_allows(licence_of: dict[str, str]) -> None:
    told = combined(dict(licence_of))
    for what, field in (("Commercial use", "commercial"), ("Passing it on", "redistribution")):
        values = [getattr(LICENCES[name], field) for name in licence_of.values()]
        assert (said(told, what) == f"{what}: yes.") == all(values)
        assert (": no," in said(told, what)) == (False in values)
    shared = {LICENCES[name].share_alike for name in licence_of.values()} - {None}
    assert any("Conflict" in sentence for sentence in told) == (len(shared) > 1)
    assert any("has to bear" in sentence for sentence in told) == (len(shared) == 1)


def test_some_combinations_in_words() -> None:
    told = combined({"a": "MIT", "b": "CC-BY-NC-SA-4.0", "c": None, "d": "CC0-1.0"})
    assert said(told, "Commercial use") == "Commercial use: no, b forbids it."
    assert said(told, "Passing it on").startswith("Passing it on: not known for c;")
    assert said(told, "To be named") == "To be named: the makers of a, b, c."
    assert "What is passed on has to bear CC-BY-NC-SA-4.0." in told


@pytest.mark.parametrize(
    ("written", "known"),
    [("CC BY 4.0", "CC-BY-4.0"), ("mit", "MIT"), (None, "unknown"), ("my own", "unknown"), ("CC0-1.0", "CC0-1.0")],
)
def test_spellings(written: str | None, known: str) -> None:
    assert known_licence(written) == known


def test_a_build_refuses_other_licences_before_it_reads_anything(tmp_path: Path) -> None:
    recipe = write_sources(tmp_path)  # skin: CC0-1.0, polyps: MIT
    with pytest.raises(UserError, match=r"recipe\.yaml: source `polyps`: licence `MIT`, which --allow-licenses"):
        build(recipe, tmp_path / "out", licences=["CC0-1.0"])
    assert not (tmp_path / "out").exists()
    assert build(recipe, tmp_path / "out", licences=["CC0-1.0", "MIT"]).counts["cases"] == 16
    with pytest.raises(UserError, match="`MTI` is not known; did you mean `MIT`"):
        check_allowed({}, ["MTI"])
    with pytest.raises(UserError, match="source `x`: no licence given"):
        check_allowed({"x": None}, ["MIT"])


def test_the_card_says_what_the_whole_may_be_used_for(tmp_path: Path) -> None:
    corpus = build(write_sources(tmp_path), tmp_path / "out").corpus
    stats(corpus)
    card = (corpus / "card.md").read_text()
    assert "- Commercial use: yes." in card
    assert "- To be named: the makers of polyps." in card
