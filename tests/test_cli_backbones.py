"""`gmai backbones`: the list names what there is and whether it is here."""

import json

import pytest
from typer.testing import CliRunner

from gmai_vl.cli.backbones import app
from gmai_vl.foundation import UserError
from gmai_vl.model import BACKBONES, cache_folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))


def test_list_says_what_is_here(tmp_path):
    (cache_folder() / "smollm2-135m").mkdir(parents=True)
    result = CliRunner().invoke(app, ["list", "--json", str(tmp_path / "list.json")])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "list.json").read_text())}
    assert rows.keys() == BACKBONES.keys()
    assert rows["smollm2-135m"]["path"] == str(cache_folder() / "smollm2-135m")
    assert rows["efficientnet-lite0"]["path"] is None
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["smollm2-135m"].endswith(str(cache_folder() / "smollm2-135m"))
    assert lines["efficientnet-lite0"].endswith("no")
    assert "Apache-2.0" in lines["smollm2-135m"]


def test_pull_of_what_is_here_prints_its_folder():
    (cache_folder() / "smollm2-135m").mkdir(parents=True)
    result = CliRunner().invoke(app, ["pull", "smollm2-135m"])
    assert result.stdout.strip() == str(cache_folder() / "smollm2-135m")


def test_pull_of_an_unknown_name_is_the_users_mistake():
    result = CliRunner().invoke(app, ["pull", "smollm"])
    assert isinstance(result.exception, UserError)
    assert "did you mean `smollm2-135m`" in str(result.exception)
