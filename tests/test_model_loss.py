"""The loss on labelled positions is the stock loss over all of them."""

import numpy as np
import pytest
import torch

from gmai_vl.model import ModelSettings, build_model, collate, encode, loss_sum, prepare_image, set_trainable
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
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        labels=batch.labels,
        pixel_values=batch.pixel_values,
    ).loss
    stock.backward()
    torch.testing.assert_close(total / count, stock)
    theirs = {name: weight.grad for name, weight in vlm.model.named_parameters() if weight.grad is not None}
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert any(name.startswith("model.vision_tower") and grad.abs().max() > 0 for name, grad in ours.items())


def test_padding_changes_nothing():
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
