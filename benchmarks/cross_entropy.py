"""What cutting the logits into pieces costs a training step in time and saves it in memory, by the size of a piece.

Run: python benchmarks/cross_entropy.py [REPEATS] [SUPERVISED]. One process on two vocabularies, with SUPERVISED tokens
(2000): the plain loss and ours take turns, forward and backward through the output head. Prints the best and the median
processor time, of which what else the machine does is no part, and the median of the most memory above what is there
before (Linux).
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from gmai_vl.model import Batch, loss, loss_sum
from gmai_vl.model.segments import attend_within_segments, hidden_states
from gmai_vl.training.precision import Precision, autocast, resolve_precision

CPU = torch.device("cpu")
SIZES = {"SmolLM2-135M": (49_152, 576), "Qwen2.5-0.5B": (151_936, 896)}
MEBIBYTES = (64, 128, 256, 512)


def main(repeats: int, supervised: int) -> None:
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads")
    for name, (vocabulary, width) in SIZES.items():
        model, batch = model_of(vocabulary, width), batch_of(vocabulary, supervised)
        for precision in sorted({resolve_precision("auto", CPU), "fp32"}):
            print(f"{name}: {vocabulary} words, width {width}, {supervised} supervised tokens, {precision}")
            compare(model, batch, precision, repeats)


def compare(model: LlavaForConditionalGeneration, batch: Batch, precision: Precision, repeats: int) -> None:
    runs: dict[str, list[tuple[float, float]]] = {}
    for _ in range(repeats + 1):
        runs.setdefault("plain", []).append(measured(plain, model, batch, precision))
        for size in MEBIBYTES:
            loss.LOGITS_AT_ONCE = size * 2**18
            runs.setdefault(f"pieces of {size} MiB", []).append(measured(ours, model, batch, precision))
    for what, taken in runs.items():
        seconds, mebibytes = zip(*taken[1:], strict=True)
        print(
            f"  {what}: best {min(seconds):.2f} s, median {statistics.median(seconds):.2f} s, "
            f"{statistics.median(mebibytes):.0f} MiB"
        )


def model_of(vocabulary: int, width: int) -> LlavaForConditionalGeneration:
    """A model of next to no layers, of which the output head alone learns."""
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=False,
    )
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=5))
    attend_within_segments(model)
    model.requires_grad_(False)
    model.model.language_model.norm.requires_grad_()
    model.lm_head.requires_grad_()
    return model


def batch_of(vocabulary: int, supervised: int) -> Batch:
    words = torch.randint(10, vocabulary, (supervised + 1,), generator=torch.Generator().manual_seed(0))
    return Batch(words, words, (supervised + 1,), None)


def measured(
    take: Callable[[LlavaForConditionalGeneration, Batch], Tensor],
    model: LlavaForConditionalGeneration,
    batch: Batch,
    precision: Precision,
) -> tuple[float, float]:
    """Return processor seconds and MiB above those before of a forward and a backward."""
    model.zero_grad()
    Path("/proc/self/clear_refs").write_text("5")
    before, started = mebibytes("VmRSS"), time.process_time()
    with autocast(precision, CPU):
        total = take(model, batch)
    total.backward()
    return time.process_time() - started, mebibytes("VmHWM") - before


def plain(model: LlavaForConditionalGeneration, batch: Batch) -> Tensor:
    logits = model.lm_head(hidden_states(model, batch)[:-1]).float()
    return F.cross_entropy(logits, batch.labels[1:], reduction="sum")


def ours(model: LlavaForConditionalGeneration, batch: Batch) -> Tensor:
    return loss_sum(model, batch)[0]


def mebibytes(name: str) -> float:
    """Return a line of /proc/self/status, which is in KiB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith(name))


if __name__ == "__main__":
    main(*(int(number) for number in (sys.argv[1:] + ["5", "2000"][len(sys.argv) - 1 :])))
