"""Backbones from a hub, over HTTP: what is there comes, code does not, and what is missing is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from internlm2_folder import CONFIG, random_weights, write_internlm2, write_tokenizer
from stub_hub import hub

from gmai_vl.model import BACKBONES

SHARD = "model-00002-of-00002.safetensors"


@pytest.fixture
def internlm2(tmp_path):
    """A hub's folder of an InternLM2 with code of its own and pickles beside it."""
    config = CONFIG | {"vocab_size": 403}
    folder = write_internlm2(tmp_path / "there", random_weights(config), config)
    write_tokenizer(folder)
    (folder / "modeling_internlm2.py").write_text("raise SystemExit('code was run')")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "LICENSE").write_text("Apache License")
    return folder


def pull(name: str, address: str, home: Path) -> subprocess.CompletedProcess[str]:
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(home / "hf"), "GMAI_CACHE": str(home / "gmai")}
    cleared = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    asked = [sys.executable, "-m", "gmai_vl.cli", "backbones", "pull", name]
    return subprocess.run(asked, env=cleared | settings, capture_output=True, text=True, check=False)


def test_an_internlm2_comes_as_a_llama_and_its_code_stays_there(internlm2, tmp_path):
    with hub({"someone/internlm2": internlm2}) as (address, asked):
        done = pull("someone/internlm2", address, tmp_path)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert (folder / "config.json").is_file() and (folder / "LICENSE").is_file() and (folder / "source.json").is_file()
    assert not any(path.endswith((".py", ".bin")) for path in asked)
    assert not list(tmp_path.rglob("hf/**/*.py"))


def line_of(name: str, address: str, home: Path) -> str:
    done = pull(name, address, home)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("gmai: ")]
    assert not done.stdout and "Traceback" not in done.stderr
    assert not [path for path in (home / "gmai").rglob("*") if not path.is_dir()]
    return line


@pytest.mark.parametrize(
    ("status", "code", "name", "told"),
    [
        (
            404,
            "RepoNotFound",
            "internlm/internlm3",
            "check owner/name, set HF_TOKEN if it is private",
        ),
        (401, "RepoNotFound", "internlm/internlm3", "the hub has none; check owner/name"),
        (404, "RevisionNotFound", "internlm/internlm2@v9", "the hub has no revision `v9` of it"),
        (403, "GatedRepo", "meta/gated", "terms accepted; do so at https://huggingface.co/meta/gated, set HF_TOKEN"),
        (500, "Broken", "internlm/internlm2", "the hub does not give it: Server error '500 "),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(tmp_path, status, code, name, told):
    with hub({}, refusal=(status, code)) as (address, _):
        line = line_of(name, address, tmp_path)
    assert line.startswith(f"gmai: backbone {name}: ") and told in line


def test_a_file_that_is_refused_is_one_line(internlm2, tmp_path):
    there = {"someone/internlm2": internlm2}
    with hub(there, refusal=(403, "Other"), withheld=SHARD) as (address, _):
        line = line_of("someone/internlm2", address, tmp_path)
    assert line.startswith("gmai: backbone someone/internlm2: the hub does not give it: 403 Forbidden")


def test_a_name_that_is_nearly_one_of_ours_is_one_line(tmp_path):
    line = line_of("smollm2-135", "http://127.0.0.1:9", tmp_path)
    assert "did you mean `smollm2-135m`" in line
    assert "smollm2-135m" in BACKBONES


def test_a_page_instead_of_a_hub_is_one_line(tmp_path):
    (tmp_path / "there").mkdir()
    with hub({"someone/page": tmp_path / "there"}, page=b"<html>Sign in to the hospital's network</html>") as (
        address,
        _,
    ):
        line = line_of("someone/page", address, tmp_path)
    assert line.startswith("gmai: backbone someone/page: what answers at the hub's address is no hub")


def test_a_hub_that_is_not_there_is_one_line(tmp_path):
    line = line_of("someone/internlm2", "http://127.0.0.1:9", tmp_path)
    assert line == "gmai: backbone someone/internlm2: the hub cannot be reached; check the network or HF_ENDPOINT"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda folder: (folder / "model-00002-of-00002.safetensors").unlink(),
            "model-00002-of-00002.safetensors: is missing",
        ),
        (lambda folder: [file.unlink() for file in folder.glob("*.safetensors")], "has no safetensors"),
        (lambda folder: (folder / "tokenizer.model").unlink(), "tokenizer.model: is missing"),
    ],
    ids=["a shard", "all shards", "tokenizer"],
)
def test_a_repository_that_lacks_a_file_is_one_line(internlm2, tmp_path, damage, told):
    damage(internlm2)
    with hub({"someone/internlm2": internlm2}) as (address, _):
        assert told in line_of("someone/internlm2", address, tmp_path)
