"""Checkpoints load again to the bit, in plain transformers too, and are never half there."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gmai_vl.foundation import UserError, atomic_folder
from gmai_vl.model import (
    ModelSettings,
    build_model,
    collate,
    encode,
    load_model,
    prepare_image,
    save_model,
)
from gmai_vl.records import ImageRef, Turn

PICTURE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
TURNS = [Turn("user", (ImageRef(0), "what is it?")), Turn("assistant", ("a cell",))]


def logits(vlm):
    batch = collate(vlm.processor, [encode(vlm.processor, TURNS)], [prepare_image(vlm.processor, PICTURE)])
    with torch.inference_mode():
        return vlm.model(batch.input_ids[None], batch.pixel_values).logits


@pytest.mark.parametrize("preset", ["tiny", "tiny-clip"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_to_the_bit(tmp_path, preset, dtype):
    vlm = build_model(ModelSettings(preset=preset), seed=3)
    vlm.model.to(dtype)
    save_model(vlm, tmp_path / "saved", provenance={"stage": "align"}, card="# A card\n")
    again = load_model(tmp_path / "saved")
    assert again.model.dtype == dtype
    assert again.model.lm_head.weight is again.model.get_input_embeddings().weight
    before, after = vlm.model.state_dict(), again.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    if dtype is torch.float32:
        assert torch.equal(logits(vlm), logits(again))
    assert json.loads((tmp_path / "saved/provenance.json").read_text()) == {"stage": "align"}
    assert (tmp_path / "saved/README.md").read_text() == "# A card\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]
    assert load_model(tmp_path / "saved", dtype=torch.float16).model.dtype == torch.float16


def test_going_on_from_a_checkpoint(tmp_path):
    vlm = build_model(ModelSettings(preset="tiny"), seed=3)
    save_model(vlm, tmp_path / "saved")
    assert torch.equal(logits(build_model(ModelSettings(init=str(tmp_path / "saved")), seed=9)), logits(vlm))


PLAIN = """
import sys
import numpy as np, torch
from transformers import AutoModelForImageTextToText, AutoProcessor
folder = sys.argv[1]
model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
messages = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "a cell"}]},
]
text = processor.apply_chat_template(messages)
inputs = processor(images=np.load(folder + "/picture.npy"), text=text, return_tensors="pt")
with torch.inference_mode():
    np.save(folder + "/logits.npy", model(**inputs).logits.numpy())
assert not any(name.startswith("gmai_vl") for name in sys.modules)
"""


def test_with_a_clip_tower_plain_transformers_computes_the_same(tmp_path):
    vlm = build_model(ModelSettings(preset="tiny-clip"), seed=5)
    save_model(vlm, tmp_path / "saved")
    np.save(tmp_path / "saved/picture.npy", PICTURE)
    subprocess.run([sys.executable, "-c", PLAIN, str(tmp_path / "saved")], check=True, env={"HF_HUB_OFFLINE": "1"})
    theirs = torch.from_numpy(np.load(tmp_path / "saved/logits.npy"))
    # Pixels differ in the last bit only: the stock processor normalises in another order.
    torch.testing.assert_close(logits(vlm), theirs, atol=1e-5, rtol=1e-5)


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path):
    save_model(build_model(ModelSettings(preset="tiny"), seed=0), tmp_path / "saved", card="old")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "saved") as folder:
        (folder / "README.md").write_text("new")
        _ = 1 / 0
    assert (tmp_path / "saved/README.md").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]


def test_a_new_save_replaces_all_of_the_old_one(tmp_path):
    with atomic_folder(tmp_path / "saved") as folder:
        (folder / "old").write_text("")
    with atomic_folder(tmp_path / "saved") as folder:
        (folder / "new").write_text("")
    assert [entry.relative_to(tmp_path).as_posix() for entry in tmp_path.rglob("*")] == ["saved", "saved/new"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def without_a_weight(path):
    weights = load_file(path)
    del weights[max(weights, key=lambda name: "linear_2.bias" in name)]
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "cannot be loaded"),
        (lambda path: path.unlink(), "no safetensors"),
        (without_a_weight, "1 weights are missing.*linear_2.bias"),
        (lambda path: (path.parent / "config.json").unlink(), r"no config\.json"),
        (lambda path: (path.parent / "config.json").write_text("{"), r"config\.json: is no JSON"),
        (lambda path: (path.parent / "config.json").write_text('{"model_type": "llama"}'), "`llama` model"),
    ],
)
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path, damage, message):
    save_model(build_model(ModelSettings(preset="tiny"), seed=0), tmp_path / "saved")
    damage(tmp_path / "saved/model.safetensors")
    with pytest.raises(UserError, match=message) as caught:
        load_model(tmp_path / "saved")
    assert str(tmp_path / "saved") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("preset", ["tiny", "tiny-clip"])
def test_weights_have_the_names_that_other_loaders_look_for(preset, tmp_path):
    vlm = build_model(ModelSettings(preset=preset), seed=0)
    save_model(vlm, tmp_path / "saved")
    with safe_open(tmp_path / "saved" / "model.safetensors", "pt") as file:
        names = set(file.keys())
    of_tower = [name for name in names if name.startswith("vision_tower.")]
    assert all(name.startswith("vision_tower.vision_model.") == (preset == "tiny-clip") for name in of_tower)
    beginnings = ("vision_tower.", "multi_modal_projector.linear_", "language_model.model.")
    assert {next(one for one in beginnings if name.startswith(one)) for name in names} == set(beginnings)
    assert len(names) == len(vlm.model.state_dict()) - 1  # the head is the embedding


def test_a_folder_has_what_vllm_and_sglang_read(tmp_path):
    """Files and keys of published LLaVA checkpoints (llava-hf), which the loaders of both name in their code."""
    save_model(build_model(ModelSettings(preset="tiny-clip"), seed=0), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert config["model_type"] == "llava"
    assert config["text_config"]["architectures"] == ["LlamaForCausalLM"]
    assert config["text_config"]["model_type"] == "llama"
    assert config["vision_config"]["model_type"] == "clip_vision_model"
    assert {"image_size", "patch_size", "hidden_size", "num_hidden_layers"} <= config["vision_config"].keys()
    assert (config["vision_feature_layer"], config["vision_feature_select_strategy"]) == (-2, "default")
    assert config["projector_hidden_act"] == "gelu"
    tokens = {
        token["content"]: token["id"] for token in json.loads((tmp_path / "tokenizer.json").read_text())["added_tokens"]
    }
    assert config["image_token_index"] == tokens["<image>"]
    generation = json.loads((tmp_path / "generation_config.json").read_text())
    assert generation["eos_token_id"] == tokens["<|im_end|>"]
    images = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert images == json.loads((tmp_path / "processor_config.json").read_text())["image_processor"]
    assert "<|im_start|>" in (tmp_path / "chat_template.jinja").read_text()
    assert (tmp_path / "tokenizer_config.json").is_file()


def test_a_large_model_is_saved_in_several_files(tmp_path, monkeypatch):
    vlm = build_model(ModelSettings(preset="tiny-clip"), seed=0)
    monkeypatch.setattr("gmai_vl.model.checkpoint.LARGEST_FILE", 100_000)
    save_model(vlm, tmp_path / "saved")
    assert len(list((tmp_path / "saved").glob("model-*.safetensors"))) > 2
    again = load_model(tmp_path / "saved").model
    for name, weight in vlm.model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def changed(path, file, **changes):
    (path / file).write_text(json.dumps(json.loads((path / file).read_text()) | changes))


def other_tower(path):
    config = json.loads((path / "config.json").read_text())
    vision = config["vision_config"] | {"patch_size": 16}
    (path / "config.json").write_text(json.dumps(config | {"vision_config": vision}))
    weights = load_file(path / "model.safetensors")
    name = "vision_tower.vision_model.embeddings."
    weights[name + "patch_embedding.weight"] = torch.zeros(32, 3, 16, 16)
    weights[name + "position_embedding.weight"] = torch.zeros(5, 32)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda path: changed(path, "config.json", image_token_index=7),
            "`<image>` is token 256 .* image_token_index 7",
        ),
        (
            lambda path: changed(path, "processor_config.json", image_token="<img>"),
            "`<img>` is token None of its tokeniz",
        ),
        (lambda path: changed(path, "processor_config.json", patch_size=16), "patches of 8, its processor .* of 16"),
        (other_tower, "sees 32 pixels in patches of 16, its processor makes 32 in patches of 8"),
        (lambda path: (path / "chat_template.jinja").unlink(), "has no chat template"),
    ],
)
def test_a_processor_that_is_not_for_the_model_is_one_line(change, told, tmp_path):
    save_model(build_model(ModelSettings(preset="tiny-clip"), seed=0), tmp_path / "saved")
    change(tmp_path / "saved")
    with pytest.raises(UserError, match=f"saved: .*{told}") as error:
        load_model(tmp_path / "saved")
    assert "\n" not in str(error.value)
