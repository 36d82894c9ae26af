"""The official GMAI-VL checkpoint, whose model is code of its own around InternLM2, as a stock LLaVA around a Llama."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from gmai_vl.foundation import UserError
from gmai_vl.model.chatml import END, IMAGE, prepare_tokenizer
from gmai_vl.model.formats.internlm2 import as_llama, llama_config
from gmai_vl.model.formats.internlm2_tokenizer import convert_tokenizer
from gmai_vl.model.formats.names import LANGUAGE, name_in_file
from gmai_vl.model.formats.shards import read_config, rewrite_shards
from gmai_vl.model.processor import make_processor

MODEL_TYPE = "enhanced_llava"

_SHAPE = ("text_config", "vision_config", "image_token_index")


def is_official(folder: Path) -> bool:
    """Say whether the config of a folder calls its model what the official checkpoint does."""
    return (folder / "config.json").is_file() and read_config(folder).get("model_type") == MODEL_TYPE


def convert_official(source: Path, target: Path) -> None:
    """Write the official checkpoint in `source` to `target` as one of ours: model, tokenizer and image settings.

    Memory holds one weight file at a time, no code of the checkpoint is run. Raises UserError, naming the file, where
    something is missing, damaged or does not fit.
    """
    config = _llava_config(read_config(source), source / "config.json")
    convert_tokenizer(source, target)
    tokenizer = AutoTokenizer.from_pretrained(target, local_files_only=True, trust_remote_code=False)
    image = tokenizer.get_vocab().get(IMAGE)
    if image != config.image_token_id:
        raise UserError(
            f"{source / 'tokenizer_config.json'}: `{IMAGE}` is token {image}, but config.json has image_token_index "
            f"{config.image_token_id}; take tokenizer and config of one checkpoint"
        )
    prepare_tokenizer(tokenizer)
    if len(tokenizer) > config.text_config.vocab_size:
        raise UserError(
            f"{source / 'config.json'}: vocab_size is {config.text_config.vocab_size}, but the tokenizer has "
            f"{len(tokenizer)} tokens; take tokenizer and config of one checkpoint"
        )
    processor = make_processor(config.vision_config, tokenizer)
    processor.save_pretrained(target)
    processor.image_processor.save_pretrained(target)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    shapes = {name_in_file(name, config): weight.shape for name, weight in model.state_dict().items()}
    if config.tie_word_embeddings:
        del shapes[LANGUAGE + "lm_head.weight"]
    rewrite_shards(source, target, lambda name, weight: _as_stock(name, weight, config), shapes)
    config.architectures = ["LlavaForConditionalGeneration"]
    config.save_pretrained(target)
    end = tokenizer.convert_tokens_to_ids(END)
    GenerationConfig(eos_token_id=end, pad_token_id=tokenizer.pad_token_id, do_sample=False).save_pretrained(target)


def _llava_config(told: dict[str, Any], place: Path) -> LlavaConfig:
    if missing := [key for key in _SHAPE if key not in told]:
        raise UserError(f"{place}: has no key `{missing[0]}`; it is not the config of an official GMAI-VL checkpoint")
    text = llama_config(told["text_config"], place)
    vision = CLIPVisionConfig(**told["vision_config"])
    if told.get("vision_feature_select_strategy", "default") != "default":
        raise UserError(f"{place}: vision_feature_select_strategy must be `default`: the class token is left out")
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=told["image_token_index"],
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        projector_hidden_act=told.get("projector_hidden_act", "gelu"),
        vision_feature_layer=told.get("vision_feature_layer", -2),
        vision_feature_select_strategy="default",
        tie_word_embeddings=text.tie_word_embeddings,
        dtype=text.dtype,
    )


def _as_stock(name: str, weight: Tensor, config: LlavaConfig) -> Iterator[tuple[str, Tensor]]:
    if name.startswith(LANGUAGE):
        for own, piece in as_llama(name.removeprefix(LANGUAGE), weight, config.text_config):
            yield LANGUAGE + own, piece
    elif not name.endswith(".position_ids"):  # counted, not learnt
        yield name, weight
