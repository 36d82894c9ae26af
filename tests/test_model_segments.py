"""Attention within segments against transformers' own attention under a block-diagonal mask."""

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    Gemma2Config,
    GptOssConfig,
    LlamaConfig,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    MistralModel,
)

from gmai_vl.foundation import UserError
from gmai_vl.model.segments import NAME, _attention, attend_within_segments

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


@pytest.mark.parametrize("window", [1, 4, 6, 100])
def test_a_sliding_window_is_that_of_transformers(window):
    torch.manual_seed(0)
    model = MistralModel(MistralConfig(**SIZES, sliding_window=window)).double()
    expected = model(input_ids=row()["input_ids"], use_cache=False).last_hidden_state
    model.set_attn_implementation(NAME)
    within = model(input_ids=row()["input_ids"], segments=[sum(SEGMENTS)], use_cache=False).last_hidden_state
    torch.testing.assert_close(within, expected, atol=1e-12, rtol=0)
    whole = LlamaModel(LlamaConfig(**SIZES)).double()
    whole.load_state_dict(model.state_dict())
    assert torch.allclose(whole(row()["input_ids"]).last_hidden_state, expected, atol=1e-9) == (window == 100)


def test_weights_are_dropped_in_training_alone():
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**SIZES, attention_dropout=0.5))
    model.set_attn_implementation(NAME)
    modes = [False, False, True, True]
    runs = [model.train(mode)(**row(), segments=SEGMENTS, use_cache=False).last_hidden_state for mode in modes]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[2], runs[3])
    # A token that stands alone in its segment has one weight: dropped, or doubled as the other half is.
    values = torch.randn(1, 2, 1, 8)
    drawn = [
        _attention(model, values, values, values, None, scaling=1, dropout=0.5, segments=[1])[0] for _ in range(60)
    ]
    kept = [torch.allclose(out.transpose(1, 2)[:, 0], 2 * values[:, 0]) for out in drawn]
    assert 10 < sum(kept) < 50
    assert all(one or not out[:, :, 0].any() for one, out in zip(kept, drawn, strict=True))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (Gemma2Config(**SIZES, head_dim=8), "`gemma2`: caps its attention scores"),
        (GptOssConfig(**SIZES, head_dim=8, num_local_experts=2), "`gpt_oss`: has sinks in its attention"),
    ],
)
def test_an_attention_with_more_to_it_is_refused(text, why):
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text))
    with pytest.raises(UserError, match=why):
        attend_within_segments(model)
