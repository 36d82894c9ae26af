"""Attention within segments against transformers' own attention under a block-diagonal mask, and what is refused."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    DogeConfig,
    FalconH1Config,
    Gemma2Config,
    GptOssConfig,
    Lfm2Config,
    LlamaConfig,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MiniMaxConfig,
    MistralConfig,
    MistralModel,
    Qwen3NextConfig,
)

from gmai_vl.foundation import UserError
from gmai_vl.model import Batch, loss_sum
from gmai_vl.model.attention import Segments
from gmai_vl.model.segments import NAME, _unread_mask, attend_within_segments

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LENGTHS = [3, 1, 7, 2]
IDS = torch.arange(sum(LENGTHS))
PLACES = torch.cat([torch.arange(length) for length in LENGTHS])


def within(model, lengths, places):
    """What `model`, with our attention, makes of IDS."""
    model.set_attn_implementation(NAME)
    segments = Segments(lengths, IDS.device)
    return model(
        input_ids=IDS[None],
        position_ids=places[None],
        attention_mask=_unread_mask(IDS),
        use_cache=False,
        segments=segments,
    ).last_hidden_state


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_equals_a_block_diagonal_mask(kind):
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**SIZES)).to(kind)
    blocks = torch.block_diag(*(torch.ones(length, length).tril() for length in LENGTHS)).bool()[None, None]
    masked = model(IDS[None], blocks, PLACES[None], use_cache=False).last_hidden_state
    tolerance = 1e-6 if kind == torch.float32 else 1e-12
    torch.testing.assert_close(within(model, LENGTHS, PLACES), masked, atol=tolerance, rtol=0)


def test_without_segments_it_is_the_attention_of_transformers():
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**SIZES))
    inputs = [
        {"input_ids": IDS[None], "attention_mask": torch.tensor([[0] * 4 + [1] * 9])},
        {"input_ids": IDS[None], "position_ids": PLACES[None], "use_cache": False},
    ]
    before = [model(**each).last_hidden_state for each in inputs]
    model.set_attn_implementation(NAME)
    for each, expected in zip(inputs, before, strict=True):
        assert torch.equal(model(**each).last_hidden_state, expected)


@pytest.mark.parametrize("window", [1, 4, 6, 100])
def test_a_sliding_window_is_that_of_transformers(window):
    torch.manual_seed(0)
    model = MistralModel(MistralConfig(**SIZES, sliding_window=window)).double()
    places = torch.arange(len(IDS))
    expected = model(IDS[None], use_cache=False).last_hidden_state
    torch.testing.assert_close(within(model, [len(IDS)], places), expected, atol=1e-12, rtol=0)
    whole = LlamaModel(LlamaConfig(**SIZES)).double()
    whole.load_state_dict(model.state_dict())
    assert torch.allclose(whole(IDS[None]).last_hidden_state, expected, atol=1e-9) == (window == 100)


def test_weights_are_dropped_in_training_alone():
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**SIZES, attention_dropout=0.5))
    runs = [within(model.train(mode), LENGTHS, PLACES) for mode in (False, False, True, True)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[2], runs[3])


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the bytes of the largest tensor that is made."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.untyped_storage().nbytes())
        return made


def llava(text):
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = LlavaConfig(vision_config=vision, text_config=text)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    language = AutoModelForCausalLM.from_config(text)
    model.model.language_model, model.lm_head = language.base_model, language.get_output_embeddings()
    return model.eval()


def text_batch(lengths):
    ids = torch.arange(sum(lengths)) % SIZES["vocab_size"]
    return Batch(ids, ids, tuple(lengths), None)


def test_no_mask_of_tokens_by_tokens_is_made():
    model = llava(LlamaConfig(**SIZES))
    attend_within_segments(model)
    batch = text_batch([64] * 32)
    with Largest() as largest:
        loss_sum(model, batch)[0].backward()
    assert largest.size < len(batch.input_ids) ** 2 / 4


HYBRID = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
MAMBA = {"mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_chunk_size": 8}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (Gemma2Config(**SIZES, head_dim=8), "`gemma2`: caps its attention scores"),
        (GptOssConfig(**SIZES, head_dim=8, num_local_experts=2), "`gpt_oss`: has sinks in its attention"),
        # Attention in half of the layers, and in every layer beside a state-space one.
        (Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]), "`lfm2`: hands more from token to token"),
        (Qwen3NextConfig(**SIZES, head_dim=8, num_experts=2, **HYBRID), "`qwen3_next`: hands more from token to token"),
        (FalconH1Config(**SIZES, **MAMBA), "`falcon_h1`: hands more from token to token"),
    ],
)
def test_a_language_model_with_more_to_it_is_refused(text, why):
    with pytest.raises(UserError, match=why):
        attend_within_segments(llava(text))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            MiniMaxConfig(**SIZES, head_dim=8, num_local_experts=2, layer_types=["linear_attention", "full_attention"]),
            "`minimax`: 1 of its 2 layers keep the conversations of a batch apart",
        ),
        (DogeConfig(**SIZES), "`doge`: masks its attention in a way of its own"),
    ],
)
def test_a_language_model_that_would_mix_conversations_is_refused_when_it_is_run(text, why):
    model = llava(text)
    attend_within_segments(model)
    with pytest.raises(UserError, match=why):
        loss_sum(model, text_batch(LENGTHS))
