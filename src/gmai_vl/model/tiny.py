"""A model of a few thousand weights, made without any download: for tests of everything but understanding."""

from typing import Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from gmai_vl.model.efficientnet import EfficientNetLiteConfig


def tiny_tower(kind: Literal["efficientnet", "clip"], image_size: int | None) -> PreTrainedModel:
    """Return a random vision tower: EfficientNet-Lite, 64 pixels and 4 tokens, or CLIP, 32 pixels and 16 tokens."""
    if kind == "efficientnet":
        return AutoModel.from_config(
            EfficientNetLiteConfig(
                image_size=image_size or 64,
                stem_width=8,
                widths=(8, 16, 16, 24),
                repeats=(1, 2, 1, 1),
                kernels=(3, 3, 5, 3),
                strides=(2, 2, 2, 2),
                expansions=(1, 2, 2, 2),
                hidden_size=32,
            )
        )
    return AutoModel.from_config(
        CLIPVisionConfig(
            image_size=image_size or 32,
            patch_size=8,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
        )
    )


def tiny_language() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Return a random two-layer Llama and a tokenizer with one token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only, model_max_length=2048)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config), tokenizer
