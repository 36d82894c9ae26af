"""The supervised baseline by its command: traces become a corpus, and a checkpoint learns them."""

import json

import pytest
from reasoning_items import write_side
from typer.testing import CliRunner

from gmai_vl.cli.reason import app
from gmai_vl.corpus import Corpus
from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, build_model, load_model, save_model
from gmai_vl.reasoning.items import asked_sha256, read_items

RECIPE = """
name: sft
out: out
model: {init: model}
traces: traces
questions: questions
precision: fp32
learning_rate: 1.0e-3
global_batch: 4
"""


@pytest.fixture
def folder(tmp_path):
    write_side(tmp_path / "questions", "train", 12, 0)
    items = read_items(tmp_path / "questions", "train")
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces/run.json").write_text(json.dumps({"side": "train", "questions": asked_sha256(items.questions)}))
    rows = [
        {
            "id": f"{question.id}#0",
            "question": question.id,
            "thought": f"A disc of some grey, {number}.",
            "answer": question.reference,
        }
        for number, question in enumerate(items.questions)
    ]
    (tmp_path / "traces/traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_model(build_model(ModelSettings(preset="tiny"), seed=0), tmp_path / "model")
    (tmp_path / "sft.yaml").write_text(RECIPE)
    return tmp_path


def reason(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_traces_are_learnt(folder):
    done = reason("sft", folder / "sft.yaml", "--set", "max_steps=3")
    final = folder / "out/run/final"
    assert done.stdout.strip() == str(final)
    load_model(final)
    corpus = Corpus(folder / "out/corpus")
    said = {sample.turns[-1].text for sample in corpus.samples()}
    answers = {question.answer for question in read_items(folder / "questions", "train").questions}
    assert len(corpus.samples()) == 12 and answers == {"A", "B"}
    assert all(text.startswith("<think>A disc of some grey, ") and text.endswith("</answer>") for text in said)
    told = json.loads((final / "provenance.json").read_text())
    assert told["stages"][-1]["corpora"][0]["fingerprint"] == corpus.manifest["fingerprint"]
    assert told["stages"][-1]["steps"] == 3
    with pytest.raises(UserError, match="resume"):
        reason("sft", folder / "sft.yaml", "--set", "max_steps=3")


def test_traces_that_changed_are_not_taken_for_those_that_were_learnt(folder):
    reason("sft", folder / "sft.yaml", "--set", "max_steps=1")
    (folder / "traces/traces.jsonl").write_text(
        (folder / "traces/traces.jsonl").read_text().replace("some grey", "no colour")
    )
    with pytest.raises(UserError, match=r"out/corpus: holds `reasoning-traces-.*makes `reasoning-traces-"):
        reason("sft", folder / "sft.yaml", "--set", "max_steps=1", "--resume")
    reason("sft", folder / "sft.yaml", "--set", "max_steps=1", "--overwrite")
    assert all("no colour" in sample.turns[-1].text for sample in Corpus(folder / "out/corpus").samples())


def test_what_is_refused_leaves_the_earlier_corpus_beside_its_training(folder):
    short = ("sft", folder / "sft.yaml", "--set", "max_steps=1", "--overwrite")
    reason(*short)
    before = Corpus(folder / "out/corpus").manifest["fingerprint"]
    traces = folder / "traces/traces.jsonl"
    traces.write_text(traces.read_text().replace("some grey", "no colour"))
    with pytest.raises(UserError, match="--overwrite and --resume: give one of them"):
        reason(*short, "--resume")
    (folder / "out/run/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"out/run: holds notes.txt, which no training wrote"):
        reason(*short)
    (folder / "out/run/notes.txt").unlink()
    learnt = traces.read_text()
    traces.write_text("")
    with pytest.raises(UserError, match="holds no traces"):
        reason(*short)
    assert Corpus(folder / "out/corpus").manifest["fingerprint"] == before
    traces.write_text(learnt)
    reason(*short)
    told = json.loads((folder / "out/run/final/provenance.json").read_text())["stages"][-1]["corpora"][0]
    assert told["fingerprint"] == Corpus(folder / "out/corpus").manifest["fingerprint"] != before
    assert {path.name for path in (folder / "out").iterdir()} == {"corpus", "run"}


def test_a_recipe_without_a_length_and_a_folder_without_traces_are_one_line(folder):
    with pytest.raises(UserError, match=r"sft.yaml.*give either `epochs` or `max_steps`"):
        reason("sft", folder / "sft.yaml")
    (folder / "traces/traces.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no traces"):
        reason("sft", folder / "sft.yaml", "--set", "max_steps=3")
