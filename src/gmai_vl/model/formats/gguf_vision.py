"""The vision tower and projector of a checkpoint as llama.cpp describes them, in a file of their own (`mmproj`)."""

from collections.abc import Iterator
from pathlib import Path

from gguf import MODEL_ARCH, GGUFWriter, TensorNameMap, get_tensor_name_map
from transformers import LlavaConfig

from gmai_vl.foundation import UserError
from gmai_vl.model.formats.gguf_weights import Part, Weight
from gmai_vl.model.processor import is_clip
from gmai_vl.model.vlm import Vlm

_TOWER, _PROJECTOR = "model.vision_tower.", "model.multi_modal_projector."

_NAMES_OF_PROJECTOR = {"linear_1": "mm.0", "linear_2": "mm.2"}
"""Places of the two layers in LLaVA's first code, with GELU between them as 1."""


def vision_part(vlm: Vlm, place: Path) -> Part:
    """Return what a GGUF file says about the vision tower and projector of a checkpoint.

    Raises UserError, naming the checkpoint `place`, where llama.cpp has no such tower.
    """
    config = vlm.model.config
    tower = config.vision_config
    if not is_clip(tower):
        raise UserError(f"{place}: a `{tower.model_type}` vision tower has no form in GGUF; CLIP towers have")
    if tower.hidden_act not in ("quick_gelu", "gelu"):
        raise UserError(f"{place}: a vision tower with activation `{tower.hidden_act}` has no form in GGUF")
    if config.projector_hidden_act != "gelu" or not config.multimodal_projector_bias:
        raise UserError(f"{place}: a projector without bias, or with another activation than gelu, has no form in GGUF")
    if config.vision_feature_select_strategy != "default" or not isinstance(config.vision_feature_layer, int):
        raise UserError(f"{place}: features with the class token, or of several layers, have no form in GGUF")

    def describe(writer: GGUFWriter) -> None:
        _describe(writer, config, vlm)

    return Part("clip", describe, list(_weights(vlm, place)))


def _describe(writer: GGUFWriter, config: LlavaConfig, vlm: Vlm) -> None:
    tower, images = config.vision_config, vlm.processor.image_processor
    writer.add_clip_has_vision_encoder(True)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_image_size(tower.image_size)
    writer.add_vision_patch_size(tower.patch_size)
    writer.add_vision_embedding_length(tower.hidden_size)
    writer.add_vision_feed_forward_length(tower.intermediate_size)
    writer.add_vision_projection_dim(config.text_config.hidden_size)
    writer.add_vision_block_count(tower.num_hidden_layers)
    writer.add_vision_head_count(tower.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(tower.layer_norm_eps)
    writer.add_vision_use_gelu(tower.hidden_act == "gelu")
    writer.add_vision_image_mean(images.image_mean)
    writer.add_vision_image_std(images.image_std)
    # Counted from 0, the input of the first layer. Said outright: llama.cpp's own choice is the second last.
    layer = config.vision_feature_layer
    writer.add_array("clip.vision.feature_layer", [layer + tower.num_hidden_layers + 1 if layer < 0 else layer])


def _weights(vlm: Vlm, place: Path) -> Iterator[Weight]:
    names = get_tensor_name_map(MODEL_ARCH.MMPROJ, vlm.model.config.vision_config.num_hidden_layers)
    for name, weight in vlm.model.state_dict().items():
        # llama.cpp would apply the last norm where it finds one; LLaVA's features are taken before it.
        if name.startswith((_TOWER, _PROJECTOR)) and ".post_layernorm." not in name:
            yield Weight(name, _name(name, names, place), tuple(weight.shape))


def _name(name: str, names: TensorNameMap, place: Path) -> str:
    if name.startswith(_PROJECTOR):
        layer, _, kind = name.removeprefix(_PROJECTOR).partition(".")
        return f"{_NAMES_OF_PROJECTOR[layer]}.{kind}"
    inside = name.removeprefix(_TOWER).removeprefix("vision_model.")
    theirs = names.get_name(f"vision_tower.vision_model.{inside}", try_suffixes=(".weight", ".bias"))
    if theirs is None:
        raise UserError(f"{place}: weight {name} has no name in GGUF")
    return theirs
