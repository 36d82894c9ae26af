"""InternLM2 as a Llama: the logits of the published layers, and refusals that name the file."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from internlm2_folder import CONFIG, random_weights, write_internlm2
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import AutoModelForCausalLM

from gmai_vl.foundation import UserError
from gmai_vl.model.formats.internlm2 import convert_weights, is_internlm2


def published_logits(ids_T: Tensor, weights: dict[str, Tensor], config: dict[str, Any]) -> Tensor:
    """Compute logits [T, V] from InternLM2's own weights, straight from its equations (arXiv 2403.17297, section 2.2).

    RMSNorm, grouped-query attention with rotary positions on fused rows, SwiGLU; a residual around each.
    """
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    size, tokens = config["hidden_size"] // heads, len(ids_T)
    scaling, base, positions_T = config["rope_scaling"], config["rope_theta"], torch.arange(tokens).double()
    if scaling and scaling["type"] == "linear":
        positions_T = positions_T / scaling["factor"]
    if scaling and scaling["type"] == "dynamic" and tokens > config["max_position_embeddings"]:
        stretch = scaling["factor"] * tokens / config["max_position_embeddings"] - (scaling["factor"] - 1)
        base = base * stretch ** (size / (size - 2))
    angles = positions_T[:, None] / base ** (torch.arange(0, size, 2).double() / size)
    turn = torch.polar(torch.ones_like(angles), angles)  # [T, D / 2]

    def rotated(x_TD: Tensor) -> Tensor:
        """Turn each pair (d, d + D / 2) by its angle."""
        pairs = torch.complex(x_TD[:, : size // 2].double(), x_TD[:, size // 2 :].double()) * turn
        return torch.cat([pairs.real, pairs.imag], -1)

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"]).sqrt() * weight.double()

    x_TE = weights["model.tok_embeddings.weight"][ids_T].double()
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    for layer in range(config["num_hidden_layers"]):
        own = {name.split(".", 3)[3]: w.double() for name, w in weights.items() if f"layers.{layer}." in name}
        fused = F.linear(
            norm(x_TE, own["attention_norm.weight"]), own["attention.wqkv.weight"], own.get("attention.wqkv.bias")
        )
        row, said = 0, []
        for _ in range(groups):  # of each group: its queries, one after the other, then its keys, then its values
            queries = [fused[:, row + n * size : row + (n + 1) * size] for n in range(heads // groups)]
            row += heads // groups * size
            keys, values = fused[:, row : row + size], fused[:, row + size : row + 2 * size]
            row += 2 * size
            for query in queries:
                scores = rotated(query) @ rotated(keys).T / math.sqrt(size)
                said.append(scores.masked_fill(future, -math.inf).softmax(-1) @ values)
        x_TE = x_TE + F.linear(torch.cat(said, -1), own["attention.wo.weight"], own.get("attention.wo.bias"))
        h_TE = norm(x_TE, own["ffn_norm.weight"])
        inner = F.silu(h_TE @ own["feed_forward.w1.weight"].T) * (h_TE @ own["feed_forward.w3.weight"].T)
        x_TE = x_TE + inner @ own["feed_forward.w2.weight"].T
    return norm(x_TE, weights["model.norm.weight"]) @ weights["output.weight"].double().T


@pytest.mark.parametrize(
    ("changes", "shards"),
    [
        ({}, 2),
        ({}, 1),
        ({"bias": True}, 3),
        ({"num_key_value_heads": 4}, 2),
        ({"num_key_value_heads": 1}, 2),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 2),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 2),
    ],
)
def test_a_converted_model_has_the_logits_of_the_published_layers(
    tmp_path: Path, changes: dict[str, Any], shards: int
) -> None:
    config = CONFIG | changes
    weights = random_weights(config)
    source = write_internlm2(tmp_path / "source", weights, config, shards)
    assert is_internlm2(source)
    target = tmp_path / "target"
    target.mkdir()
    convert_weights(source, target)
    assert not is_internlm2(target)
    assert len(list(target.glob("*.safetensors"))) == shards
    model = AutoModelForCausalLM.from_pretrained(target)
    assert type(model).__name__ == "LlamaForCausalLM"
    chance = torch.Generator().manual_seed(1)
    for tokens in (7, 60):  # the second beyond the trained positions, where `dynamic` begins to scale
        ids_T = torch.randint(0, 101, (tokens,), generator=chance)
        with torch.no_grad():
            logits_TV = model(input_ids=ids_T[None]).logits[0]
        expected_TV = published_logits(ids_T, weights, config)
        assert float((logits_TV - expected_TV).abs().max() / expected_TV.abs().max()) < 1e-5


def test_scaling_matters_to_the_reference() -> None:
    weights, ids_T = random_weights(CONFIG), torch.arange(60)
    plain, *scaled = (
        published_logits(ids_T, weights, CONFIG | {"rope_scaling": scaling})
        for scaling in (None, {"type": "dynamic", "factor": 2.0}, {"type": "linear", "factor": 4.0})
    )
    assert all(float((one - plain).abs().max()) > 1e-2 for one in scaled)


def damaged(source: Path, how: str) -> None:
    second = source / "model-00002-of-00002.safetensors"
    weights = load_file(second)
    first_of = {part: next(name for name in weights if part in name) for part in ("wqkv", "w1")}
    if how == "shard missing":
        second.unlink()
    elif how == "shard cut":
        second.write_bytes(second.read_bytes()[:-100])
    elif how == "fused rows":
        save_file(weights | {first_of["wqkv"]: weights[first_of["wqkv"]][:-8].clone()}, second)
    elif how == "shape":
        save_file(weights | {first_of["w1"]: weights[first_of["w1"]][:, :-1].clone()}, second)
    elif how == "weight missing":
        save_file({name: weight for name, weight in weights.items() if name != first_of["w1"]}, second)
    elif how == "weight unknown":
        save_file(weights | {"model.layers.0.attention.gate.weight": torch.ones(2)}, second)
    elif how == "weight twice":
        shutil.copy(second, source / "model-00001-of-00002.safetensors")
    elif how == "index":
        (source / "model.safetensors.index.json").write_text("[]")
    elif how == "no weights":
        for file in source.glob("model*"):
            file.unlink()
    else:
        config = CONFIG | ({"rope_scaling": {"type": "yarn", "factor": 2}} if how == "scaling" else {})
        if how == "key":
            del config["rope_theta"]
        (source / "config.json").write_text("{" if how == "config" else json.dumps(config))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (
            "shard missing",
            r"model-00002-of-00002.safetensors: is missing, though model.safetensors.index.json names it",
        ),
        ("shard cut", r"model-00002-of-00002.safetensors: cannot be converted"),
        ("fused rows", r"00002.safetensors: .*wqkv.weight has 56 rows, not 64"),
        ("shape", r"00002.safetensors: .*w1.weight gives \[48, 31\] for .*gate_proj.weight, not \[48, 32\]"),
        ("weight missing", r"source: 1 weights are missing, the first is model.layers.0.mlp.gate_proj.weight"),
        ("weight unknown", r"00002.safetensors: .*attention.gate.weight is no weight of an InternLM2"),
        ("weight twice", r"00002.safetensors: holds .*, which model-00001-of-00002.safetensors holds too"),
        ("index", r"model.safetensors.index.json: is no index of safetensors"),
        ("no weights", r"source: has neither model.safetensors nor model.safetensors.index.json"),
        ("scaling", r"config.json: rope_scaling of type `yarn` is not known"),
        ("key", r"config.json: has no key `rope_theta`"),
        ("config", r"config.json: is no JSON"),
    ],
)
def test_what_cannot_be_converted_is_one_line(tmp_path: Path, how: str, told: str) -> None:
    source = write_internlm2(tmp_path / "source", random_weights(CONFIG), CONFIG)
    damaged(source, how)
    (tmp_path / "target").mkdir()
    with pytest.raises(UserError, match=told) as error:
        convert_weights(source, tmp_path / "target")
    assert "\n" not in str(error.value)
