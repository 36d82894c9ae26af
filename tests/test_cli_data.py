"""`gmai data`: what the commands print, write and exit with."""

import json
from pathlib import Path

import pytest
from corpus_recipes import write_picture, write_sources
from typer.testing import CliRunner, Result

from gmai_vl.cli.data import app
from gmai_vl.corpus import Corpus
from gmai_vl.foundation import UserError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    write_sources(folder)
    write_picture(folder / "skin" / "nevus" / "p6_\x1b[31m.png", seed=60)
    result = run("build", folder / "recipe.yaml", "--out", folder / "out", "--json", folder / "summary.json")
    assert result.exit_code == 0, result.output
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["counts"]["cases"] == 17
    assert summary["fingerprint"] in result.output
    return folder / "out"


def test_verify_exits_with_0_or_with_1_and_a_list(corpus: Path, tmp_path: Path) -> None:
    result = run("verify", corpus, "--json", tmp_path / "sound.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "sound.json").read_text())["findings"] == []

    image = next((corpus / "images").rglob("*.png"))
    hidden = image.rename(tmp_path / image.name)
    result = run("verify", corpus, "--json", tmp_path / "broken.json")
    hidden.rename(image)
    assert result.exit_code == 1
    (finding,) = json.loads((tmp_path / "broken.json").read_text())["findings"]
    assert finding in result.output


def test_a_build_of_a_finished_corpus_says_so(corpus: Path) -> None:
    result = run("build", corpus.parent / "recipe.yaml", "--out", corpus)
    assert result.exit_code == 0
    assert "nothing to do" in result.output


def test_stats_prints_and_writes_the_tables(corpus: Path, tmp_path: Path) -> None:
    result = run("stats", corpus, "--json", tmp_path / "stats.json")
    tables = json.loads((tmp_path / "stats.json").read_text())
    assert result.exit_code == 0
    assert f"{tables['modality']['Dermoscopy']:,}" in result.output
    assert (corpus / "card.md").exists()


def test_trace_shows_hostile_names_without_sending_them_to_the_terminal(corpus: Path, tmp_path: Path) -> None:
    sample = next(sample for sample in Corpus(corpus).samples() if "\x1b" in sample.case_id)
    result = run("trace", corpus, sample.id, "--json", tmp_path / "way.json")
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert "[31m.png" in result.output
    assert json.loads((tmp_path / "way.json").read_text())["sample"] == sample.id


def test_browse_prints_the_path_of_the_page(corpus: Path) -> None:
    result = run("browse", corpus, "--cases", 4)
    assert result.exit_code == 0
    assert str(corpus / "browse.html") in result.output
    assert "This page holds 4 of 17 cases" in (corpus / "browse.html").read_text(encoding="utf-8")


def test_mistakes_are_left_to_the_command_line_as_user_errors(tmp_path: Path) -> None:
    for arguments in (("verify", tmp_path / "none"), ("stats", tmp_path), ("build", tmp_path / "r.yaml", "--out", "x")):
        assert isinstance(run(*arguments).exception, UserError)
    assert run("build", tmp_path / "r.yaml").exit_code == 2
