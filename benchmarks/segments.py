"""What leaving out the padding, and keeping freed memory, brings a training step on this machine.

Run: python benchmarks/segments.py [STEPS]. One process: the stock padded loss and ours take turns over the same batches
of 16 questions, of lengths as the quickstart's; then the same with freed memory kept. Prints medians and ratios.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable

import torch
import transformers
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence

from gmai_vl.model import IGNORED, Batch, ModelSettings, Vlm, build_model, collate, encode, loss_sum, set_trainable
from gmai_vl.records import ImageRef, Turn
from gmai_vl.training.memory import keep_freed_memory
from gmai_vl.training.optimizer import make_optimizer
from gmai_vl.training.precision import autocast, resolve_precision

WORDS = (10, 20, 25, 30, 40, 60)
CPU = torch.device("cpu")


def main(steps: int) -> None:
    vlm = build_model(ModelSettings(preset="smol-12l", image_size=128), seed=0)
    set_trainable(vlm.model, ("vision", "projector", "language"))
    vlm.model.train()
    optimizer = make_optimizer(vlm.model, dict.fromkeys(("vision", "projector", "language"), 1e-5), 0.0)
    batches = [batch_of(vlm, random.Random(number)) for number in range(steps + 2)]
    padding = 1 - sum(sum(batch.lengths) for batch in batches) / sum(16 * max(batch.lengths) for batch in batches)
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {resolve_precision('auto', CPU)}, ",
        end="",
    )
    print(f"{torch.get_num_threads()} threads, {steps} steps of 16 samples, {padding:.0%} padding")
    padded, row = both(vlm, optimizer, batches)
    keep_freed_memory()
    _, kept = both(vlm, optimizer, batches)
    print(f"stock, padded {padded:.2f} s a step; one row {row:.2f} s ({padded / row:.2f} x); ", end="")
    print(f"one row, freed memory kept {kept:.2f} s ({padded / kept:.2f} x)")
    fused, written_out = attention_backward(F.scaled_dot_product_attention), attention_backward(plain)
    print(f"attention of 70 tokens, backward: fused {fused * 1e3:.2f} ms, written out {written_out * 1e3:.2f} ms")


def batch_of(vlm: Vlm, rng: random.Random) -> Batch:
    texts = [" ".join(rng.choices(("liver", "lesion", "which", "left"), k=rng.choice(WORDS))) for _ in range(16)]
    turns = [[Turn("user", (ImageRef(0), text)), Turn("assistant", ("liver tumor",))] for text in texts]
    encoded = [encode(vlm.processor, conversation) for conversation in turns]
    return collate(vlm.processor, encoded, [torch.rand(3, 128, 128) for _ in turns])


def both(vlm: Vlm, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> tuple[float, float]:
    """Return the median seconds of a step of the stock loss and of ours, in turns; the first two are not counted."""
    times = [[seconds(vlm, optimizer, batch, loss) for loss in (stock, ours)] for batch in batches]
    padded, row = zip(*times[2:], strict=True)
    return statistics.median(padded), statistics.median(row)


def seconds(vlm: Vlm, optimizer: torch.optim.Optimizer, batch: Batch, loss: Callable[[Vlm, Batch], Tensor]) -> float:
    started = time.perf_counter()
    with autocast(resolve_precision("auto", CPU), CPU):
        total = loss(vlm, batch)
    total.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - started


def stock(vlm: Vlm, batch: Batch) -> Tensor:
    ids, mask = padded(batch.input_ids, batch.lengths, 0), padded(torch.ones_like(batch.labels), batch.lengths, 0)
    hidden = vlm.model.model(
        input_ids=ids, attention_mask=mask, pixel_values=batch.pixel_values, use_cache=False
    ).last_hidden_state[:, :-1]
    labels = padded(batch.labels, batch.lengths, IGNORED)[:, 1:]
    logits = vlm.model.lm_head(hidden[labels >= 0]).float()
    return F.cross_entropy(logits, labels[labels >= 0])


def padded(row: Tensor, lengths: tuple[int, ...], filler: int) -> Tensor:
    return pad_sequence(row.split(lengths), batch_first=True, padding_value=filler)


def ours(vlm: Vlm, batch: Batch) -> Tensor:
    total, count = loss_sum(vlm.model, batch)
    return total / count


def attention_backward(attend: Callable[..., Tensor]) -> float:
    kind = torch.bfloat16 if resolve_precision("auto", CPU) == "bf16" else torch.float32
    times = []
    for _ in range(200):
        states = [torch.randn(1, 9, 70, 64, dtype=kind, requires_grad=True) for _ in range(3)]
        total = attend(*states, is_causal=True).float().sum()
        started = time.perf_counter()
        total.backward()
        times.append(time.perf_counter() - started)
    return statistics.median(times[20:])


def plain(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    later = torch.ones(70, 70, dtype=torch.bool).triu(1)
    scores = (query @ key.transpose(2, 3) / 8).masked_fill(later, -torch.inf)
    return scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype) @ value


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
