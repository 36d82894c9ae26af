"""The loss on labelled positions is the stock loss over all of them; the loss of words is what its formula says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gmai_vl.model import (
    IGNORED,
    Encoded,
    ModelSettings,
    answers,
    build_model,
    collate,
    encode,
    encode_prompt,
    loss_sum,
    prepare_image,
    set_trainable,
    words_loss_sum,
)
from gmai_vl.records import ImageRef, Turn


def batch_of(vlm, texts, answer_only=True):
    random = np.random.default_rng(0)
    encoded, images = [], []
    for asked, answered, shows in texts:
        content = (ImageRef(0), asked) if shows else (asked,)
        turns = [Turn("user", content), Turn("assistant", (answered,))]
        encoded.append(encode(vlm.processor, turns, answer_only=answer_only))
        if shows:
            images.append(prepare_image(vlm.processor, random.integers(0, 256, (40, 60, 3), dtype=np.uint8)))
    return collate(vlm.processor, encoded, images)


MIXED = [("what is it?", "a cell", True), ("and", "肝", False), ("where is the lesion?", "left", True)]


def stock_loss(vlm, batch):
    """The mean loss of transformers over the conversations as padded rows."""

    def padded(row, filler):
        return torch.nn.utils.rnn.pad_sequence(row.split(batch.lengths), batch_first=True, padding_value=filler)

    return vlm.model(
        input_ids=padded(batch.input_ids, 0),
        attention_mask=padded(torch.ones_like(batch.input_ids), 0),
        labels=padded(batch.labels, IGNORED),
        pixel_values=batch.pixel_values,
    ).loss


@pytest.mark.parametrize("preset", ["tiny", "tiny-clip"])
def test_equals_the_stock_loss_and_its_gradients(preset):
    vlm = build_model(ModelSettings(preset=preset), seed=0)
    batch = batch_of(vlm, MIXED)
    total, count = loss_sum(vlm.model, batch)
    assert count == len(b"a cell") + len("肝".encode()) + len(b"left") + 3
    (total / count).backward()
    ours = {name: weight.grad.clone() for name, weight in vlm.model.named_parameters() if weight.grad is not None}
    vlm.model.zero_grad()
    stock = stock_loss(vlm, batch)
    stock.backward()
    torch.testing.assert_close(total / count, stock)
    theirs = {name: weight.grad for name, weight in vlm.model.named_parameters() if weight.grad is not None}
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert any(name.startswith("model.vision_tower") and grad.abs().max() > 0 for name, grad in ours.items())


def test_what_a_conversation_begins_with_is_not_to_be_told_from_the_one_before():
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    batch = batch_of(vlm, MIXED, answer_only=False)
    total, count = loss_sum(vlm.model, batch)
    assert count == (batch.labels != IGNORED).sum() - 3
    torch.testing.assert_close(total / count, stock_loss(vlm, batch))


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


class Wrapped(torch.nn.Module):
    """A head as adapters leave it: another one's output and something small beside."""

    def __init__(self, head):
        super().__init__()
        self.head, self.beside = head, torch.nn.Linear(head.in_features, head.out_features)

    def forward(self, hidden):
        return self.head(hidden) + self.beside(hidden)


HEADS = {
    "plain": lambda bare: bare,
    "with a bias": lambda bare: torch.nn.Linear(bare.in_features, bare.out_features),
    "wrapped": Wrapped,
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("tokens_at_once", [1, 2, 5, 14])
def test_logits_in_pieces_give_the_loss_and_the_gradients_of_all_at_once(monkeypatch, tokens_at_once, head):
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    vlm.model.lm_head = HEADS[head](vlm.model.lm_head)
    vlm.model.double()
    batch = batch_of(vlm, MIXED)
    batch = replace(batch, pixel_values=batch.pixel_values.double())
    rows = []
    vlm.model.lm_head.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))

    def run():
        vlm.model.zero_grad()
        rows.clear()
        total, _ = loss_sum(vlm.model, batch)
        total.backward()
        return total.detach(), {name: w.grad.clone() for name, w in vlm.model.named_parameters() if w.grad is not None}

    expected = run()
    assert rows == [16]
    monkeypatch.setattr(
        "gmai_vl.model.loss.LOGITS_AT_ONCE", tokens_at_once * vlm.model.config.text_config.vocab_size + 1
    )
    in_pieces = run()
    assert max(rows) <= tokens_at_once
    assert sum(rows) == 2 * 16 - rows[0]  # all twice, but the last piece once
    torch.testing.assert_close(in_pieces, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(answers(vlm.model, batch)[0].sum(), expected[0], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("tokens_at_once", [1, 4, 1000])
def test_an_answer_is_right_where_greedy_decoding_gives_it(monkeypatch, tokens_at_once):
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    monkeypatch.setattr("gmai_vl.model.loss.LOGITS_AT_ONCE", tokens_at_once * vlm.model.config.text_config.vocab_size)
    encoded = []
    for asked, wrong in [("a", None), ("where?", 0), ("what?", 4), ("and", 2), ("b", None)]:
        prompt = encode_prompt(vlm.processor, [Turn("user", (asked,))]).input_ids
        said = vlm.model.generate(torch.tensor([prompt]), max_new_tokens=5, eos_token_id=None)[
            0, len(prompt) :
        ].tolist()
        if wrong is not None:
            said[wrong] = (said[wrong] + 1) % 256
        encoded.append(Encoded(prompt + said, [IGNORED] * len(prompt) + said))
    batch = collate(vlm.processor, encoded, [])
    loss, right = answers(vlm.model, batch)
    assert right.tolist() == [True, False, False, False, True]
    alone = [loss_sum(vlm.model, collate(vlm.processor, [one], []))[0].detach() for one in encoded]
    torch.testing.assert_close(loss, torch.stack(alone))
    assert not loss.requires_grad


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
