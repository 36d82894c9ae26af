"""Conversations that show several images: stored, packed and learned from with each image in its own place."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from one_stage import one_stage
from test_corpus_texts import write_sources

from gmai_vl.corpus import Corpus, build
from gmai_vl.foundation import UserError
from gmai_vl.model import IGNORED, ModelSettings, Vlm, build_model, collate, encode, loss_sum, prepare_image
from gmai_vl.model.images import image_token_count
from gmai_vl.training.feed import image_loader, micro_batches
from gmai_vl.training.fit import fitted
from gmai_vl.training.mixture import training_mixture
from gmai_vl.training.packing import PackLimits
from gmai_vl.training.recipe import Stage
from gmai_vl.training.tokens import open_tokens

STAGE = Stage.model_validate(
    {
        "name": "images",
        "train": ["vision", "projector", "language"],
        "learning_rate": 1e-3,
        "global_batch": 64,
        "max_steps": 1,
        "mixture": [{"corpus": "images"}],
    }
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Texts alone, questions about one image and about two, which are named in the other order than they are shown."""
    folder = tmp_path_factory.mktemp("images")
    everything = {"train": 1.0, "val": 0.0, "test": 0.0}
    path = build(write_sources(folder, split=everything), folder / "out").corpus
    for file in sorted((path / "samples").glob("*.parquet")):
        table = pq.read_table(file)
        rows = table.to_pylist()
        shown = [row for row in rows if row["images"]]
        for row in shown[::2]:
            _show_another(row, next(other for other in shown if other["images"] != row["images"])["images"][0])
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    return Corpus(path)


def _show_another(row: dict[str, Any], image: str) -> None:
    """Let the second turn of a conversation come after a second question, about `image`."""
    question, answer = row["messages"]
    row["images"] = [image, *row["images"]]
    first = [part | {"image": 1} if part["type"] == "image" else part for part in question["content"]]
    second = [part | {"image": 0} if part["type"] == "image" else part for part in question["content"]]
    row["messages"] = [question | {"content": first}, answer, question | {"content": second}, answer]


def seeing_model() -> Vlm:
    """Return a model to which pictures of noise differ; with weights of the usual size they hardly do."""
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    torch.manual_seed(0)
    for weight in vlm.model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return vlm


@pytest.fixture(scope="module")
def vlm() -> Vlm:
    return seeing_model()


def limits_of(length: int, most_images: int, too_long: str, packing: str = "bfd") -> PackLimits:
    return PackLimits(packing=packing, length=length, most_images=most_images, too_long=too_long)  # type: ignore[arg-type]


def by_hand(vlm: Vlm, corpus: Corpus, *, swapped: bool = False) -> float:
    """Return the mean loss over all supervised tokens, one conversation at a time from the corpus itself."""
    total, supervised = 0.0, 0
    for sample in corpus.samples(split="train"):
        encoded = encode(vlm.processor, sample.turns)
        shown = encoded.images[::-1] if swapped else encoded.images
        images = [prepare_image(vlm.processor, corpus.image(sample.images[index])) for index in shown]
        with torch.no_grad():
            loss, count = loss_sum(vlm.model, collate(vlm.processor, [encoded], images))
        total, supervised = total + float(loss), supervised + count
    return total / supervised


@pytest.mark.parametrize("packing", ["none", "bfd", "next-fit"])
def test_every_image_is_seen_where_it_is_shown(
    vlm: Vlm, corpus: Corpus, packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))
    mixture = training_mixture(STAGE, {"images": open_tokens(corpus, vlm.processor)}, seed=0)
    assert set(mixture.numbers("images").tolist()) == {0, 1, 2}
    limits = None if packing == "none" else limits_of(700, 4, "quarantine", packing)
    expected = by_hand(vlm, corpus)
    assert by_hand(vlm, corpus, swapped=True) != pytest.approx(expected, rel=1e-4)
    one_stage(seeing_model(), STAGE, mixture, tmp_path / "out", limits=limits)
    rows = map(json.loads, (tmp_path / "out" / "log.jsonl").read_text().splitlines())
    step = next(row for row in rows if row["event"] == "step")
    assert step["loss"] == pytest.approx(expected, rel=1e-5)


def test_too_many_images_go_into_no_pack_and_a_cut_keeps_them_whole(
    vlm: Vlm, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path))
    mixture = training_mixture(STAGE, {"images": open_tokens(corpus, vlm.processor)}, seed=0)
    twice = mixture[mixture.numbers("images") == 2]
    assert len(twice)

    one_image = fitted(vlm.processor, mixture, limits_of(700, 1, "cut"), "images")
    assert one_image.left_out.ids(range(len(one_image.left_out))) == twice.ids(range(len(twice)))

    tokens_of_image = image_token_count(vlm.processor)
    seen = set()
    for length in range(int(twice.numbers("tokens").max()) - 1, 40, -5):
        cut = fitted(vlm.processor, twice, limits_of(length, 4, "cut"), "images")
        order = [((index,), False) for index in range(len(cut.mixture))]
        for index, batch in enumerate(micro_batches(vlm.processor, image_loader(vlm.processor), cut, order)):
            assert batch.pixel_values is not None
            shown, tokens = len(batch.pixel_values), int((batch.input_ids == vlm.processor.image_token_id).sum())
            assert tokens == shown * tokens_of_image
            assert batch.lengths == (cut.sizes.tokens_N[index],)
            assert batch.lengths[0] <= length
            assert batch.labels[-1] != IGNORED
            seen.add(shown)
    assert seen == {1, 2}  # where the second answer does not begin in time, its image goes with it


def test_a_missing_second_image_is_told_before_training(
    vlm: Vlm, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "corpus"
    shutil.copytree(corpus.path, copy)
    sample = next(sample for sample in Corpus(copy).samples(split="train") if len(sample.images) == 2)
    (copy / "images" / sample.images[1][:2] / f"{sample.images[1]}.png").unlink()
    with pytest.raises(UserError, match=rf"image {sample.images[1]} of sample .* is missing"):
        open_tokens(Corpus(copy), vlm.processor)
