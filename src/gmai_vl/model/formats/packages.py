"""From the weight file inside a package to a folder that transformers loads: config, safetensors, tokenizer."""

from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast

from gmai_vl.model.efficientnet import EfficientNetLiteConfig, our_weight_names
from gmai_vl.model.formats.llama_rows import halves_apart

GGUF_SPECIAL_TOKEN = 3
"""Value of `tokenizer.ggml.token_type` for a control token (llama.cpp, `llama_token_type`)."""

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def convert_lite0(weights: Path, folder: Path) -> None:
    """Write EfficientNet-Lite0 from the `.pth` of its package; check its sha256 first."""
    theirs = torch.load(weights, map_location="cpu", weights_only=True)
    _save_weights(our_weight_names(theirs), folder)
    EfficientNetLiteConfig(architectures=["EfficientNetLiteModel"], dtype="float32").save_pretrained(folder)


def convert_llama_gguf(weights: Path, folder: Path) -> None:
    """Write a Llama with tied embeddings and a byte-level BPE tokenizer from a GGUF file, weights as bfloat16."""
    reader = GGUFReader(weights)
    config = _llama_config(reader)
    _save_weights(_llama_weights(reader, config), folder)
    config.save_pretrained(folder)
    _tokenizer(reader).save_pretrained(folder)


def _save_weights(weights: dict[str, Tensor], folder: Path) -> None:
    whole = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})


def _llama_config(reader: GGUFReader) -> LlamaConfig:
    def value(key: str) -> int | float:
        return reader.fields[f"llama.{key}"].contents()

    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=value("vocab_size"),
        hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"),
        num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"),
        max_position_embeddings=value("context_length"),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base")},
        tie_word_embeddings=True,
        bos_token_id=reader.fields["tokenizer.ggml.bos_token_id"].contents(),
        eos_token_id=reader.fields["tokenizer.ggml.eos_token_id"].contents(),
        dtype="bfloat16",
    )


def _llama_weights(reader: GGUFReader, config: LlamaConfig) -> dict[str, Tensor]:
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    weights = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name in _TOP_NAMES:
            name = _TOP_NAMES[tensor.name]
        else:
            _, layer, part, kind = tensor.name.split(".")
            name = f"model.layers.{layer}.{_LAYER_NAMES[part]}.{kind}"
            if part in heads:
                value = halves_apart(value, heads[part])
        weights[name] = torch.from_numpy(np.array(value)).to(torch.bfloat16)
    return weights


def _tokenizer(reader: GGUFReader) -> PreTrainedTokenizerFast:
    def listed(key: str) -> list:
        return reader.fields[f"tokenizer.ggml.{key}"].contents()

    tokens = listed("tokens")
    merges = [tuple(merge.split(" ")) for merge in listed("merges")]
    bpe = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    # llama.cpp's `smollm` pre-tokenizer: every digit alone, then GPT-2's split.
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, listed("token_type"), strict=True) if kind == GGUF_SPECIAL_TOKEN]
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=tokens[reader.fields["tokenizer.ggml.eos_token_id"].contents()],
        unk_token=tokens[reader.fields["tokenizer.ggml.unknown_token_id"].contents()],
        pad_token=tokens[reader.fields["tokenizer.ggml.unknown_token_id"].contents()],
        model_max_length=reader.fields["llama.context_length"].contents(),
    )
