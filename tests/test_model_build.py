"""Models put together from parts: what is random, what is kept, what is refused."""

import json

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM

from gmai_vl.foundation import UserError
from gmai_vl.model import (
    ModelSettings,
    Request,
    backbone_path,
    backbone_records,
    build_model,
    count_parameters,
    generate,
    is_present,
    load_model,
    new_conversations,
    parts,
    pull,
    set_trainable,
)
from gmai_vl.model.presets import PRESETS
from gmai_vl.model.tiny import tiny_language
from gmai_vl.records import Turn


def weights(seed):
    return build_model(ModelSettings(preset="tiny"), seed=seed).model.state_dict()


def test_the_seed_decides_every_weight_and_leaves_other_chance_alone():
    torch.manual_seed(1)
    untouched = torch.rand(1)
    torch.manual_seed(1)
    first, again, other = weights(0), weights(0), weights(1)
    assert torch.rand(1) == untouched
    assert all(torch.equal(first[name], again[name]) for name in first)
    matrices = [name for name in first if first[name].ndim > 1]
    assert matrices and not any(torch.equal(first[name], other[name]) for name in matrices)


@pytest.fixture
def own_parts(tmp_path):
    """A folder with a whole CLIP, text tower included, and one with a language model that has two spare rows."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision = {**small, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config={**small, "vocab_size": 99}, vision_config=vision)).save_pretrained(
        tmp_path / "clip"
    )
    _, tokenizer = tiny_language()
    config = LlamaConfig(**small, vocab_size=len(tokenizer) + 2, num_key_value_heads=1, tie_word_embeddings=False)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    return tmp_path


def test_parts_of_ones_own_keep_their_weights(own_parts):
    settings = ModelSettings(vision=str(own_parts / "clip"), language=str(own_parts / "llama"))
    vlm = build_model(settings, seed=0)
    clip = CLIPModel.from_pretrained(own_parts / "clip")
    images = torch.randn(2, 3, 32, 32)
    expected = clip.vision_model(images, output_hidden_states=True).hidden_states[-2][:, 1:]
    features = vlm.model.get_image_features(pixel_values=images).pooler_output
    torch.testing.assert_close(torch.stack(list(features)), vlm.model.model.multi_modal_projector(expected))
    llama = AutoModelForCausalLM.from_pretrained(own_parts / "llama")
    tokens = torch.tensor([[5, 6, 7, 8]])
    torch.testing.assert_close(vlm.model(input_ids=tokens).logits[..., :256], llama(tokens).logits[..., :256])
    assert vlm.model.lm_head.weight is not vlm.model.get_input_embeddings().weight
    assert generate(vlm, [Request((Turn("user", ("hi",)),))], max_new_tokens=2, batch_size=1)


def test_new_tokens_start_as_the_mean_word(own_parts):
    settings = ModelSettings(vision=str(own_parts / "clip"), language=str(own_parts / "llama"))
    vlm = build_model(settings, seed=0)
    for layer in (vlm.model.get_input_embeddings(), vlm.model.lm_head):
        rows = layer.weight.detach()
        assert len(rows) == len(vlm.processor.tokenizer) == 256 + 4
        torch.testing.assert_close(rows[259], rows[:259].mean(dim=0))


def test_a_language_model_that_knows_no_conversations_is_told_in_one_line(own_parts):
    settings = ModelSettings(vision=str(own_parts / "clip"), language=str(own_parts / "llama"))
    line = new_conversations(settings)
    assert line is not None and "\n" not in line
    assert line.startswith(f"language {own_parts / 'llama'}: has no chat template")
    tokenizer = build_model(settings, seed=0).processor.tokenizer
    tokenizer.save_pretrained(own_parts / "llama")
    assert new_conversations(settings) is None
    (own_parts / "llama/chat_template.jinja").unlink()
    assert "has no chat template" in new_conversations(settings)
    _, other = tiny_language()
    other.chat_template = "{{ messages[0].content }}"
    other.save_pretrained(own_parts / "llama")
    assert "has no token <|im_start|>" in new_conversations(settings)
    assert new_conversations(ModelSettings(preset="tiny")) is None


def test_a_clip_tower_keeps_its_size(own_parts):
    settings = ModelSettings(vision=str(own_parts / "clip"), language=str(own_parts / "llama"), image_size=64)
    with pytest.raises(UserError, match=r"image_size 64: .* sees 32 pixels only"):
        build_model(settings, seed=0)


def test_image_size_of_a_convolution_tower():
    vlm = build_model(ModelSettings(preset="tiny", image_size=96), seed=0)
    assert vlm.model.config.image_seq_length == 9
    with pytest.raises(UserError, match="image_size 100: must be a multiple of 32"):
        build_model(ModelSettings(preset="tiny", image_size=100), seed=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "smoll"}, "did you mean `smol`"),
        ({}, "give one of"),
        ({"preset": "smol", "init": "x"}, "give one of"),
        ({"vision": "x"}, "go together"),
        ({"init": "x", "image_size": 64}, "leave it out"),
        ({"presett": "smol"}, "presett"),
    ],
)
def test_wrong_settings_say_what_to_do(given, message):
    with pytest.raises(ValidationError, match=message):
        ModelSettings(**given)


def test_language_folder_without_weights(own_parts):
    (own_parts / "llama/model.safetensors").unlink()
    settings = ModelSettings(vision=str(own_parts / "clip"), language=str(own_parts / "llama"))
    with pytest.raises(UserError, match="llama: cannot be loaded"):
        build_model(settings, seed=0)


@pytest.mark.parametrize(
    ("kind", "told"),
    [("deepseek_v9", "without remote code"), ("internlm2", "`gmai backbones pull .*` makes it a Llama")],
)
def test_code_beside_the_weights_is_never_run(own_parts, kind, told, monkeypatch):
    monkeypatch.setenv("GMAI_CACHE", str(own_parts / "cache"))
    config = json.loads((own_parts / "llama/config.json").read_text())
    config |= {
        "model_type": kind,
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    }
    (own_parts / "llama/config.json").write_text(json.dumps(config))
    (own_parts / "llama/evil.py").write_text(f"open({str(own_parts / 'was_run')!r}, 'w')")
    settings = ModelSettings(vision=str(own_parts / "clip"), language=str(own_parts / "llama"))
    with pytest.raises(UserError, match=told):
        build_model(settings, seed=0)
    with pytest.raises(UserError):  # its weights have not the names of either
        pull(str(own_parts / "llama")) if kind == "internlm2" else load_model(own_parts / "llama")
    assert not (own_parts / "was_run").exists()


def test_a_language_model_is_no_vision_tower(own_parts):
    settings = ModelSettings(vision=str(own_parts / "llama"), language=str(own_parts / "llama"))
    with pytest.raises(UserError, match="is a `llama` model; a CLIP or EfficientNet-Lite tower is needed"):
        build_model(settings, seed=0)


def test_every_weight_is_in_exactly_one_part():
    model = build_model(ModelSettings(preset="tiny"), seed=0).model
    ids = [id(weight) for module in parts(model).values() for weight in module.parameters()]
    assert sorted(ids) == sorted(id(weight) for weight in model.parameters())
    assert sum(count.total for count in count_parameters(model).values()) == model.num_parameters()


def test_freezing_frees_what_was_frozen_before():
    model = build_model(ModelSettings(preset="tiny"), seed=0).model
    for names in (["projector"], ["vision", "projector"], ["language"]):
        set_trainable(model, names)
        free = {name for name, count in count_parameters(model).items() if count.trainable}
        assert free == set(names)
        assert all(count.trainable in (0, count.total) for count in count_parameters(model).values())
    with pytest.raises(UserError, match="part `visio`: unknown; did you mean `vision`"):
        set_trainable(model, ["visio"])


def test_provenance_names_package_hash_and_licence():
    records = backbone_records(ModelSettings(preset="smol-12l"))
    assert records["language"]["license"] == "Apache-2.0"
    assert len(records["vision"]["sha256"]) == 64
    assert len(records["language"]["layers"]) == 12
    assert backbone_records(ModelSettings(init="runs/a")) == {"init": "runs/a"}


@pytest.mark.long
@pytest.mark.skipif(
    not (is_present("smollm2-135m") and is_present("efficientnet-lite0")), reason="run `gmai backbones pull` for both"
)
def test_smol_12l_has_the_chosen_layers_of_the_language_model():
    vlm = build_model(ModelSettings(preset="smol-12l"), seed=0)
    whole = AutoModelForCausalLM.from_pretrained(backbone_path("smollm2-135m"), dtype=torch.float32)
    chosen = PRESETS["smol-12l"].layers
    kept = vlm.model.model.language_model.layers
    assert len(kept) == len(chosen) == 12
    for layer, number in zip(kept, chosen, strict=True):
        for name, weight in whole.model.layers[number].state_dict().items():
            assert torch.equal(layer.state_dict()[name], weight), f"layer {number}: {name}"
    # The first three are those that the whole model begins with, so up to there both compute the same.
    assert chosen[:4] == (0, 1, 2, 8)
    tokens = torch.tensor([vlm.processor.tokenizer("The heart is a muscle").input_ids])
    with torch.inference_mode():
        ours = vlm.model(input_ids=tokens, output_hidden_states=True).hidden_states
        theirs = whole(tokens, output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours[3], theirs[3])
    assert (ours[4] - theirs[4]).abs().max() > 1
    assert len(ours) == 13
    assert count_parameters(vlm.model)["vision"].total == 3_371_008
