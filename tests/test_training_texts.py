"""Texts without an image go through a training step, alone and beside those with one."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from one_stage import one_stage
from test_corpus_texts import write_sources

from gmai_vl.corpus import Corpus, build
from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, Request, Vlm, build_model, generate
from gmai_vl.training.mixture import Mixture, training_mixture
from gmai_vl.training.recipe import Stage
from gmai_vl.training.tokens import open_tokens
from gmai_vl.training.words import telling_words


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("texts")
    return Corpus(build(write_sources(folder), folder / "out").corpus)


def trial(subsets: list[str], train: list[str], max_steps: int) -> Stage:
    return Stage.model_validate(
        {
            "name": "trial",
            "train": train,
            "learning_rate": 1e-2,
            "global_batch": 8,
            "max_steps": max_steps,
            "mixture": [{"corpus": "texts", "subsets": subsets, "forms": ["given"]}],
        }
    )


def mixture_of(stage: Stage, vlm: Vlm, corpus: Corpus) -> Mixture:
    return training_mixture(stage, {"texts": open_tokens(corpus, vlm.processor)}, seed=0)


@pytest.mark.parametrize("subsets", [["text-single", "text-multi"], ["instruct", "text-single"]])
def test_a_tiny_model_learns_from_texts(corpus: Corpus, tmp_path: Path, subsets: list[str]) -> None:
    stage = trial(subsets, ["vision", "projector", "language"], 30)
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    mixture = mixture_of(stage, vlm, corpus)
    texts = np.flatnonzero(mixture.numbers("images") == 0)
    totals = one_stage(vlm, stage, mixture[:8], tmp_path)
    steps = [
        row for row in map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines()) if row["event"] == "step"
    ]
    assert totals.loss < steps[0]["loss"] / 3
    asked = corpus.sample(mixture.ids(texts[:1])[0])
    assert len(generate(vlm, [Request(asked.turns[:1], ())], max_new_tokens=4, batch_size=1)) == 1


@pytest.mark.parametrize(("train", "learns"), [(["projector"], False), (["projector", "language"], True)])
def test_text_alone_teaches_the_language_part_and_leaves_a_projector_as_it_is(
    corpus: Corpus, tmp_path: Path, train: list[str], learns: bool
) -> None:
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    before = {name: weight.detach().clone() for name, weight in vlm.model.named_parameters()}
    stage = trial(["text-single", "text-multi"], train, 1)
    totals = one_stage(vlm, stage, mixture_of(stage, vlm, corpus), tmp_path)
    assert math.isfinite(totals.loss)
    moved = {name for name, weight in vlm.model.named_parameters() if not torch.equal(before[name], weight)}
    assert any("language_model" in name for name in moved) == learns
    assert not any("projector" in name for name in moved)


def test_an_objective_of_words_names_a_text_without_an_image(corpus: Corpus) -> None:
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    mixture = mixture_of(trial(["text-single"], ["projector"], 1), vlm, corpus)
    with pytest.raises(UserError, match=r"stage align: sample .* shows 0 images; `objective: words` needs one each"):
        telling_words(mixture, "align")
