"""Which parts a model is put together from: named presets, or parts of the user's own."""

from dataclasses import dataclass
from typing import Any

from pydantic import field_validator, model_validator

from gmai_vl.foundation import Settings, nearest
from gmai_vl.model.backbones import backbone_record


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A vision tower and a language model, each a backbone name, a hub id or a folder."""

    vision: str
    language: str
    layers: tuple[int, ...] | None = None
    """Numbers of the layers of the language model that are kept, from 0; None for all."""


PRESETS = {
    "smol": Preset(vision="efficientnet-lite0", language="smollm2-135m"),
    "smol-12l": Preset(
        vision="efficientnet-lite0", language="smollm2-135m", layers=(0, 1, 2, 8, 11, 19, 21, 23, 24, 27, 28, 29)
    ),
    "tiny": Preset(vision="random:efficientnet", language="random:llama"),
    "tiny-clip": Preset(vision="random:clip", language="random:llama"),
    # arXiv 2411.14522: CLIP ViT-L/14 at 336 pixels, InternLM2.5-7B-chat.
    "gmai-vl-7b": Preset(vision="openai/clip-vit-large-patch14-336", language="internlm/internlm2_5-7b-chat"),
    "clip-qwen": Preset(vision="openai/clip-vit-large-patch14-336", language="Qwen/Qwen2.5-7B-Instruct"),
}
"""Name -> parts. `tiny` and `tiny-clip` are random and for tests; `smol-12l` must train its language part to speak: it
keeps the 12 layers of 30 that benchmarks/choose_layers.py finds to be missed least."""


class ModelSettings(Settings):
    """The `model` key of a recipe: a preset, or `vision` and `language`, or `init` to go on from a checkpoint."""

    preset: str | None = None
    vision: str | None = None
    language: str | None = None
    init: str | None = None
    image_size: int | None = None
    """Side of the square that the vision tower sees, in pixels; None for the tower's own."""

    @field_validator("preset")
    @classmethod
    def _known(cls, preset: str | None) -> str | None:
        if preset is not None and preset not in PRESETS:
            raise ValueError(f"no preset of that name; {nearest(preset, PRESETS)}")
        return preset

    @model_validator(mode="after")
    def _one_way(self) -> "ModelSettings":
        if (self.vision is None) != (self.language is None):
            raise ValueError("`vision` and `language` go together; give both")
        if sum(way is not None for way in (self.preset, self.vision, self.init)) != 1:
            raise ValueError("give one of `preset`, `vision` with `language`, or `init`")
        if self.init is not None and self.image_size is not None:
            raise ValueError("`image_size` comes with the checkpoint of `init`; leave it out")
        return self


def chosen_parts(settings: ModelSettings) -> Preset | None:
    """Return the parts that the settings name; None where they go on from a checkpoint."""
    if settings.preset is not None:
        return PRESETS[settings.preset]
    if settings.vision is not None and settings.language is not None:
        return Preset(vision=settings.vision, language=settings.language)
    return None


def backbone_records(settings: ModelSettings) -> dict[str, Any]:
    """Return what a provenance file says about where a model starts: its two backbones, or the checkpoint."""
    chosen = chosen_parts(settings)
    if chosen is None:
        return {"init": settings.init}
    records: dict[str, Any] = {part: backbone_record(getattr(chosen, part)) for part in ("vision", "language")}
    if chosen.layers is not None:
        records["language"]["layers"] = chosen.layers
    return records
