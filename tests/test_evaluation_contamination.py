"""What a model's training corpora share with a benchmark stands beside its score."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus_recipes import write_sources

from gmai_vl.corpus import Corpus, build
from gmai_vl.evaluation.benchmarks.benchmark import Benchmark
from gmai_vl.evaluation.benchmarks.corpus import questions_of, read_corpus
from gmai_vl.evaluation.contamination import contamination
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef, Turn


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    build(write_sources(folder), folder / "learnt")
    return folder / "learnt"


def provenance(corpus: Path, path: str, *, init: str | None = None) -> dict:
    manifest = Corpus(corpus).manifest
    told = {"name": manifest["name"], "fingerprint": manifest["fingerprint"]}
    return {
        "stages": [{"corpora": [told]}],
        "recipe": {"stages": [{"mixture": [{"corpus": path}]}]},
        "origin": {"init": init} if init else {},
    }


def model_of(folder: Path, told: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "provenance.json").write_text(json.dumps(told))
    return folder


def re_encoded(benchmark: Benchmark) -> Benchmark:
    """The same questions about pictures that lost their last three bits."""
    return replace(benchmark, image=lambda name: benchmark.image(name) // 8 * 8 + np.uint8(3))


def test_test_questions_of_unseen_pictures_are_clean(corpus, tmp_path):
    model = model_of(tmp_path / "model", provenance(corpus, str(corpus)))
    seen = contamination(model, read_corpus(corpus), [])
    assert (seen.status, seen.leaked) == ("clean", frozenset())


def test_pictures_of_training_are_found_though_they_were_encoded_again(corpus, tmp_path):
    model = model_of(tmp_path / "model", provenance(corpus, str(corpus)))
    whole = read_corpus(corpus)
    learnt = tuple(questions_of(Corpus(corpus), split="train"))[:3]
    mixed = replace(whole, questions=(*learnt, *whole.questions))
    for benchmark in (mixed, re_encoded(mixed)):
        seen = contamination(model, benchmark, [])
        assert seen.status == "leaked"
        assert seen.leaked == {question.id for question in learnt}


def test_a_picture_of_training_is_found_in_a_question_of_another_language(corpus, tmp_path):
    """Splits that were drawn for each language by itself share pictures across languages."""
    model = model_of(tmp_path / "model", provenance(corpus, str(corpus)))
    whole = read_corpus(corpus)
    learnt = questions_of(Corpus(corpus), split="train")
    changed = {"id": "other", "stem": "?", "turns": (Turn("user", (ImageRef(0), "?")),)}
    for language, other in (("en", "zh"), ("zh", "en")):
        (one, *_) = (question for question in learnt if question.language == language and len(question.images) == 1)
        asked = replace(one, language=other, **changed)
        assert contamination(model, replace(whole, questions=(asked,)), []).leaked == {"other"}


@pytest.mark.parametrize("place", ["beside", "given", "from here"])
def test_a_corpus_is_found_by_its_fingerprint(corpus, tmp_path, monkeypatch, place):
    if place == "beside":  # the recipe's path leads up from recipes/train, the checkpoint lies in runs
        model, places = corpus.parent / "runs/x/final", []
        told = provenance(corpus, "../../learnt")
    elif place == "given":
        model, places = tmp_path / "model", [corpus.parent]
        told = provenance(corpus, "/elsewhere/learnt")
    else:
        monkeypatch.chdir(corpus.parent)
        model, places = tmp_path / "model", []
        told = provenance(corpus, "../learnt")
    assert contamination(model_of(model, told), read_corpus(corpus), places).status == "clean"


def test_what_is_not_known_is_unknown(corpus, tmp_path):
    benchmark = read_corpus(corpus)
    assert contamination(None, benchmark, []).why == "nothing says what a model behind a server was trained on"
    (tmp_path / "bare").mkdir()
    assert "names no training corpora" in contamination(tmp_path / "bare", benchmark, []).why
    told = provenance(corpus, str(corpus))
    told["stages"][0]["corpora"].append({"name": "gone", "fingerprint": "f" * 64})
    seen = contamination(model_of(tmp_path / "model", told), benchmark, [])
    assert (seen.status, seen.leaked) == ("unknown", frozenset())
    assert seen.why == "training corpus `gone` (ffffffffffff) is not here; give its folder by --corpora"


def test_what_a_checkpoint_goes_on_from_counts_too(corpus, tmp_path):
    first = model_of(tmp_path / "first", provenance(corpus, str(corpus)))
    told = {"stages": [], "recipe": {"stages": []}, "origin": {"init": str(first)}}
    learnt = tuple(questions_of(Corpus(corpus), split="train"))[:1]
    benchmark = replace(read_corpus(corpus), questions=learnt)
    assert contamination(model_of(tmp_path / "second", told), benchmark, []).status == "leaked"
    both = provenance(corpus, str(corpus), init=str(first))
    seen = contamination(model_of(tmp_path / "third", both), benchmark, [])
    assert seen.why == f"held against training corpora: {Corpus(corpus).manifest['name']}"  # that is, once


def test_a_provenance_that_cannot_be_read_is_one_line(corpus, tmp_path):
    model = model_of(tmp_path / "model", {"stages": "none"})
    with pytest.raises(UserError, match=r"provenance\.json: cannot be read"):
        contamination(model, read_corpus(corpus), [])
