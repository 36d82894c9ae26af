"""Folders of questions: what their manifest tells, what is not replaced, builds that are killed, and the command."""

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from killing import run_killed_at
from reasoning_questions import all_rows, build_corpus, content, manifest_of, rows_of
from typer.testing import CliRunner

from gmai_vl.cli import app
from gmai_vl.corpus import Corpus
from gmai_vl.foundation import UserError
from gmai_vl.reasoning.items import SIDES
from gmai_vl.reasoning.questions import build_questions
from gmai_vl.reasoning.questions.manifest import strictest


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_corpus(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "questions"
    build_questions([corpus], out)
    return out


def test_the_manifest_counts_what_is_there(corpus: Path, made: Path) -> None:
    told = manifest_of(made)
    rows = all_rows(made)
    for name, column in (("sources", "source"), ("forms", "form"), ("languages", "language")):
        counted: dict[str, Counter[str]] = defaultdict(Counter)
        for side, row in rows:
            counted[side][row[column]] += 1
        assert told["counts"][name] == counted
    assert told["counts"]["images"] == {
        side: len({row["image"] for on, row in rows if on == side}) for side in ("train", "val", "test")
    }
    assert told["licences"]["sources"] == {"polyps": "MIT", "skin": "CC0-1.0"}
    assert told["licences"]["strictest"] == "MIT" and told["use"] == "research use only, not for diagnosis"
    assert told["corpora"] == [{"name": "small", "fingerprint": Corpus(corpus).manifest["fingerprint"]}]
    assert (told["seed"], told["limit"], told["hold_out"], told["left_out"]) == (0, None, [], {})


def test_the_manifest_tells_what_one_reaches_who_never_looks(made: Path) -> None:
    answers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)

    def texts(row: dict[str, Any]) -> list[str]:
        return sorted(row[letter] for letter in "ABCDEFGHI" if letter in row)

    for row in rows_of(made, "train"):
        for key in ((row["form"], *texts(row)), (row["form"],), ()):
            answers[key][row[row["answer"]]] += 1
    told = manifest_of(made)["baselines"]
    assert set(told) == {"val", "test"}
    for side in ("val", "test"):
        right = []
        for row in rows_of(made, side):
            keys = ((row["form"], *texts(row)), (row["form"],), ())
            seen = next((answers[key] for key in keys if any(text in answers[key] for text in texts(row))), Counter())
            right.append(max(texts(row), key=lambda text, seen=seen: seen[text]) == row[row["answer"]])
        chance = sum(1 / len(texts(row)) for row in rows_of(made, side)) / len(right)
        assert told[side]["chance"] == pytest.approx(chance, abs=1e-4)
        assert told[side]["majority"] == pytest.approx(sum(right) / len(right), abs=1e-4)


def test_the_strictest_licence() -> None:
    assert strictest(["CC0-1.0", "cc-by-4.0"]) == "CC-BY-4.0"
    assert strictest(["CC-BY-4.0", "CC-BY-SA-4.0"]) == "CC-BY-SA-4.0"
    assert strictest(["CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-ND-4.0"]) == "CC-BY-ND-4.0"
    assert strictest(["CC-BY-NC-ND-4.0", None, "MIT"]) == "unknown"
    assert strictest([None, "research-only"]) == "research-only"


def test_a_folder_that_is_something_else_is_not_replaced(corpus: Path, made: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    shutil.copytree(made, stranger)
    (stranger / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"holds `thesis\.tex`, which no folder of questions has"):
        build_questions([corpus], stranger)
    (stranger / "thesis.tex").unlink()
    (stranger / "manifest.json").write_text('{"form": "GMAI-MMBench"}')
    with pytest.raises(UserError, match="give a new or an empty folder"):
        build_questions([corpus], stranger)
    for out in (corpus / "q", corpus.parent):
        with pytest.raises(UserError, match="give another --out"):
            build_questions([corpus], out)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; give a folder"):
        build_questions([corpus], tmp_path / "file")


def test_estimates_of_difficulty_go_with_the_questions_that_they_were_made_of(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "q"
    build_questions([corpus], out)
    estimates = ("difficulty.jsonl", "answers-0123456789abcdef.jsonl", ".difficulty.jsonl.01234567.tmp")
    for name in estimates:
        (out / name).write_text("")
    build_questions([corpus], out, seed=1)
    assert not {*estimates} & {path.name for path in out.iterdir()}
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / estimates[1]).write_text("mine")  # by itself it is of no folder of questions
    with pytest.raises(UserError, match="give a new or an empty folder"):
        build_questions([corpus], alone)
    (out / "answers-of-a-survey.jsonl").write_text("mine")
    with pytest.raises(UserError, match=r"holds `answers-of-a-survey\.jsonl`"):
        build_questions([corpus], out)


def test_a_manifest_that_is_none_is_an_error(corpus: Path, tmp_path: Path) -> None:
    broken = tmp_path / "corpus"
    shutil.copytree(corpus, broken)
    (broken / "manifest.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(UserError, match=r"manifest\.json: cannot be read"):
        build_questions([broken], tmp_path / "q")
    (broken / "manifest.json").write_text('{"name": 3}')
    with pytest.raises(UserError, match="has no name or fingerprint; build the corpus anew"):
        build_questions([broken], tmp_path / "q")


CALL = (
    "from gmai_vl.reasoning.questions import build_questions; "
    "call = lambda corpus, out: build_questions([corpus], out, seed=1)"
)


def test_a_killed_build_leaves_nothing_half(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "watched" / "out"
    out.parent.mkdir()
    assert run_killed_at(CALL, [corpus, out], out.parent, 30).returncode == -signal.SIGKILL
    assert list(out.parent.glob(".out.*/images/*/*.png")) and not out.exists()


@pytest.mark.long
def test_a_build_killed_at_any_moment_leaves_the_old_folder_the_new_one_or_none(
    corpus: Path, made: Path, tmp_path: Path
) -> None:
    watched = tmp_path / "watched"
    counted = run_killed_at(CALL, [corpus, watched / "out"], watched, 0)
    assert counted.returncode == 0, counted.stderr
    whole = content(watched / "out")
    for moment in range(1, int(counted.stdout) + 1, 9):
        shutil.rmtree(watched)
        shutil.copytree(made, watched / "out")
        assert run_killed_at(CALL, [corpus, watched / "out"], watched, moment).returncode == -signal.SIGKILL
        left = content(watched / "out") if (watched / "out").exists() else {}
        assert left in ({}, content(made), whole), moment


def test_the_command_tells_what_came_out_and_loads_no_torch(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "q"
    arguments = ["reason", "questions", str(corpus), "--out", str(out), "--json", str(tmp_path / "j")]
    script = f"""
import sys
from gmai_vl.cli import main
sys.argv = ["gmai", *{[*arguments, "--hold-out", "polyps"]!r}]
try:
    main()
finally:
    assert "torch" not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    counts = manifest_of(out)["counts"]["questions"]
    head, *lines = ran.stdout.splitlines()
    assert head.split() == ["source", *SIDES]
    assert lines[0].split() == ["polyps", "0", "0", "0", str(counts["held_out"])]
    assert lines[2].split() == ["all", *(str(counts[side]) for side in SIDES)]
    assert "who never looks  chance  majority" in ran.stdout
    assert "Research use only, not for diagnosis." in ran.stdout
    assert json.loads((tmp_path / "j").read_text()) == manifest_of(out)


def test_what_is_written_can_be_asked_and_scored(made: Path, tmp_path: Path) -> None:
    rows = rows_of(made, "test")
    said = [{"id": f"own-{row['id']}", "response": f"I see it. Answer: {row['answer']}"} for row in rows]
    said[0]["response"] = "I cannot tell."
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    data, scored = str(made / "test.jsonl"), tmp_path / "score.json"
    arguments = ["eval", "score", "--benchmark", "own", "--data", data, "--predictions", str(tmp_path / "p.jsonl")]
    result = CliRunner().invoke(app, [*arguments, "--json", str(scored)])
    assert result.exit_code == 0, result.output
    score = json.loads(scored.read_text())
    assert score["micro"] == pytest.approx(1 - 1 / len(rows)) and score["n"] == len(rows)
    assert {"source", "modality", "form"} <= score["groups"].keys()
    assert score["n_patients"] == len({row["patient"] for row in rows})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "neither a corpus nor --import given; give one of them"),
        (["x", "--import", "y"], "both corpora and --import given"),
        (["x", "--images", "y"], "--images: goes with --import FILE"),
        (["x"], "no finished corpus"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["reason", "questions", *arguments, "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, UserError) and said in str(result.exception)
    assert "\n" not in str(result.exception)
