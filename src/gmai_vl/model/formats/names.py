"""Names of weights in files: those of every LLaVA since 2023, which plain transformers, vLLM and llama.cpp look for."""

from transformers import LlavaConfig

LANGUAGE, VISION, PROJECTOR = "language_model.", "vision_tower.", "multi_modal_projector."
"""What they begin with."""


def name_in_file(name: str, config: LlavaConfig) -> str:
    """Return the name in files of a weight that the model has in memory under `name`.

    Files are older than transformers' present classes: the language model stands in them with its head, and what a
    CLIP tower holds in a `vision_model`.
    """
    tower = VISION + "vision_model." if config.vision_config.model_type == "clip_vision_model" else VISION
    for inside, in_file in (
        ("model.language_model.", LANGUAGE + "model."),
        ("model.vision_tower.", tower),
        ("model.multi_modal_projector.", PROJECTOR),
        ("lm_head.", LANGUAGE + "lm_head."),
    ):
        if name.startswith(inside):
            return in_file + name.removeprefix(inside)
    raise AssertionError(name)


def names_in_files(name: str, config: LlavaConfig) -> list[str]:
    """Return the names that a weight may have in files of others, by the version of transformers that wrote them."""
    own, inside = name_in_file(name, config), "vision_model."
    without = own.replace(VISION + inside, VISION)
    return [own, without, name, name.replace("model." + VISION, "model." + VISION + inside)]
