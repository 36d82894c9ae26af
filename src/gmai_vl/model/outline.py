"""A model without its weights: every shape, name and token count of the real one, and no memory."""

from pathlib import Path
from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, PreTrainedModel

from gmai_vl.foundation import UserError
from gmai_vl.model.build import from_parts
from gmai_vl.model.checkpoint import read_checkpoint
from gmai_vl.model.presets import ModelSettings, chosen_parts
from gmai_vl.model.vlm import Vlm, quiet_loading


def outline(settings: ModelSettings) -> Vlm:
    """Return what `build_model` would, with every weight on PyTorch's device `meta`, and a working processor.

    Raises UserError where a backbone or checkpoint is missing or does not fit; its weights are not opened.
    """
    chosen = chosen_parts(settings)
    with torch.device("meta"), quiet_loading():
        if chosen is None:
            return read_checkpoint(Path(str(settings.init)), _checkpoint_without_weights)
        return from_parts(chosen, settings.image_size, _without_weights)


def _without_weights(kind: Any, folder: Path, name: str, config: Any) -> PreTrainedModel:
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{name}: cannot be loaded: no safetensors in {folder}")
    # The auto classes have the public method, the classes of models themselves the other one.
    make = getattr(kind, "from_config", None) or kind._from_config
    try:
        return make(config, dtype=torch.float32)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{name}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error


def _checkpoint_without_weights(path: Path, config: LlavaConfig) -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration._from_config(config, dtype=torch.float32).eval()
