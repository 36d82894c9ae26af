"""Checkpoints: a folder that plain transformers loads, whole or absent, safetensors only."""

from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from gmai_vl.foundation import UserError, atomic_folder, write_json, write_text
from gmai_vl.model.formats.names import name_in_file
from gmai_vl.model.formats.official import is_official
from gmai_vl.model.images import image_side
from gmai_vl.model.segments import attend_within_segments
from gmai_vl.model.vlm import Vlm, quiet_loading

LARGEST_FILE = 5 * 10**9
"""Bytes of weights in one file; more go into several, with an index."""


def save_model(
    vlm: Vlm,
    path: Path,
    *,
    weights: dict[str, Tensor] | None = None,
    provenance: dict[str, Any] | None = None,
    card: str | None = None,
) -> None:
    """Write model and processor to the folder `path`, in place of what stood there.

    `weights`, by name, stand in for the model's own. `provenance` becomes provenance.json and `card`, Markdown,
    README.md.
    """
    with atomic_folder(path) as folder, quiet_loading():
        _save_weights(vlm.model, vlm.model.state_dict() if weights is None else weights, folder)
        config = copy(vlm.model.config)
        config.architectures, config.dtype = [LlavaForConditionalGeneration.__name__], vlm.model.dtype
        config.save_pretrained(folder)
        vlm.model.generation_config.save_pretrained(folder)
        vlm.processor.save_pretrained(folder)
        # Where llama.cpp's converter and older loaders look for the image settings.
        vlm.processor.image_processor.save_pretrained(folder)
        if provenance is not None:
            write_json(folder / "provenance.json", provenance)
        if card is not None:
            write_text(folder / "README.md", card)


def _save_weights(model: LlavaForConditionalGeneration, weights: dict[str, Tensor], folder: Path) -> None:
    """Write weights under the names that loaders look for."""
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    in_files = {
        name_in_file(name, model.config): weight.contiguous() for name, weight in weights.items() if name not in tied
    }
    save_torch_state_dict(in_files, folder, max_shard_size=LARGEST_FILE)


Precision = Literal["fp32", "bf16"]

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_model(path: Path, *, dtype: torch.dtype | None = None) -> Vlm:
    """Load a checkpoint from a folder, in evaluation mode, on the CPU, in `dtype` or as it was saved.

    Raises UserError where the folder is no complete checkpoint of a LLaVA model in safetensors.
    """
    return read_checkpoint(Path(path), partial(_with_weights, dtype=dtype))


def load_to_answer(path: Path, precision: Precision | None = None) -> Vlm:
    """Load a checkpoint to ask it: on a GPU where there is one, in a precision or as it was saved.

    Raises UserError as `load_model` does.
    """
    vlm = load_model(path, dtype=None if precision is None else DTYPES[precision])
    vlm.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return vlm


def read_checkpoint(path: Path, model_of: Callable[[Path, LlavaConfig], LlavaForConditionalGeneration]) -> Vlm:
    """Return the model that `model_of` makes of a checkpoint's folder and config, with the checkpoint's processor.

    Raises UserError where the folder is no checkpoint of a LLaVA model in safetensors.
    """
    if not (path / "config.json").is_file():
        raise UserError(f"{path}: no config.json in there; give the folder of a checkpoint")
    if is_official(path):
        raise UserError(
            f"{path}: is an official GMAI-VL checkpoint; give the folder that `gmai backbones pull {path}` prints"
        )
    if not any(path.glob("*.safetensors")):
        raise UserError(f"{path}: no safetensors in there; other weight files are not read")
    try:
        with quiet_loading():
            config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
            if config.model_type != "llava":
                raise UserError(f"{path}: is a `{config.model_type}` model; a LLaVA checkpoint is needed")
            model = model_of(path, config)
            processor = AutoProcessor.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    _check_fit(path, config, processor)
    attend_within_segments(model)
    return Vlm(model, processor)


def _check_fit(path: Path, config: LlavaConfig, processor: LlavaProcessor) -> None:
    """Raise UserError where the processor of a checkpoint is not one for its model."""
    token = processor.tokenizer.get_vocab().get(processor.image_token)
    if token != config.image_token_id:
        raise UserError(
            f"{path}: `{processor.image_token}` is token {token} of its tokenizer, but config.json has "
            f"image_token_index {config.image_token_id}; take both from one checkpoint"
        )
    tower = config.vision_config
    seen, told = (tower.image_size, tower.patch_size), (image_side(processor), processor.patch_size)
    if seen != told:
        raise UserError(
            f"{path}: its vision tower sees {seen[0]} pixels in patches of {seen[1]}, its processor makes {told[0]} in "
            f"patches of {told[1]}; take both from one checkpoint"
        )
    if not processor.chat_template:
        raise UserError(f"{path}: has no chat template: nothing says how a conversation with it looks; add one")


def _with_weights(path: Path, config: LlavaConfig, dtype: torch.dtype | None) -> LlavaForConditionalGeneration:
    model, report = LlavaForConditionalGeneration.from_pretrained(
        path,
        config=config,
        dtype=dtype or "auto",
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    # transformers would go on with random weights.
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"{path}: {len(missing)} weights are missing, the first is {missing[0]}; save it again")
    return model
