"""Difficulty of questions and comparison of models, by their commands, on a model that is made to be right or wrong."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from reasoning_items import write_side
from reasoning_models import save_taught
from typer.testing import CliRunner

from gmai_vl.cli.reason import app
from gmai_vl.evaluation import checkpoint_sha256, read_predictions
from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, build_model, save_model
from gmai_vl.reasoning.compare import Model, model_of
from gmai_vl.reasoning.grpo.data import of_difficulty
from gmai_vl.reasoning.items import read_items
from gmai_vl.reasoning.rewards import accuracy_reward, format_reward


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    for seed, (side, count) in enumerate((("train", 6), ("test", 10), ("held_out", 4))):
        write_side(folder / "questions", side, count, seed)
    for letter in "AB":
        save_taught(folder / "questions", folder / letter, letter)
    save_model(build_model(ModelSettings(preset="tiny"), seed=0), folder / "untaught/final")
    return folder


def reason(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def compared(base, out, *more):
    models = (f"base={base / 'untaught'}", base / "A", f"b={base / 'B'}")
    fixed = ("--questions", base / "questions", "--out", out, "--max-new-tokens", 40)
    return reason("compare", *models, *fixed, "--json", out.with_suffix(".json"), *more)


def test_models_are_held_against_the_first_on_both_sides(base, tmp_path):
    shown = compared(base, tmp_path / "out").stdout
    told = json.loads((tmp_path / "out.json").read_text())
    assert told == json.loads((tmp_path / "out/compare.json").read_text())
    assert set(told["models"]) == {"base", "A", "b"} and told["base"] == "base"
    for name, letter in (("A", "A"), ("b", "B")):
        for side, count in (("test", 10), ("held_out", 4)):
            found = told["models"][name]["sides"][side]
            questions = read_items(base / "questions", side).questions
            said = read_predictions(tmp_path / "out" / name / side / "predictions.jsonl")
            assert found["n"] == count
            assert found["accuracy"] == sum(question.answer == letter for question in questions) / count == 0.5
            assert found["format"] == sum(format_reward(one, said[one.id]) for one in questions) / count == 1.0
            assert found["against"]["model"] == "base"
            assert (found["against"]["difference"], found["against"]["only_a"]) == (0.5, count // 2)
    assert told["models"]["base"]["sides"]["test"]["accuracy"] == 0
    assert "against" not in told["models"]["base"]["sides"]["test"]
    assert "A against base on test: +50.0 points" in shown and "not for diagnosis" in shown
    assert "contradicted" not in shown and told["models"]["b"]["sides"]["test"]["facts"] is None  # no case is known
    assert {path.name for path in (tmp_path / "out/plots").iterdir()} >= {"reasoning-bars-light.svg"}
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("predictions.jsonl")}
    assert compared(base, tmp_path / "out").stdout == shown
    assert before == {path: path.read_bytes() for path in before}


def test_wrong_models_and_questions_are_one_line(base, tmp_path):
    fixed = ("--questions", base / "questions", "--out", tmp_path / "out")
    with pytest.raises(UserError, match="holds no checkpoint, neither itself nor in `final`"):
        reason("compare", base / "questions", *fixed)
    with pytest.raises(UserError, match="a name stands twice among A, A; give NAME=FOLDER"):
        reason("compare", base / "A", f"A={base / 'B'}", *fixed)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has neither test.jsonl nor held_out.jsonl"):
        reason("compare", base / "A", "--questions", tmp_path / "empty", "--out", tmp_path / "out")


@pytest.fixture
def runs(tmp_path):
    for run in ("smol/final", "sft/run/final", "lr=1e-3", "lr=1/final"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("said", "name", "checkpoint"),
    [
        ("base={}/smol/final", "base", "smol/final"),
        ("sft={}/sft", "sft", "sft/run/final"),
        ("{}/sft", "sft", "sft/run/final"),
        ("{}/lr=1e-3", "lr=1e-3", "lr=1e-3"),
        ("{}/lr=1", "lr=1", "lr=1/final"),
        ("x={}/lr=1e-3", "x", "lr=1e-3"),
    ],
)
def test_a_model_is_a_checkpoint_or_a_run_under_a_name(runs, said, name, checkpoint):
    assert model_of(said.format(runs)) == Model(name, runs / checkpoint)


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "a\\b", "/x", "compare.md", "Compare.MD", "compare.json", "compare.csv", "plots"]
)
def test_a_name_is_that_of_a_folder_of_its_own(base, tmp_path, name):
    with pytest.raises(UserError, match=r"models: '.*' can be no folder in .*; give NAME=FOLDER with another name"):
        reason("compare", f"{name}={base / 'A'}", "--questions", base / "questions", "--out", tmp_path / "out/below")
    assert not list(tmp_path.iterdir())


DIFFICULTY = ("--samples", 3, "--max-new-tokens", 40, "--temperature", 0.7)


def test_difficulty_is_the_share_of_right_answers(base):
    folder = base / "questions"
    shown = reason("difficulty", folder, "--model", base / "A", *DIFFICULTY).stdout
    items = read_items(folder, "train")
    said = read_predictions(next(folder.glob("answers-*.jsonl")))
    assert len(said) == 18
    for question in items.questions:
        estimate = items.about[question.id].difficulty
        assert estimate.model_sha256 == checkpoint_sha256(base / "A")
        tries = [accuracy_reward(question, said[f"{question.id}#{number}"]) for number in range(3)]
        assert (estimate.samples, estimate.right, estimate.accuracy) == (3, sum(tries), sum(tries) / 3)
    shares = Counter(items.about[question.id].difficulty.right for question in items.questions)
    assert "always right" in shown and str(shares[3]) in shown
    assert shares[0] and shares[3], "half of the right letters are A"


def test_an_estimate_holds_for_the_questions_the_prompt_and_the_answers_that_it_was_made_with(base, tmp_path):
    folder, model, short = tmp_path / "q", base / "A", ("--samples", 1, "--max-new-tokens", 40, "--temperature", 0.1)
    write_side(folder, "train", 6, 0)
    asked = (folder / "train.jsonl").read_text()
    reason("difficulty", folder, "--model", model, *short)

    def known():
        return [one.difficulty for one in read_items(folder, "train").about.values()]

    before = known()
    assert sum(one.right for one in before) == 3  # it says A to all six
    items, sha256 = read_items(folder, "train", "direct"), checkpoint_sha256(model)
    with pytest.raises(UserError, match="asked as it is now; run `gmai reason difficulty` with this model and the"):
        of_difficulty(items.questions, items.about, (0.0, 1.0), sha256)
    rows = [json.loads(line) for line in asked.splitlines()]
    flipped = {"A": "B", "B": "A"}
    letters = [row | {"A": row["B"], "B": row["A"], "answer": flipped[row["answer"]]} for row in rows]
    answers = [row | {"answer": flipped[row["answer"]]} for row in rows]
    for other, files in ((answers, 1), (letters, 2)):
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))
        assert set(known()) == {None}
        reason("difficulty", folder, "--model", model, *short)
        assert [one.right for one in known()] == [1 - one.right for one in before]
        assert len(list(folder.glob("answers-*.jsonl"))) == files  # a corrected answer asks nothing anew
    (folder / "train.jsonl").write_text(asked)
    reason("difficulty", folder, "--model", model, *short)
    assert known() == before


def test_an_image_that_cannot_be_read_ends_an_estimate_in_one_line(base, tmp_path):
    write_side(tmp_path / "q", "train", 6, 0)
    (tmp_path / "q/images/train-3.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"q/images/train-3.png: image of question `own-train-3` cannot be read: .*"):
        reason("difficulty", tmp_path / "q", "--model", base / "A", "--samples", 1, "--max-new-tokens", 4)
    items = read_items(tmp_path / "q", "train")
    (tmp_path / "q/images/train-2.png").unlink()
    with pytest.raises(UserError, match=r"images/train-2.png: image of question `own-train-2` cannot be read"):
        items.image("images/train-2.png")


def test_an_image_that_cannot_be_read_ends_a_comparison_in_one_line(base, tmp_path):
    write_side(tmp_path / "q", "test", 6, 0)
    (tmp_path / "q/images/test-3.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"q/images/test-3.png: image of question `own-test-3` cannot be read: .*"):
        reason("compare", base / "A", "--questions", tmp_path / "q", "--out", tmp_path / "out", "--max-new-tokens", 4)


def test_an_estimate_that_was_killed_goes_on(base, tmp_path):
    code = """
import os, signal, sys
import gmai_vl.reasoning.difficulty as difficulty
from pathlib import Path
difficulty.QUESTIONS_PER_CALL = 2
calls = []
def deadly(*given, **more):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return respond(*given, **more)
respond, difficulty.respond = difficulty.respond, deadly
difficulty.estimate_difficulty(Path(sys.argv[1]), Path(sys.argv[2]), samples=2, max_new_tokens=30)
"""
    environment = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    for side in ("train",):
        write_side(tmp_path / "q", side, 6, 0)
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "q"), str(base / "B")], env=environment, capture_output=True
    )
    assert run.returncode == -9, run.stderr
    kept = read_predictions(next((tmp_path / "q").glob("answers-*.jsonl")))
    assert len(kept) == 8 and not (tmp_path / "q/difficulty.jsonl").exists()
    reason("difficulty", tmp_path / "q", "--model", base / "B", "--samples", 2, "--max-new-tokens", 30)
    whole = read_predictions(next((tmp_path / "q").glob("answers-*.jsonl")))
    assert len(whole) == 12 and kept.items() <= whole.items()
    assert all(one.difficulty.samples == 2 for one in read_items(tmp_path / "q", "train").about.values())
    (tmp_path / "q/difficulty.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"difficulty.jsonl: cannot be read"):
        read_items(tmp_path / "q", "train")
    for wrong, why in (
        ({"samples": 0}, "samples: input should be greater than 0"),
        ({"right": -1}, "right: input should be g"),
        ({"id": None}, "cannot be read: .*id"),
    ):
        row = {"id": "own-train-0", "model_sha256": "f", "samples": 2, "right": 1} | wrong
        row = {key: value for key, value in row.items() if value is not None}
        (tmp_path / "q/difficulty.jsonl").write_text(json.dumps(row))
        with pytest.raises(UserError, match=rf"difficulty.jsonl: .*{why}"):
            read_items(tmp_path / "q", "train")


def test_files_of_questions_may_be_odd(tmp_path):
    write_side(tmp_path, "train", 5, 0)
    file = tmp_path / "train.jsonl"
    rows = [json.loads(line) | {"about": {"case_id": f"case {number}"}} for number, line in enumerate(file.open())]
    del rows[0]["id"]
    rows[1]["id"] = f"  {rows[1]['id']}"
    rows[2]["id"] = 7
    rows[3]["about"] = None
    lines = "\n\n".join(json.dumps(row) for row in rows)
    file.write_text(f"\ufeff{lines}", encoding="utf-8")
    items = read_items(tmp_path, "train")
    told = ["own-1", f"own-{rows[1]['id'].strip()}", "own-7", f"own-{rows[3]['id']}", f"own-{rows[4]['id']}"]
    assert [question.id for question in items.questions] == told
    cases = ["case 0", "case 1", "case 2", None, "case 4"]
    assert {id: about.case_id for id, about in items.about.items()} == dict(zip(told, cases, strict=True))
