"""Attention within segments against transformers' own attention under a block-diagonal mask."""

import pytest
import torch
from transformers import LlamaConfig, LlamaModel, MistralConfig, MistralModel

from gmai_vl.model.segments import NAME

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SEGMENTS = [3, 1, 7, 2]


def row():
    places = torch.cat([torch.arange(length) for length in SEGMENTS])[None]
    return {"input_ids": torch.arange(sum(SEGMENTS))[None], "position_ids": places}


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_equals_a_block_diagonal_mask(kind):
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**SIZES)).to(kind)
    blocks = torch.block_diag(*(torch.ones(length, length).tril() for length in SEGMENTS)).bool()[None, None]
    masked = model(**row(), attention_mask=blocks, use_cache=False).last_hidden_state
    model.set_attn_implementation(NAME)
    within = model(**row(), segments=SEGMENTS, use_cache=False).last_hidden_state
    torch.testing.assert_close(within, masked, atol=1e-6 if kind == torch.float32 else 1e-12, rtol=0)


def test_without_segments_it_is_the_attention_of_transformers():
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**SIZES))
    padded = {"input_ids": row()["input_ids"], "attention_mask": torch.tensor([[0] * 4 + [1] * 9])}
    before = model(**padded).last_hidden_state
    model.set_attn_implementation(NAME)
    assert torch.equal(model(**padded).last_hidden_state, before)


@pytest.mark.parametrize("settings", [{"sliding_window": 4}, {"sliding_window": None, "attention_dropout": 0.5}])
def test_a_model_whose_attention_is_another_is_refused(settings):
    model = MistralModel(MistralConfig(**SIZES, **settings)).train()
    model.set_attn_implementation(NAME)
    with pytest.raises(ValueError, match="sliding window"):
        model(**row(), segments=SEGMENTS, use_cache=False)
