"""A new model from its parts: vision tower, projector, language model, always inside stock LLaVA."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionModel,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from gmai_vl.foundation import UserError
from gmai_vl.model.backbones import BACKBONES, backbone_path
from gmai_vl.model.chatml import END, IMAGE, START, prepare_tokenizer
from gmai_vl.model.checkpoint import load_model
from gmai_vl.model.efficientnet import EfficientNetLiteConfig
from gmai_vl.model.presets import ModelSettings, Preset, chosen_parts
from gmai_vl.model.processor import is_clip, make_processor
from gmai_vl.model.segments import attend_within_segments
from gmai_vl.model.tiny import tiny_language, tiny_tower
from gmai_vl.model.vlm import Vlm, quiet_loading

PROJECTOR_STD = 0.02
"""Normal weights and zero bias, as GMAI-VL's released code has it. With EfficientNet-Lite0 and SmolLM2-135M the image
features then have a root mean square of 0.20 over medical images, the text embeddings 0.14."""

Load = Callable[[Any, Path, str, Any], PreTrainedModel]
"""From a class of models, the folder of a backbone, its name and its config to the backbone."""


def build_model(settings: ModelSettings, *, seed: int) -> Vlm:
    """Put a model together in float32 on the CPU, in evaluation mode; `seed` decides every random weight.

    Pretrained parts come from the cache. Raises UserError where one is not there or does not fit.
    """
    chosen = chosen_parts(settings)
    if chosen is None:
        return load_model(Path(str(settings.init)), dtype=torch.float32)
    with torch.random.fork_rng(devices=[]), quiet_loading():
        torch.manual_seed(seed)
        return from_parts(chosen, settings.image_size, _load)


def new_conversations(settings: ModelSettings) -> str | None:
    """Return one line about a language model that was not taught conversations of our form; None where it was.

    That is one without a chat template, or without ChatML's tokens. It is no mistake: it learns them where `language`
    is trained. Raises UserError where its tokenizer is not here.
    """
    chosen = chosen_parts(settings)
    if chosen is None or chosen.language.startswith("random:") or chosen.language in BACKBONES:
        return None
    with quiet_loading():
        tokenizer = _tokenizer(backbone_path(chosen.language), chosen.language)
    if not tokenizer.chat_template:
        lacking = "has no chat template"
    elif not {START, END} <= tokenizer.get_vocab().keys():
        lacking = f"has no token {START}"
    else:
        return None
    return (
        f"language {chosen.language}: {lacking}, so it was not taught conversations in ChatML; it must learn them in a "
        "stage that trains `language`, or name an instruct model that knows them"
    )


def from_parts(chosen: Preset, image_size: int | None, load: Load) -> Vlm:
    """Put a model together from backbones as `load` gives them; what is new lies on the device of the vision tower."""
    tower = _vision_tower(chosen.vision, image_size, load)
    language, tokenizer = _language_model(chosen.language, chosen.layers, load)
    return _assemble(tower, language, tokenizer)


def _vision_tower(name: str, image_size: int | None, load: Load) -> PreTrainedModel:
    if name == "random:efficientnet":
        tower = tiny_tower("efficientnet", image_size)
    elif name == "random:clip":
        tower = tiny_tower("clip", image_size)
    else:
        tower = _pretrained_tower(name, load)
    config = tower.config
    if image_size is not None and image_size != config.image_size:
        if config.model_type != EfficientNetLiteConfig.model_type:
            raise UserError(f"image_size {image_size}: {name} sees {config.image_size} pixels only; leave it out")
        config.image_size = image_size
    if config.image_size % config.patch_size:
        raise UserError(f"image_size {config.image_size}: must be a multiple of {config.patch_size} for {name}")
    return tower


def _pretrained_tower(name: str, load: Load) -> PreTrainedModel:
    folder = backbone_path(name)
    config = _config(folder, name)
    if config.model_type == EfficientNetLiteConfig.model_type:
        return load(AutoModel, folder, name, config)
    if config.model_type == "clip":
        return load(CLIPVisionModel, folder, name, config.vision_config)
    if config.model_type == "clip_vision_model":
        return load(CLIPVisionModel, folder, name, config)
    raise UserError(f"vision {name}: is a `{config.model_type}` model; a CLIP or EfficientNet-Lite tower is needed")


def _language_model(
    name: str, layers: tuple[int, ...] | None, load: Load
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if name == "random:llama":
        language, tokenizer = tiny_language()
    else:
        folder = backbone_path(name)
        language = load(AutoModelForCausalLM, folder, name, _config(folder, name))
        if layers is not None:
            _keep_layers(language, layers)
        tokenizer = _tokenizer(folder, name)
    prepare_tokenizer(tokenizer)
    return language, tokenizer


def _keep_layers(language: PreTrainedModel, layers: tuple[int, ...]) -> None:
    kept = [language.model.layers[number] for number in layers]
    for place, layer in enumerate(kept):
        layer.self_attn.layer_idx = place  # its place in the cache of keys and values
    language.model.layers = nn.ModuleList(kept)
    language.config.num_hidden_layers = len(kept)


def _config(folder: Path, name: str) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: transformers cannot read its config without remote code: {reason}") from error


def _tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: transformers cannot read its tokenizer without remote code: {reason}") from error


def _load(kind: Any, folder: Path, name: str, config: Any) -> PreTrainedModel:
    try:
        model, report = kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{name}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"{name}: {len(missing)} weights are missing, the first is {missing[0]}")
    return model


def _assemble(tower: PreTrainedModel, language: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Vlm:
    side, patch = tower.config.image_size, tower.config.patch_size
    end, image = tokenizer.convert_tokens_to_ids([END, IMAGE])
    language.config.architectures = [type(language).__name__]  # by which vLLM chooses its own class
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=language.config,
        image_token_index=image,
        image_seq_length=(side // patch) ** 2,
        vision_feature_layer=-2 if is_clip(tower.config) else -1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=language.config.tie_word_embeddings,
        dtype="float32",
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.vision_tower = tower
    model.model.language_model = language.base_model
    model.lm_head = language.get_output_embeddings()
    _new_projector(model.model.multi_modal_projector, tower.device)
    _room_for_new_tokens(model, len(tokenizer))
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=tokenizer.pad_token_id, do_sample=False)
    attend_within_segments(model)
    return Vlm(model.eval(), make_processor(tower.config, tokenizer))


def _new_projector(projector: nn.Module, device: torch.device) -> None:
    for layer in projector.to_empty(device=device).children():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=PROJECTOR_STD)
            nn.init.zeros_(layer.bias)


def _room_for_new_tokens(model: LlavaForConditionalGeneration, tokens: int) -> None:
    """Give new tokens the mean embedding, so that none of them is a likely word from the start."""
    before = model.get_input_embeddings().num_embeddings
    if tokens <= before:
        return
    model.resize_token_embeddings(tokens, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        with torch.no_grad():
            layer.weight[before:] = layer.weight[:before].mean(dim=0)
