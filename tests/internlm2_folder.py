"""A small InternLM2 as its hub folder holds it: config, weights in shards, tokenizer with places left free."""

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor

from gmai_vl.model.formats.internlm2_tokenizer import convert_tokenizer

CONFIG: dict[str, Any] = {
    "architectures": ["InternLM2ForCausalLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"},
    "model_type": "internlm2",
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000,
    "rope_scaling": None,
    "hidden_act": "silu",
    "bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "torch_dtype": "float32",
}

SENTENCE = (
    "the chest x-ray shows a round opacity in left upper lung field 肺 部 结节 提示 感染 可能 pneumonia normal heart"
)
WORDS = SENTENCE.split()
FREE = ("[UNUSED_TOKEN_0]", "[UNUSED_TOKEN_1]", "[UNUSED_TOKEN_2]")


def random_weights(config: dict[str, Any]) -> dict[str, Tensor]:
    """Return weights under the names of InternLM2's published checkpoints."""
    chance = torch.Generator().manual_seed(0)
    width, inner = config["hidden_size"], config["intermediate_size"]
    size = width // config["num_attention_heads"]
    fused = (config["num_attention_heads"] + 2 * config["num_key_value_heads"]) * size
    shapes = {"model.tok_embeddings.weight": (config["vocab_size"], width), "model.norm.weight": (width,)}
    shapes["output.weight"] = (config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        of_layer = {
            "attention.wqkv.weight": (fused, width),
            "attention.wo.weight": (width, width),
            "feed_forward.w1.weight": (inner, width),
            "feed_forward.w3.weight": (inner, width),
            "feed_forward.w2.weight": (width, inner),
            "attention_norm.weight": (width,),
            "ffn_norm.weight": (width,),
        }
        if config["bias"]:
            of_layer |= {"attention.wqkv.bias": (fused,), "attention.wo.bias": (width,)}
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in of_layer.items()}
    return {
        name: torch.randn(shape, generator=chance) * 0.3 + (1.0 if "norm" in name else 0.0)
        for name, shape in shapes.items()
    }


def write_internlm2(folder: Path, weights: dict[str, Tensor], config: dict[str, Any], shards: int = 2) -> Path:
    """Write what a hub folder of InternLM2 holds, in `shards` files."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        own = dict(list(weights.items())[number::shards])
        save_file(own, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(own, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def write_tokenizer(
    folder: Path, *, blank: bool = True, kind: str = "bpe", beyond: Sequence[str] = ("<|plugin|>",), **changes: Any
) -> bytes:
    """Write a small tokenizer as InternLM2's hub folder has it: special tokens in two places and `beyond` the end."""
    chance = random.Random(0)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(" ".join(chance.choices(WORDS, k=12)) for _ in range(400)),
        model_writer=written,
        vocab_size=400 if kind == "bpe" else 310,
        model_type=kind,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=blank,
        user_defined_symbols=list(FREE),
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    named = {model.piece_to_id(FREE[0]): "<|im_start|>", model.piece_to_id(FREE[1]): "<|im_end|>"}
    named |= dict(enumerate(beyond, model.get_piece_size()))
    told = {
        "tokenizer_class": "InternLM2Tokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", **flags},
        "unk_token": "<unk>",
        "pad_token": "</s>",
        "added_tokens_decoder": {str(number): {"content": name, **flags} for number, name in named.items()},
    }
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps(told | changes))
    return written.getvalue()


def write_llama_tokenizer(folder: Path, **changes: Any) -> None:
    """Write a small tokenizer of the class that Llama's checkpoints name: a blank begins the first text only."""
    write_tokenizer(folder, **changes)
    convert_tokenizer(folder, folder)
    (folder / "tokenizer.model").unlink()
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told |= {"tokenizer_class": "LlamaTokenizer", "legacy": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
