"""Small random models in the shapes of the CLIP presets, with tokenizers that have really learnt their merges."""

import random
from pathlib import Path

import torch
from internlm2_folder import write_llama_tokenizer, write_tokenizer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from gmai_vl.model import ModelSettings, Vlm, build_model
from gmai_vl.model.formats.gguf_tokenizer import _QWEN2
from gmai_vl.model.formats.internlm2_tokenizer import convert_tokenizer

_SEEN = (
    "the chest x-ray shows a round opacity in left upper lung field don't we'll 肺 部 结节 提示 感染 可能 pneumonia "
    "normal heart 12.5 mm 1998 Grade-III naïve café 🫁 (T2/FLAIR)"
)
WORDS = [*_SEEN.split(), "\n\n", "\t", "user\n", "assistant\n"]

SPLITS = {
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "qwen2": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
}


def texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of a few words each, in two languages, with digits, line breaks and emoji."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 12))) for _ in range(count)]


def byte_tokenizer(
    split: str, vocabulary: dict[str, int] | None = None, merges: list[tuple[str, str]] | None = None
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer that splits text in the way of that name; without merges it learns some."""
    bpe = Tokenizer(models.BPE(vocabulary, merges))
    bpe.pre_tokenizer = SPLITS[split]
    if split == "qwen2":
        bpe.normalizer = normalizers.NFC()
    bpe.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    if merges is None:
        bpe.train_from_iterator(texts(400), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


def small_model(folder: Path, kind: str) -> Vlm:
    """Put together a LLaVA of a small CLIP tower and a language model of a kind, with weights that f16 can hold.

    `smollm` and `gpt-2` are a Llama with tied embeddings; `qwen2` has biases; `sentencepiece` and `sentencepiece-blank`
    are a Llama with a tokenizer in InternLM2's form, `llama` one with that of Llama's checkpoints.
    """
    torch.manual_seed(0)
    folder.mkdir()
    size = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if kind == "llama":
        write_llama_tokenizer(folder / "language")
        tokenizer = AutoTokenizer.from_pretrained(folder / "language")
    elif kind.startswith("sentencepiece"):
        write_tokenizer(folder / "language", blank=kind.endswith("blank"))
        convert_tokenizer(folder / "language", folder / "language")
        tokenizer = AutoTokenizer.from_pretrained(folder / "language")
    else:
        tokenizer = byte_tokenizer(kind)
        tokenizer.save_pretrained(folder / "language")
    if kind == "qwen2":
        # More rows than tokens, as Qwen2.5 has.
        language = Qwen2ForCausalLM(Qwen2Config(**size, vocab_size=416, tie_word_embeddings=False))
    else:
        tied = kind in SPLITS
        language = LlamaForCausalLM(LlamaConfig(**size, vocab_size=len(tokenizer), tie_word_embeddings=tied))
    language.save_pretrained(folder / "language")
    tower = CLIPVisionConfig(
        image_size=56,
        patch_size=14,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        initializer_range=0.2,
    )
    CLIPVisionModel(tower).save_pretrained(folder / "vision")
    vlm = build_model(ModelSettings(vision=str(folder / "vision"), language=str(folder / "language")), seed=0)
    with torch.no_grad():
        for name, weight in vlm.model.named_parameters():
            if weight.ndim == 1:  # norms and biases begin as ones and zeros, which could be mistaken for each other
                weight += 0.2 * torch.randn_like(weight)
            if "multi_modal_projector.linear" in name and weight.ndim == 2:
                weight *= 5
            weight.copy_(weight.half().float())
    return vlm
