"""The official GMAI-VL checkpoint becomes a stock LLaVA: the same logits, tokens and settings, without its code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from internlm2_folder import CONFIG, write_internlm2, write_tokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from gmai_vl.foundation import UserError
from gmai_vl.model import Request, collate, encode, generate, load_model, loss_sum, prepare_image, pull
from gmai_vl.records import ImageRef, Turn

IMAGE = 401
TEXT = CONFIG | {"vocab_size": 408, "rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 128}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "image_size": 28,
    "patch_size": 14,
}
OFFICIAL: dict[str, Any] = {
    "architectures": ["EnhancedLlavaForConditionalGeneration"],
    "auto_map": {"AutoModel": "modeling_llava.EnhancedLlavaForConditionalGeneration"},
    "model_type": "enhanced_llava",
    "text_config": TEXT,
    "vision_config": {"model_type": "clip_vision_model", **VISION},
    "image_token_index": IMAGE,
    "projector_hidden_act": "gelu",
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "torch_dtype": "float32",
}
TURNS = [Turn("user", (ImageRef(0), "what does the chest show?")), Turn("assistant", ("a round opacity",))]


@pytest.fixture(scope="module")
def stock() -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    text = LlamaConfig(
        **{key: TEXT[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")},
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6},
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=text,
        image_token_index=IMAGE,
        image_seq_length=4,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model


def official_weights(model: LlavaForConditionalGeneration) -> dict[str, Tensor]:
    """Return the weights of a stock model under the official names, queries, keys and values row by row in one."""
    weights: dict[str, Tensor] = {"vision_tower.vision_model.embeddings.position_ids": torch.arange(5)[None]}
    names = {"input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm", "o_proj": "attention.wo"}
    names |= {"gate_proj": "feed_forward.w1", "up_proj": "feed_forward.w3", "down_proj": "feed_forward.w2"}
    for name, weight in model.state_dict().items():
        parts = name.split(".")
        if name == "lm_head.weight":
            weights["language_model.output.weight"] = weight
        elif name == "model.language_model.embed_tokens.weight":
            weights["language_model.model.tok_embeddings.weight"] = weight
        elif name.startswith("model.language_model.layers."):
            layer = f"language_model.model.layers.{parts[3]}"
            if parts[-2] in names:
                weights[f"{layer}.{names[parts[-2]]}.weight"] = weight
        elif name.startswith("model.vision_tower."):
            weights["vision_tower.vision_model." + name.removeprefix("model.vision_tower.")] = weight
        else:
            weights[name.replace("model.language_model.", "language_model.model.", 1).removeprefix("model.")] = weight
    for number, layer in enumerate(model.model.language_model.layers):
        own, rows = layer.self_attn, []
        for group in range(2):
            for head in (2 * group, 2 * group + 1):
                rows.append(own.q_proj.weight[8 * head : 8 * head + 8])
            rows += [own.k_proj.weight[8 * group : 8 * group + 8], own.v_proj.weight[8 * group : 8 * group + 8]]
        weights[f"language_model.model.layers.{number}.attention.wqkv.weight"] = torch.cat(rows).detach()
    return {name: weight.detach().clone() for name, weight in weights.items()}


@pytest.fixture
def source(stock: LlavaForConditionalGeneration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))
    folder = write_internlm2(tmp_path / "official", official_weights(stock), OFFICIAL)
    write_tokenizer(folder, beyond=("<|plugin|>", "<image>"))
    return folder


def test_a_converted_checkpoint_has_the_logits_of_its_layers(
    source: Path, stock: LlavaForConditionalGeneration
) -> None:
    with pytest.raises(UserError, match="is an official GMAI-VL checkpoint; give the folder that `gmai backbones pull"):
        load_model(source)
    folder = pull(str(source))
    assert not list(folder.glob("*.py"))
    vlm = load_model(folder)
    for (name, weight), (_, expected) in zip(vlm.model.named_parameters(), stock.named_parameters(), strict=True):
        assert torch.equal(weight, expected), name

    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    encoded = encode(vlm.processor, TURNS)
    assert encoded.input_ids.count(IMAGE) == 4
    image = prepare_image(vlm.processor, pixels)
    ids = torch.tensor([encoded.input_ids])
    with torch.no_grad():
        expected = stock(input_ids=ids, pixel_values=image[None]).logits
        plain = LlavaForConditionalGeneration.from_pretrained(folder)
        logits = plain(input_ids=ids, pixel_values=image[None]).logits
    assert float((logits - expected).abs().max() / expected.abs().max()) < 1e-5

    asked = torch.tensor([encoded.labels])[0, 1:]
    by_hand = torch.nn.functional.cross_entropy(expected[0, :-1], asked, reduction="sum", ignore_index=-100)
    loss, _ = loss_sum(vlm.model, collate(vlm.processor, [encoded], [image]))
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-5)
    (answer,) = generate(vlm, [Request(TURNS[:1], (pixels,))], max_new_tokens=4, batch_size=1)
    assert isinstance(answer, str)
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.image_token_id == IMAGE
    assert processor.chat_template == vlm.processor.chat_template


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (
            "no image token",
            r"tokenizer_config.json: `<image>` is token None, but config.json has image_token_index 401",
        ),
        ("another index", r"tokenizer_config.json: `<image>` is token 401, but config.json has image_token_index 400"),
        ("small vocabulary", r"config.json: vocab_size is 400, but the tokenizer has 402 tokens"),
        ("no vision", r"config.json: has no key `vision_config`"),
        ("class token", r"config.json: vision_feature_select_strategy must be `default`"),
        ("another tower", r"00001.*patch_embedding.weight gives \[32, 3, 14, 14\] for .*, not \[32, 3, 7, 7\]"),
        ("no projector", r"official: 1 weights are missing, the first is multi_modal_projector.linear_1.bias"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(source: Path, tmp_path: Path, how: str, told: str) -> None:
    config = json.loads(json.dumps(OFFICIAL))
    if how == "no image token":
        write_tokenizer(source)
    elif how == "another index":
        config["image_token_index"] = 400
    elif how == "small vocabulary":
        config["text_config"]["vocab_size"] = 400
    elif how == "no vision":
        del config["vision_config"]
    elif how == "class token":
        config["vision_feature_select_strategy"] = "full"
    elif how == "another tower":
        config["vision_config"]["patch_size"] = 7
    else:
        for file in source.glob("*.safetensors"):
            kept = {
                name: weight
                for name, weight in load_file(file).items()
                if name != "multi_modal_projector.linear_1.bias"
            }
            save_file(kept, file, metadata={"format": "pt"})
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=told) as error:
        pull(str(source))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache" / "backbones").iterdir())
