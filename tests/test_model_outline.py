"""An outline is the model without its weights: same names, shapes, counts and tokens, and no memory."""

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from gmai_vl.foundation import UserError
from gmai_vl.model import (
    ModelSettings,
    build_model,
    count_parameters,
    encode,
    image_token_count,
    outline,
    parts,
    save_model,
    set_trainable,
)
from gmai_vl.model.tiny import tiny_language
from gmai_vl.records import ImageRef, Turn

TURNS = [Turn("user", (ImageRef(0), "what is 肝?")), Turn("assistant", ("a cell",))]
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders: a whole CLIP, a CLIP vision tower, a language model saved in bf16 with its own head, two checkpoints."""
    folder = tmp_path_factory.mktemp("places")
    torch.manual_seed(0)
    vision = {**SMALL, "image_size": 32, "patch_size": 16}
    clip = CLIPConfig(text_config={**SMALL, "vocab_size": 99}, vision_config=vision)
    CLIPModel(clip).save_pretrained(folder / "clip")
    CLIPVisionModel(CLIPVisionConfig(**vision)).save_pretrained(folder / "tower")
    _, tokenizer = tiny_language()
    config = LlamaConfig(**SMALL, vocab_size=len(tokenizer) + 2, num_key_value_heads=1, tie_word_embeddings=False)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "llama")
    tokenizer.save_pretrained(folder / "llama")
    for preset in ("tiny", "tiny-clip"):
        save_model(build_model(ModelSettings(preset=preset), seed=0), folder / preset)
    return folder


def settings_of(kind, places):
    own = {"vision": str(places / kind.split(",")[0]), "language": str(places / "llama")}
    return {
        "clip,llama": ModelSettings(**own),
        "tower,llama": ModelSettings(**own),
        "tiny": ModelSettings(preset="tiny"),
        "tiny, 96 pixels": ModelSettings(preset="tiny", image_size=96),
        "tiny-clip": ModelSettings(preset="tiny-clip"),
        "init tiny": ModelSettings(init=str(places / "tiny")),
        "init tiny-clip": ModelSettings(init=str(places / "tiny-clip")),
    }[kind]


KINDS = ["tiny", "tiny, 96 pixels", "tiny-clip", "clip,llama", "tower,llama", "init tiny", "init tiny-clip"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_outline_is_the_model_without_its_weights(kind, places):
    settings = settings_of(kind, places)
    built, drawn = build_model(settings, seed=0), outline(settings)
    shapes = [
        [(name, tensor.shape, tensor.dtype) for name, tensor in tensors(model)]
        for model in (built.model, drawn.model)
        for tensors in (type(model).named_parameters, type(model).named_buffers)
    ]
    assert shapes[:2] == shapes[2:]
    assert shapes[0]
    assert {tensor.device.type for tensor in (*drawn.model.parameters(), *drawn.model.buffers())} == {"meta"}
    for key in ("image_seq_length", "image_token_id", "vision_feature_layer"):
        assert getattr(drawn.model.config, key) == getattr(built.model.config, key), key
    assert not drawn.model.training
    for names in (["projector"], list(parts(built.model))):
        set_trainable(built.model, names)
        set_trainable(drawn.model, names)
        assert count_parameters(drawn.model) == count_parameters(built.model)
    is_tied = [vlm.model.lm_head.weight is vlm.model.get_input_embeddings().weight for vlm in (built, drawn)]
    assert is_tied == [kind not in ("clip,llama", "tower,llama")] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_its_processor_encodes_the_same_tokens(kind, places):
    settings = settings_of(kind, places)
    built, drawn = build_model(settings, seed=0).processor, outline(settings).processor
    assert encode(drawn, TURNS) == encode(built, TURNS)
    assert image_token_count(drawn) == image_token_count(built)
    assert len(drawn.tokenizer) == len(built.tokenizer)


def test_seven_billion_weights_cost_nothing(places, tmp_path):
    qwen = Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    qwen.architectures = [Qwen2ForCausalLM.__name__]
    qwen.save_pretrained(tmp_path)
    tiny_language()[1].save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    drawn = outline(ModelSettings(vision=str(places / "tower"), language=str(tmp_path)))
    assert count_parameters(drawn.model)["language"].total == 7_615_616_512  # as Qwen2.5-7B's model card has it: 7.61 B
    assert all(weight.is_meta for weight in drawn.model.parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "gmai-vl-7b"},
        {"vision": "tower", "language": "nobody/nothing"},
        {"vision": "llama", "language": "llama"},
        {"vision": "tower", "language": "tower"},
        {"vision": "tower", "language": "llama", "image_size": 64},
        {"init": "llama"},
        {"init": "empty"},
    ],
)
def test_what_cannot_be_built_cannot_be_drawn(wrong, places, monkeypatch):
    monkeypatch.setenv("GMAI_CACHE", str(places / "no cache"))
    placed = {key: str(places / value) if key == "init" else value for key, value in wrong.items()}
    monkeypatch.chdir(places)
    messages = []
    for make in (outline, lambda settings: build_model(settings, seed=0)):
        with pytest.raises(UserError) as raised:
            make(ModelSettings(**placed))
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


def test_a_backbone_without_weights_is_refused(places, tmp_path):
    LlamaConfig(**SMALL).save_pretrained(tmp_path)
    tiny_language()[1].save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path.name}: cannot be loaded: no safetensors"):
        outline(ModelSettings(vision=str(places / "tower"), language=str(tmp_path)))
