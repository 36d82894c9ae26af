"""Withdrawing a source: nothing of it is left, the rest is as it was, and who was made from it is named."""

import json
import random
import shutil
import signal
from pathlib import Path

import pytest
from corpus_recipes import RECIPE, write_picture, write_recipe, write_sources
from killing import run_killed_at

from gmai_vl.corpus import Corpus, build, verify
from gmai_vl.corpus.withdraw import withdraw
from gmai_vl.foundation import UserError


def content(corpus: Path) -> dict[str, list[dict[str, object]]]:
    return {table: list(Corpus(corpus).rows(table)) for table in ("cases", "samples", "ledger")}


def test_what_is_left_is_the_corpus_that_the_other_sources_build(tmp_path: Path) -> None:
    recipe = write_sources(tmp_path)
    corpus = build(recipe, tmp_path / "both").corpus
    alone = build(write_recipe(tmp_path, sources=RECIPE["sources"][1:]), tmp_path / "alone")
    result = withdraw(corpus, "skin", [])
    assert content(corpus) == content(alone.corpus)
    assert result.fingerprint == alone.fingerprint == Corpus(corpus).manifest["fingerprint"]
    assert Corpus(corpus).manifest["recipe_sha256"] == Corpus(alone.corpus).manifest["recipe_sha256"]
    assert (result.cases, verify(corpus)) == (10, [])
    assert not any(b"melanoma" in path.read_bytes() for path in corpus.rglob("*.parquet"))
    left = {path.stem for path in (corpus / "images").rglob("*.png")}
    assert left == {row["image"] for row in Corpus(corpus).rows("cases")}


def test_pages_and_plots_that_show_it_go_too(tmp_path: Path) -> None:
    corpus = build(write_sources(tmp_path), tmp_path / "out").corpus
    (corpus / "stats").mkdir()
    for name in ("browse.html", "card.md", "stats/source.png"):
        (corpus / name).write_text("skin")
    withdraw(corpus, "skin", [])
    assert not [path for path in corpus.iterdir() if path.name in ("browse.html", "stats")]
    for name in ("card.md", "croissant.json"):
        assert "polyps" in (corpus / name).read_text()
        assert "skin" not in (corpus / name).read_text()


def test_a_picture_that_another_source_has_too_goes_and_is_told(tmp_path: Path) -> None:
    write_sources(tmp_path)
    shutil.copy(tmp_path / "skin" / "nevus" / "p0_0.png", tmp_path / "polyps" / "images" / "0.png")
    corpus = build(tmp_path / "recipe.yaml", tmp_path / "out").corpus
    withdraw(corpus, "skin", [])
    (row,) = [row for row in Corpus(corpus).rows("ledger") if row["item"] == "images/0.png"]
    assert row["outcome"] == "excluded"
    assert "`skin`, which was withdrawn" in row["reason"]
    assert verify(corpus) == []


def test_killed_at_any_moment_it_is_finished_to_the_same_corpus(tmp_path: Path) -> None:
    _kill(tmp_path, times=3)


@pytest.mark.long
def test_killed_at_twenty_moments(tmp_path: Path) -> None:
    _kill(tmp_path, times=20)


def _kill(tmp_path: Path, times: int) -> None:
    original = build(write_sources(tmp_path), tmp_path / "original").corpus
    whole = Path(shutil.copytree(original, tmp_path / "whole"))
    expected = withdraw(whole, "skin", [])
    counted = Path(shutil.copytree(original, tmp_path / "counted"))
    call = "from gmai_vl.corpus.withdraw import withdraw; call = lambda corpus, source: withdraw(corpus, source, [])"
    moments = int(run_killed_at(call, [counted, "skin"], counted, 0).stdout)
    # The last ones always: the manifest is written by then, and the mark lies there still.
    for moment in {*random.Random(times).sample(range(1, moments + 1), times), moments, moments - 1}:
        _kill_and_finish(original, tmp_path / str(moment), call, moment, whole, expected.fingerprint)


def _kill_and_finish(original: Path, out: Path, call: str, moment: int, whole: Path, fingerprint: str) -> None:
    shutil.copytree(original, out)
    assert run_killed_at(call, [out, "skin"], out, moment).returncode == -signal.SIGKILL
    begun = (out / ".withdrawing.json").exists()
    if begun:
        with pytest.raises(UserError, match="interrupted"):
            Corpus(out)
        assert "interrupted" in verify(out)[0]
        with pytest.raises(UserError, match="finish that one first"):
            withdraw(out, "polyps", [])
    if begun or "withdrawn" not in Corpus(out).manifest:
        assert withdraw(out, "skin", []).fingerprint == fingerprint
    assert content(out) == content(whole), f"moment {moment}"
    files = [{path.relative_to(root) for path in root.rglob("*") if path.is_file()} for root in (out, whole)]
    assert files[0] == files[1], f"moment {moment}"


def test_who_was_made_from_it_is_found(tmp_path: Path) -> None:
    corpus = build(write_sources(tmp_path), tmp_path / "runs" / "both").corpus
    before = Corpus(corpus).manifest["fingerprint"]
    build(write_recipe(tmp_path, name="sister", sources=RECIPE["sources"][:1]), tmp_path / "runs" / "sister")
    build(write_recipe(tmp_path, name="other", sources=RECIPE["sources"][1:]), tmp_path / "runs" / "other")

    def checkpoint(name: str, fingerprint: str, origin: dict[str, object] | None = None) -> dict[str, object]:
        read = {"name": "align", "corpora": [{"name": "elsewhere", "fingerprint": fingerprint}]}
        provenance = {"stages": [read], "origin": origin or {}}
        folder = tmp_path / "runs" / name / "align"
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps(provenance))
        (folder.parent / "log.jsonl").write_text("")
        return provenance

    first = checkpoint("trained", before)
    checkpoint("went-on", "0" * 64, origin={"provenance": first})
    checkpoint("untouched", "1" * 64)
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "provenance.json").write_text("[")
    found = {
        (each.kind, each.path.relative_to(tmp_path / "runs").as_posix()): each.why
        for each in withdraw(corpus, "skin", [tmp_path / "runs"]).descendants
    }
    assert set(found) == {
        ("corpus", "sister"),
        ("checkpoint", "trained/align"),
        ("run", "trained"),
        ("checkpoint", "went-on/align"),
        ("run", "went-on"),
        ("checkpoint", "broken"),
    }
    assert before[:12] in found["checkpoint", "trained/align"]
    assert "goes on from" in found["checkpoint", "went-on/align"]
    assert "cannot be read" in found["checkpoint", "broken"]


def test_mistakes_are_told(tmp_path: Path) -> None:
    corpus = build(write_sources(tmp_path), tmp_path / "out").corpus
    with pytest.raises(UserError, match="has no source `skni`; did you mean `skin`"):
        withdraw(corpus, "skni", [])
    withdraw(corpus, "skin", [])
    with pytest.raises(UserError, match="was withdrawn before"):
        withdraw(corpus, "skin", [])
    with pytest.raises(UserError, match="nothing would be left"):
        withdraw(corpus, "polyps", [])
    write_picture(tmp_path / "x.png", seed=1)
    with pytest.raises(UserError, match="no finished corpus"):
        withdraw(tmp_path, "skin", [])
