"""Conversations in one row against each of them alone, for the shapes of the language models that are in use."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from gmai_vl.model import IGNORED, collate, encode, loss_sum, prepare_image
from gmai_vl.model.attention import Segments
from gmai_vl.model.build import _assemble
from gmai_vl.model.chatml import prepare_tokenizer
from gmai_vl.model.segments import _unread_mask
from gmai_vl.model.tiny import tiny_language, tiny_tower
from gmai_vl.records import ImageRef, Turn

SIZES = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,  # at the usual 0.02 three layers add next to nothing to the embeddings
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
SLIDING, FULL = "sliding_attention", "full_attention"
SHAPES = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "gemma": GemmaConfig(**SIZES, head_dim=16),
    "gemma3": Gemma3TextConfig(
        **SIZES, head_dim=16, query_pre_attn_scalar=50, sliding_window=12, layer_types=[SLIDING, FULL, SLIDING]
    ),
}
ROUNDS = [
    ("what is it?", "a cell", True),
    ("and", "肝", False),
    ("where is the lesion?", "left", True),
    ("a", "b", True),
]


@pytest.fixture(params=SHAPES)
def vlm(request):
    torch.manual_seed(0)
    config = SHAPES[request.param]
    config._attn_implementation = "sdpa"
    language = AutoModelForCausalLM.from_config(config)
    for name, weight in language.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.2)  # they begin at zero, where a lost one would not be missed
    _, tokenizer = tiny_language()
    prepare_tokenizer(tokenizer)
    return _assemble(tiny_tower("clip", None), language, tokenizer)


def batch_of(vlm, rounds):
    encoded, images = [], []
    for asked, answered, shows in rounds:
        turns = [Turn("user", (ImageRef(0), asked) if shows else (asked,)), Turn("assistant", (answered,))]
        encoded.append(encode(vlm.processor, turns))
        if shows:
            pixels = np.random.default_rng(len(asked)).integers(0, 256, (40, 60, 3), dtype=np.uint8)
            images.append(prepare_image(vlm.processor, pixels))
    return collate(vlm.processor, encoded, images)


def in_a_row(vlm, batch):
    """Logits [K, V] at the supervised tokens, and the loss."""
    made = []
    hook = vlm.model.lm_head.register_forward_hook(lambda head, inputs, output: made.append(output))
    loss, count = loss_sum(vlm.model, batch)
    hook.remove()
    assert len(made[0]) == count
    return made[0], loss


def alone(vlm, round):
    """The same of one conversation, with the attention and the loss of transformers."""
    batch = batch_of(vlm, [round])
    logits = vlm.model(input_ids=batch.input_ids[None], pixel_values=batch.pixel_values).logits[0, :-1]
    supervised = batch.labels[1:] != IGNORED
    loss = F.cross_entropy(logits[supervised], batch.labels[1:][supervised], reduction="sum")
    return logits[supervised], loss


def gradients(vlm, loss):
    vlm.model.zero_grad()
    loss.backward()
    # What a key's bias adds to the scores of a query is the same for all of them, without rotary places as in the
    # vision tower: its gradient is rounding and nothing else.
    return {
        name: weight.grad.clone()
        for name, weight in vlm.model.named_parameters()
        if weight.grad is not None and not ("vision_tower" in name and name.endswith("k_proj.bias"))
    }


def error(ours, expected):
    return ((ours - expected).abs().max() / expected.abs().max()).item()


def test_a_row_is_its_conversations_alone(vlm):
    logits, loss = in_a_row(vlm, batch_of(vlm, ROUNDS))
    expected, losses = zip(*(alone(vlm, round) for round in ROUNDS), strict=True)
    assert error(logits, torch.cat(expected)) < 1e-5
    ours, theirs = gradients(vlm, loss), gradients(vlm, sum(losses))
    assert ours.keys() == theirs.keys()
    assert {name.split(".")[1] for name in ours} >= {"vision_tower", "multi_modal_projector", "language_model"}
    errors = {name: error(ours[name], theirs[name]) for name in ours}
    assert max(errors.values()) < 1e-5, max(errors, key=errors.get)


@pytest.mark.parametrize("places_restart", [True, False])
def test_without_isolation_it_would_not_be(vlm, places_restart):
    batch = batch_of(vlm, ROUNDS)
    tokens = sum(batch.lengths)
    places = Segments(batch.lengths, torch.device("cpu")).places() if places_restart else torch.arange(tokens)
    mixed = vlm.model(
        input_ids=batch.input_ids[None],
        pixel_values=batch.pixel_values,
        position_ids=places[None],
        attention_mask=_unread_mask(batch.input_ids),
        segments=Segments([tokens], torch.device("cpu")),
    ).logits[0]
    first = batch.lengths[0]
    supervised = batch.labels.roll(-1)[:first] != IGNORED
    expected, _ = alone(vlm, ROUNDS[0])
    assert error(mixed[:first][supervised], expected) < 1e-5  # nothing comes before it
    last = batch.lengths[-1]
    supervised = batch.labels[-last + 1 :] != IGNORED
    expected, _ = alone(vlm, ROUNDS[-1])
    assert error(mixed[-last:-1][supervised], expected) > 1e-2


@pytest.mark.parametrize("changed", [0, 3])
def test_what_one_conversation_says_reaches_no_other_by_a_bit(vlm, changed):
    batch = batch_of(vlm, ROUNDS)
    starts = np.cumsum([0, *batch.lengths])
    ids = batch.input_ids.clone()
    own = slice(starts[changed], starts[changed + 1])
    is_text = ids[own] != vlm.processor.image_token_id
    ids[own][is_text] = (ids[own][is_text] + 1) % 256
    before, _ = in_a_row(vlm, batch)
    after, _ = in_a_row(vlm, replace(batch, input_ids=ids))
    owner = torch.cat([torch.full((len(labels),), n) for n, labels in enumerate(batch.labels.split(batch.lengths))])
    owner = owner[(batch.labels != IGNORED)]
    assert torch.equal(before[owner != changed], after[owner != changed])
    assert not torch.equal(before[owner == changed], after[owner == changed])
