"""Texts without an image go through a training step, alone and beside those with one."""

import json
from pathlib import Path

import pytest
from test_corpus_texts import write_sources

from gmai_vl.corpus import Corpus, build
from gmai_vl.model import ModelSettings, Request, build_model, generate
from gmai_vl.training.loop import run_stage
from gmai_vl.training.mixture import training_examples
from gmai_vl.training.recipe import Stage
from gmai_vl.training.telemetry import RunLog


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("texts")
    return Corpus(build(write_sources(folder), folder / "out").corpus)


@pytest.mark.parametrize("subsets", [["text-single", "text-multi"], ["instruct", "text-single"]])
def test_a_tiny_model_learns_from_texts(corpus: Corpus, tmp_path: Path, subsets: list[str]) -> None:
    stage = Stage.model_validate(
        {
            "name": "trial",
            "train": ["vision", "projector", "language"],
            "learning_rate": 1e-2,
            "global_batch": 8,
            "max_steps": 30,
            "mixture": [{"corpus": "texts", "subsets": subsets, "forms": ["given"]}],
        }
    )
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    examples = training_examples(stage, {"texts": corpus}, seed=0)
    assert any(not example.sample.images for example in examples)
    with RunLog(tmp_path) as log:
        totals = run_stage(vlm, stage, examples[:8], [], seed=0, precision="fp32", log=log)
    steps = [
        row for row in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines()) if row["event"] == "step"
    ]
    assert totals.loss < steps[0]["loss"] / 3
    asked = next(example.sample for example in examples if not example.sample.images)
    assert len(generate(vlm, [Request(asked.turns[:1], ())], max_new_tokens=4, batch_size=1)) == 1
