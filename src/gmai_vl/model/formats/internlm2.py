"""InternLM2 as transformers' Llama: the same layers, with queries, keys and values in one matrix taken apart."""

# H query heads · G groups, one for each head of keys and values · D size of a head · I inputs

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from gmai_vl.foundation import UserError
from gmai_vl.model.formats.internlm2_tokenizer import convert_tokenizer
from gmai_vl.model.formats.shards import read_config, rewrite_shards

MODEL_TYPE = "internlm2"

_TOP = {
    "model.tok_embeddings.weight": "model.embed_tokens.weight",
    "model.norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_OF_LAYER = {
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_FUSED = "attention.wqkv"

_SHAPE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
)
"""Keys of the config without which nothing can be computed."""

_SAME = ("hidden_act", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings")
"""Other keys that mean the same in both."""


def is_internlm2(folder: Path) -> bool:
    """Say whether the config of a folder calls its model InternLM2."""
    return (folder / "config.json").is_file() and read_config(folder).get("model_type") == MODEL_TYPE


def convert_internlm2(source: Path, target: Path) -> None:
    """Write the InternLM2 in `source` to `target` as a Llama with a tokenizer that needs no code.

    Memory holds one weight file at a time. Raises UserError, naming the file, where something is missing or damaged.
    """
    convert_tokenizer(source, target)
    convert_weights(source, target)


def convert_weights(source: Path, target: Path) -> None:
    """Write config and weights of the InternLM2 in `source` to `target` as those of a Llama, in the same precision."""
    config = llama_config(read_config(source), source / "config.json")
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in LlamaForCausalLM(config).state_dict().items()}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    rewrite_shards(source, target, lambda name, weight: as_llama(name, weight, config), shapes)
    config.save_pretrained(target)


def llama_config(internlm2: dict[str, Any], place: Path) -> LlamaConfig:
    """Return the Llama config that says what an InternLM2 config, read from `place`, says.

    Raises UserError where a key is missing, or the scaling of positions is one that Llama does not have.
    """
    if missing := [key for key in _SHAPE if key not in internlm2]:
        raise UserError(f"{place}: has no key `{missing[0]}`; it is not the config of an InternLM2")
    same = {key: internlm2[key] for key in (*_SHAPE, *_SAME) if key in internlm2}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(same.pop("rope_theta"))}
    scaling = internlm2.get("rope_scaling")
    if scaling:
        kind = scaling.get("type", scaling.get("rope_type"))
        if kind not in ("dynamic", "linear"):
            raise UserError(f"{place}: rope_scaling of type `{kind}` is not known; dynamic and linear are")
        rope |= {"rope_type": kind, "factor": float(scaling["factor"])}
    return LlamaConfig(
        **same,
        head_dim=same["hidden_size"] // same["num_attention_heads"],
        attention_bias=internlm2.get("bias", False),
        rope_parameters=rope,
        architectures=["LlamaForCausalLM"],
        dtype=internlm2.get("torch_dtype", internlm2.get("dtype", "bfloat16")),
    )


def as_llama(name: str, weight: Tensor, config: LlamaConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield what a weight of InternLM2 is called and looks like in Llama. Raises ValueError for an unknown name."""
    if name in _TOP:
        yield _TOP[name], weight
        return
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    part, _, kind = rest.rpartition(".")
    if name.startswith("model.layers.") and part in _OF_LAYER:
        yield f"model.layers.{layer}.{_OF_LAYER[part]}.{kind}", weight
    elif name.startswith("model.layers.") and part == _FUSED:
        for letter, piece in zip("qkv", _taken_apart(name, weight, config), strict=True):
            yield f"model.layers.{layer}.self_attn.{letter}_proj.{kind}", piece
    elif not name.endswith("rotary_emb.inv_freq"):  # worked out from the config
        raise ValueError(f"{name} is no weight of an InternLM2")


def _taken_apart(name: str, fused: Tensor, config: LlamaConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries [H * D, I], keys and values [G * D, I] of fused rows, or of a fused bias [...].

    A group of rows holds the heads of its queries, then its keys, then its values (InternLM2 technical report, arXiv
    2403.17297, section 2.2).
    """
    groups, size = config.num_key_value_heads, config.head_dim
    of_group = config.num_attention_heads // groups + 2
    if len(fused) != groups * of_group * size:
        raise ValueError(f"{name} has {len(fused)} rows, not {groups * of_group * size}")
    parts_GxD = fused.unflatten(0, (groups, of_group, size))
    queries, keys, values = parts_GxD[:, :-2], parts_GxD[:, -2], parts_GxD[:, -1]
    return queries.flatten(0, 2), keys.flatten(0, 1), values.flatten(0, 1)
