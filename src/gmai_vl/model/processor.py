"""The processor of a model: tokenizer, template and image settings in one, as plain transformers loads them."""

from transformers import LlavaProcessor, PretrainedConfig, PreTrainedTokenizerBase
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from gmai_vl.model.chatml import CHAT_TEMPLATE
from gmai_vl.model.images import image_processor

LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3


def make_processor(tower: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> LlavaProcessor:
    """Return the processor for a vision tower of a config, CLIP's or EfficientNet-Lite's, and a prepared tokenizer."""
    mean, std = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if is_clip(tower) else (LITE_MEAN, LITE_STD)
    return LlavaProcessor(
        image_processor(tower.image_size, mean, std),
        tokenizer,
        patch_size=tower.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def is_clip(tower: PretrainedConfig) -> bool:
    """Say whether a config is of CLIP's vision tower."""
    return bool(tower.model_type == "clip_vision_model")
