"""The command as a shell sees it: exit codes, and one line for every mistake."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from corpus_recipes import write_sources

from gmai_vl.corpus import build

GMAI = [sys.executable, "-m", "gmai_vl.cli"]


def gmai(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GMAI, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nosuch"], "gmai: no such command 'nosuch'; see `gmai --help`"),
        (["train"], "gmai: missing argument 'recipe'; see `gmai train --help`"),
        (["data", "build", "r.yaml", "--out", "o", "--workers", "0"], "equal to 1; see `gmai data build --help`"),
        (["data", "verify", "nosuch"], "gmai: nosuch: no such folder; give the folder of a corpus"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], line: str) -> None:
    done = gmai(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.replace("python -m gmai_vl.cli", "gmai").endswith(line)


def test_without_arguments_it_helps() -> None:
    done = gmai("data")
    assert (done.returncode, done.stderr) == (2, "")
    assert "verify" in done.stdout
    assert gmai("data", "--help").returncode == 0


def test_a_fault_that_a_check_finds_is_exit_code_1(tmp_path: Path) -> None:
    corpus = build(write_sources(tmp_path), tmp_path / "corpus").corpus
    assert gmai("data", "verify", corpus).returncode == 0
    next((corpus / "images").rglob("*.png")).write_bytes(b"damaged")
    assert gmai("data", "verify", corpus).returncode == 1


def test_an_interrupt_is_said_and_leaves_what_was_finished(tmp_path: Path) -> None:
    (tmp_path / "phantoms.yaml").write_text(
        "name: phantoms\nlanguages: {en: 1}\n"
        "sources: [{name: p, format: phantom, patients: 200, license: Apache-2.0}]\n"
    )
    command = [*GMAI, "data", "build", str(tmp_path / "phantoms.yaml"), "--out", str(tmp_path / "corpus")]
    # A shell's background jobs ignore interrupts, and what they start inherits that.
    heeds_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heeds_interrupts) as process:
        assert process.stderr
        process.stderr.read(1)  # its first sign of life: work has begun
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "gmai: stopped; what was finished is kept"
