"""The token store holds what `encode` makes of every sample, is made anew for whatever changes, and starts anywhere."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_corpus_texts import write_sources

from gmai_vl.corpus import Corpus, build
from gmai_vl.foundation import UserError, cache_home
from gmai_vl.model import ModelSettings, build_model, encode
from gmai_vl.training import tokens
from gmai_vl.training.tokens import TokenStore, open_tokens


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Texts alone and pictures, in several files."""
    folder = tmp_path_factory.mktemp("tokens")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmai_vl.corpus.merge.ROWS_PER_FILE", 8)
        patch.setattr("gmai_vl.corpus.merge._ROWS_PER_GROUP", 3)
        return Corpus(build(write_sources(folder), folder / "out").corpus)


@pytest.fixture(scope="module")
def processor():  # type: ignore[no-untyped-def]
    return build_model(ModelSettings(preset="tiny"), seed=0).processor


def stores() -> list[Path]:
    return sorted((cache_home() / "tokens").iterdir())


def ids(store: TokenStore) -> list[str]:
    return store.table["id"].to_pylist()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_reads_back_what_encode_makes_of_each_sample(  # type: ignore[no-untyped-def]
    corpus: Corpus, processor, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path))
    monkeypatch.setattr(tokens, "ROWS_AT_A_TIME", 3)  # several batches in a file
    store = open_tokens(corpus, processor, workers=workers)
    samples = [sample for sample in corpus.samples() if sample.split != "test"]
    assert ids(store) == [sample.id for sample in samples]
    assert len(list(stores()[0].glob("*.arrow"))) > 1
    assert {len(sample.images) for sample in samples} >= {0, 1}
    rows = list(range(len(samples)))
    random.Random(0).shuffle(rows)
    for row in rows:
        sample, stored = samples[row], store.read(row)
        whole = encode(processor, sample.turns)
        assert (stored.encoded.input_ids, stored.encoded.labels) == (whole.input_ids, whole.labels)
        assert stored.images == tuple(sample.images[index] for index in whole.images)
        assert stored.encoded.images == tuple(range(len(whole.images)))
        assert store.numbers("tokens")[row] == len(whole.input_ids)
        assert store.numbers("supervised")[row] == sum(label >= 0 for label in whole.labels)
        assert store.numbers("images")[row] == len(whole.images)
        assert store.table["form"][row].as_py() == sample.provenance.facts.get("form")


def test_a_store_is_used_again_and_only_for_what_it_was_made_from(  # type: ignore[no-untyped-def]
    corpus: Corpus, processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path))
    open_tokens(corpus, processor)
    (first,) = stores()
    made = (first / "store.json").stat().st_mtime_ns
    open_tokens(corpus, processor)
    assert [(first / "store.json").stat().st_mtime_ns] == [made] * len(stores())

    other_image = build_model(ModelSettings(preset="tiny", image_size=128), seed=0).processor
    other_words = build_model(ModelSettings(preset="tiny"), seed=0).processor
    other_words.tokenizer.add_tokens(["lung"])
    other_template = build_model(ModelSettings(preset="tiny"), seed=0).processor
    other_template.chat_template += "{# another #}"
    for number, other in enumerate((other_image, other_words, other_template), 2):
        store = open_tokens(corpus, other)
        assert len(stores()) == number
        row = next(row for row in range(len(store)) if store.numbers("images")[row])
        assert store.read(row).encoded.input_ids == encode(other, corpus.sample(ids(store)[row]).turns).input_ids
    other_data = Corpus(corpus.path)
    other_data.manifest["fingerprint"] = "0" * 64
    open_tokens(other_data, processor)
    assert len(stores()) == 5


@pytest.mark.parametrize("damage", ["cut", "removed", "no record"])
def test_a_damaged_store_is_made_anew(  # type: ignore[no-untyped-def]
    corpus: Corpus, processor, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path))
    before = [open_tokens(corpus, processor).read(row).encoded for row in range(5)]
    (folder,) = stores()
    part = folder / "00001.arrow"
    if damage == "cut":
        part.write_bytes(part.read_bytes()[:-10])
    elif damage == "removed":
        part.unlink()
    else:
        (folder / "store.json").write_text("[]")
    assert [open_tokens(corpus, processor).read(row).encoded for row in range(5)] == before
    assert len(json.loads((folder / "store.json").read_text())["parts"]) == len(list(folder.glob("*.arrow")))


def test_a_missing_image_is_told_before_training(  # type: ignore[no-untyped-def]
    processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))
    corpus = Corpus(build(write_sources(tmp_path), tmp_path / "out").corpus)
    sample = next(sample for sample in corpus.samples(split="train") if sample.images)
    name = sample.images[0]
    (corpus.path / "images" / name[:2] / f"{name}.png").unlink()
    with pytest.raises(UserError, match=rf"image {name} of sample .* is missing; run `gmai data verify"):
        open_tokens(corpus, processor)
    assert not any((cache_home() / "tokens").iterdir())


WORDS = st.lists(st.sampled_from(["lung", "a", "X-ray,", "12.5", "no"]), max_size=8)


@given(WORDS, st.text("肺左结节", max_size=6))
def test_words_are_counted_between_blanks_and_chinese_by_characters(words: list[str], chinese: str) -> None:
    assert len(tokens._WORD.findall(" ".join(words) + " " + chinese)) == len(words) + len(chinese)
    assert len(tokens._WORD.findall(chinese.join([*words, ""]))) == len(words) * (1 + len(chinese)) or not chinese
