"""Traces as a corpus: what a model learns from, sides, licences; and the recipe that the documentation shows."""

import json
from pathlib import Path

import pytest
import yaml
from stub_server import Stub, answer
from synthesis_runs import (
    QUESTIONS,
    cache,  # noqa: F401  a fixture
    folder_of_questions,  # noqa: F401  a fixture
    lines_of,
    note_seeds,  # noqa: F401  a fixture
    picture,
    recipe_of,
    run,
    said,
    tried,
    write_questions,
)
from typer.testing import CliRunner

from gmai_vl.cli import app
from gmai_vl.corpus import Corpus, verify
from gmai_vl.corpus.leaks import find_leaks
from gmai_vl.corpus.shown import shown_by
from gmai_vl.foundation import UserError
from gmai_vl.reasoning.synthesis import SynthesisRecipe, traces_corpus
from gmai_vl.records import ImageRef

TRAIN = """\
name: sft
out: run
model: {preset: tiny}
stages:
  - name: sft
    train: [projector, language]
    learning_rate: 1.0e-3
    global_batch: 4
    max_steps: 2
    validation: {every: 2, samples: 4}
    mixture: [{corpus: corpus}]
"""


def test_traces_are_a_corpus_that_a_model_learns_from(folder):
    with Stub(lambda now: answer(said(*tried(now)))) as stub:
        run(recipe_of(folder, stub.url))
    summary = traces_corpus(folder / "traces", folder / "questions", folder / "corpus")
    corpus = Corpus(summary.corpus)
    assert verify(summary.corpus) == []
    samples = corpus.samples()
    assert len(samples) == QUESTIONS
    patients = {side: {sample.patient_id for sample in corpus.samples(split=side)} for side in ("train", "val", "test")}
    assert patients["train"] | patients["val"] == {f"train-{number}" for number in range(4)}
    assert not patients["train"] & patients["val"] and len(patients["val"]) == 1 and not patients["test"]
    for sample in samples:
        number = int(sample.id.split("-")[1][1:])
        asked, told = sample.turns
        assert asked.content[0] == ImageRef(0) and f"Which is number {number}?\nA. dark disc" in asked.text
        assert asked.text.endswith("between <answer> and </answer>.")
        assert told.text == said(number, 1)
        assert (corpus.image(sample.images[0]) == picture(number)).all()
        assert (sample.kind, sample.answer, sample.modality) == ("mcq", "AB"[number % 2], "CT")
    leaks = find_leaks(shown_by(summary.corpus, ("train", "val")).shown, shown_by(folder / "questions").shown)
    assert len({leak.theirs.id for leak in leaks if leak.evidence == "same pixels"}) == QUESTIONS

    (folder / "train.yaml").write_text(TRAIN)
    done = CliRunner().invoke(app, ["train", str(folder / "train.yaml")])
    assert done.exit_code == 0, done.output
    steps = [row for row in lines_of(folder / "run/log.jsonl") if row["event"] == "step"]
    assert len(steps) == 2 and all(row["supervised_tokens"] > 100 for row in steps)
    (folder / "train.yaml").write_text(TRAIN + "leaks: {against: [questions]}\n")
    stopped = CliRunner().invoke(app, ["train", str(folder / "train.yaml"), "--overwrite"])
    assert isinstance(stopped.exception, UserError)


def test_traces_of_val_are_for_validation_and_others_for_nothing(folder):
    write_questions(folder / "questions", 6, "val")
    with Stub(lambda now: answer(said(*tried(now)))) as stub:
        run(recipe_of(folder, stub.url), "side=val")
    corpus = Corpus(traces_corpus(folder / "traces", folder / "questions", folder / "corpus").corpus)
    assert {sample.split for sample in corpus.samples()} == {"val"}
    with pytest.raises(UserError, match="holds no traces"):
        traces_corpus(folder / "questions", folder / "questions", folder / "other")
    (folder / "traces/traces.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no traces; ask a better teacher"):
        traces_corpus(folder / "traces", folder / "questions", folder / "other")
    (folder / "traces/traces.jsonl").write_text('{"question": "own-x", "thought": "t", "id": "1"}\n')
    with pytest.raises(UserError, match=r"traces.jsonl:1: is no trace about a question of this folder"):
        traces_corpus(folder / "traces", folder / "questions", folder / "other")


def test_one_image_of_two_sources_has_the_stricter_licence_and_no_doubtful_modality(folder):
    rows = lines_of(folder / "questions/train.jsonl")
    rows[1] |= {"image": rows[0]["image"], "modality": "MRI"}
    write_rows(folder, rows)
    licences = {"set0": "CC0-1.0", "set1": "CC-BY-NC-ND-4.0", "set2": "MIT"}
    (folder / "questions/manifest.json").write_text(json.dumps({"licences": {"sources": licences}}))
    with Stub(lambda now: answer(said(*tried(now)))) as stub:
        run(recipe_of(folder, stub.url))
    corpus = Corpus(traces_corpus(folder / "traces", folder / "questions", folder / "corpus").corpus)
    told = {sample.id: (sample.license, sample.modality) for sample in corpus.samples()}
    assert len(told) == QUESTIONS
    assert told["own-n0-1"] == told["own-n1-1"] == ("CC-BY-NC-ND-4.0", None)
    assert told["own-n2-1"] == ("MIT", "CT")

    rows[2]["C"] = rows[2].pop("A")
    rows[2]["answer"] = "C"
    write_rows(folder, rows)
    with Stub(lambda now: answer(said(*tried(now), "C" if tried(now)[0] == 2 else None))) as stub:
        run(recipe_of(folder, stub.url, out="others"))
    with pytest.raises(UserError, match="`own-n2`: its options are not lettered A, B, C"):
        traces_corpus(folder / "others", folder / "questions", folder / "other")


def write_rows(folder, rows):
    (folder / "questions/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_traces_go_with_the_questions_that_were_asked_and_no_others(folder):
    asked = lines_of(folder / "questions/train.jsonl")
    with Stub(lambda now: answer(said(*tried(now)))) as stub:
        run(recipe_of(folder, stub.url))
    other_letters = [
        row | {"A": row["B"], "B": row["A"], "answer": {"A": "B", "B": "A"}[row["answer"]]} for row in asked
    ]
    for other in (other_letters, asked[1:], [asked[0] | {"question": "Which is it?"}, *asked[1:]]):
        write_rows(folder, other)
        with pytest.raises(UserError, match=r"traces: answers other questions than .*/questions asks now"):
            traces_corpus(folder / "traces", folder / "questions", folder / "corpus")
    write_rows(folder, [asked[0], asked[1] | {"answer": "A"}, *asked[2:]])
    with pytest.raises(UserError, match=r"traces.jsonl:2: answers 'B', right is A; run `gmai reason synthesize --rej"):
        traces_corpus(folder / "traces", folder / "questions", folder / "corpus")
    run(folder / "recipe.yaml", ask=False)
    assert len(Corpus(traces_corpus(folder / "traces", folder / "questions", folder / "corpus").corpus).samples()) == 11


def test_the_recipe_of_the_documentation_has_all_keys_and_their_defaults():
    text = (Path(__file__).parents[1] / "docs/reasoning.md").read_text("utf-8").partition("## Rejection sampling")[2]
    told = yaml.safe_load(text.partition("```yaml")[2].partition("```")[0])
    needed = {key: told[key] for key in ("questions", "teacher", "out")}
    assert set(told) == set(SynthesisRecipe.model_fields)
    assert SynthesisRecipe(**told) == SynthesisRecipe(**needed)
