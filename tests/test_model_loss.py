"""The loss on labelled positions is the stock loss over all of them; the loss of words is what its formula says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gmai_vl.model import (
    IGNORED,
    ModelSettings,
    build_model,
    collate,
    encode,
    loss_sum,
    prepare_image,
    set_trainable,
    words_loss_sum,
)
from gmai_vl.records import ImageRef, Turn


def batch_of(vlm, texts):
    random = np.random.default_rng(0)
    encoded, images = [], []
    for asked, answered, shows in texts:
        content = (ImageRef(0), asked) if shows else (asked,)
        encoded.append(encode(vlm.processor, [Turn("user", content), Turn("assistant", (answered,))]))
        if shows:
            images.append(prepare_image(vlm.processor, random.integers(0, 256, (40, 60, 3), dtype=np.uint8)))
    return collate(vlm.processor, encoded, images)


MIXED = [("what is it?", "a cell", True), ("and", "肝", False), ("where is the lesion?", "left", True)]


def padded(row, lengths, filler):
    return torch.nn.utils.rnn.pad_sequence(row.split(lengths), batch_first=True, padding_value=filler)


@pytest.mark.parametrize("preset", ["tiny", "tiny-clip"])
def test_equals_the_stock_loss_and_its_gradients(preset):
    vlm = build_model(ModelSettings(preset=preset), seed=0)
    batch = batch_of(vlm, MIXED)
    total, count = loss_sum(vlm.model, batch)
    assert count == len(b"a cell") + len("肝".encode()) + len(b"left") + 3
    (total / count).backward()
    ours = {name: weight.grad.clone() for name, weight in vlm.model.named_parameters() if weight.grad is not None}
    vlm.model.zero_grad()
    stock = vlm.model(
        input_ids=padded(batch.input_ids, batch.lengths, 0),
        attention_mask=padded(torch.ones_like(batch.input_ids), batch.lengths, 0),
        labels=padded(batch.labels, batch.lengths, IGNORED),
        pixel_values=batch.pixel_values,
    ).loss
    stock.backward()
    torch.testing.assert_close(total / count, stock)
    theirs = {name: weight.grad for name, weight in vlm.model.named_parameters() if weight.grad is not None}
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert any(name.startswith("model.vision_tower") and grad.abs().max() > 0 for name, grad in ours.items())


def test_no_conversation_of_a_batch_feels_another():
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    texts = [("a", "bb", False), ("a longer question", "c", False), ("and", "d", False)]
    batch = batch_of(vlm, texts)
    embedded = []
    vlm.model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: embedded.append(output.requires_grad_().clone()) or embedded[-1]
    )
    first, middle, _ = batch.lengths
    only_middle = replace(batch, labels=batch.labels.clone())
    only_middle.labels[:first] = only_middle.labels[first + middle :] = IGNORED
    total, _ = loss_sum(vlm.model, only_middle)
    (gradient,) = torch.autograd.grad(total, embedded)
    felt = gradient[0].abs().sum(dim=-1) > 0
    assert felt[first : first + middle].any()
    assert not felt[:first].any()
    assert not felt[first + middle :].any()


def test_the_loss_of_a_batch_is_that_of_its_conversations():
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    texts = [("a", "b", False), ("a longer question", "c", False)]
    together, _ = loss_sum(vlm.model, batch_of(vlm, texts))
    apart = sum(loss_sum(vlm.model, batch_of(vlm, [text]))[0] for text in texts)
    torch.testing.assert_close(together, apart)


def test_a_frozen_part_gets_no_gradient():
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    set_trainable(vlm.model, ["projector"])
    loss_sum(vlm.model, batch_of(vlm, MIXED))[0].backward()
    learned = {name for name, weight in vlm.model.named_parameters() if weight.grad is not None}
    assert learned == {name for name, _ in vlm.model.named_parameters() if "multi_modal_projector" in name}


CAPTIONS = [("describe", "a cell", True), ("describe", "a liver", True)]


def test_the_loss_of_words_equals_a_hand_computation():
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    batch = batch_of(vlm, CAPTIONS)
    words = sorted(vlm.processor.tokenizer("cv", add_special_tokens=False).input_ids)
    loss, count = words_loss_sum(vlm.model, batch, torch.tensor(words))
    assert count == len(b"a cell") + len(b"a liver") + 2

    table = vlm.model.get_input_embeddings().weight.detach().double().numpy()
    images = vlm.model.get_image_features(pixel_values=batch.pixel_values).pooler_output
    expected = 0.0
    for image, labels in zip(images, batch.labels.split(batch.lengths), strict=True):
        for word in words:
            likeness = 4.0 * image.detach().double().numpy() @ (table[word] - table.mean(axis=0))
            chance = 1 / (1 + np.exp(4.0) / np.exp(likeness).mean())
            expected -= np.log(chance if word in labels.tolist() else 1 - chance)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_words_reaches_vision_and_projector_only():
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    words_loss_sum(vlm.model, batch_of(vlm, CAPTIONS), torch.arange(99, 119))[0].backward()
    learned = {name for name, weight in vlm.model.named_parameters() if weight.grad is not None}
    assert {name.split(".")[1] for name in learned} == {"vision_tower", "multi_modal_projector"}


def test_the_loss_of_words_needs_one_image_for_each_conversation():
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    with pytest.raises(ValueError, match="2 images for 3 conversations"):
        words_loss_sum(vlm.model, batch_of(vlm, MIXED), torch.tensor([1]))
