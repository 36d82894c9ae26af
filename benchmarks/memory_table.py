"""Which stage of which preset fits which GPU, by arithmetic: the longest pack, in tokens, that trains on it.

    python benchmarks/memory_table.py

Nothing is loaded and nothing measured; `gmai plan` works with the same formulas, which tests hold against measured
peaks at toy size on a CPU. Layers are computed again in the backward of all parts that gradients pass through; a pack
shows up to 4 images, half of its other tokens are learnt; 8 % of a GPU stay free. bf16, fp32 weights, AdamW.
"""

from collections.abc import Collection

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config

from gmai_vl import __version__
from gmai_vl.training.arithmetic import Adapters, Placement, largest_pack
from gmai_vl.training.recipe import Part
from gmai_vl.training.survey import survey

GPUS = {24: "24 GB", 40: "40 GB", 80: "80 GB", 141: "141 GB"}
CLIP = CLIPVisionConfig(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    image_size=336,
    patch_size=14,
)
LANGUAGES = {
    "gmai-vl-7b": LlamaConfig(  # InternLM2.5-7B
        vocab_size=92_552,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    ),
    "clip-qwen": Qwen2Config(  # Qwen2.5-7B
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    ),
}
ALL: tuple[Part, ...] = ("vision", "projector", "language")
STAGES: dict[str, tuple[tuple[Part, ...], tuple[Part, ...]]] = {
    "I": (("projector",), ()),
    "II": (("vision", "projector"), ()),
    "III, LoRA of rank 64 in the language model": (ALL, ("language",)),
    "III": (ALL, ()),
}
"""Stage -> parts that learn, and those of them that learn by adapters."""


def main() -> None:
    print(f"gmai-vl {__version__}; longest pack in tokens, `-` where not even 256 fit\n")
    print(f"| preset | stage | GPUs | {' | '.join(GPUS.values())} |\n|---|---|---|{'---|' * len(GPUS)}")
    for preset, language in LANGUAGES.items():
        config = LlavaConfig(vision_config=CLIP, text_config=language, vision_feature_layer=-2)
        with torch.device("meta"):
            numbers = survey(LlavaForConditionalGeneration(config))
        for stage, (train, adapted) in STAGES.items():
            for devices in (1, 8):
                placement = Placement(
                    devices=devices, checkpointing=passed_through(train), lora=Adapters(parts=adapted, rank=64)
                )
                fits = [
                    largest_pack(numbers, placement, size * 10**9, train=train, images=4, supervised=0.5)
                    for size in GPUS
                ]
                told = " | ".join(f"{tokens:,}" if tokens else "-" for tokens in fits)
                print(f"| `{preset}` | {stage} | {devices} | {told} |")


def passed_through(train: Collection[Part]) -> tuple[Part, ...]:
    """Return the parts whose layers gradients pass through: the language model always, it stands behind the others."""
    return ("vision", "language") if "vision" in train else ("language",)


if __name__ == "__main__":
    main()
