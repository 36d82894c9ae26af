"""`gmai export`: files, what it says of them, and the user's mistakes."""

import json

import pytest
import typer
from gguf import GGUFReader
from small_models import small_model
from typer.testing import CliRunner

from gmai_vl.cli.export import export
from gmai_vl.foundation import UserError
from gmai_vl.model import save_model

APP = typer.Typer()
APP.command()(export)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    save_model(small_model(folder / "parts", "smollm"), folder / "model")
    return folder


def run(folder, *words):
    return CliRunner().invoke(APP, ["--model", str(folder / "model"), "--to", "gguf", *words])


def test_both_precisions_are_written_and_told(folder):
    out = folder / "both"
    (out / "other").mkdir(parents=True)
    result = run(folder, "--out", str(out), "--json", str(folder / "told.json"))
    assert result.exit_code == 0, result.output
    names = {"model-f16.gguf", "mmproj-model-f16.gguf", "model-q8_0.gguf", "mmproj-model-q8_0.gguf"}
    assert {path.name for path in out.iterdir()} == names | {"other"}  # what lay there stays
    told = {file["path"]: file for file in json.loads((folder / "told.json").read_text())["files"]}
    assert told.keys() == {str(out / name) for name in names}
    for path, file in told.items():
        assert file["tensors"] == len(GGUFReader(path).tensors)
        assert file["size"] == (out / path).stat().st_size
        assert (file["largest_error"] == 0) == ("f16" in path)  # its weights are ones that f16 has
        assert path in result.output


def test_one_precision(folder):
    result = run(folder, "--out", str(folder / "one"), "--precision", "q8_0")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (folder / "one").iterdir()} == {"model-q8_0.gguf", "mmproj-model-q8_0.gguf"}


def test_mistakes_are_the_users(folder):
    result = CliRunner().invoke(APP, ["--model", str(folder), "--to", "gguf", "--out", str(folder / "no")])
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == f"{folder}: no config.json in there; give the folder of a checkpoint"
    assert run(folder, "--out", str(folder / "no"), "--precision", "q4_0").exit_code == 2
