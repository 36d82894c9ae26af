"""What leaving out the padding, and keeping freed memory, brings a training step on this machine, and which attention.

Run: python benchmarks/segments.py [STEPS] [REPEATS]. One process: the stock padded loss and ours take turns over the
same batches of 16 questions, of lengths as the quickstart's; then the same with freed memory kept. Prints medians and
ratios. Then ways to attend within segments take turns, forward and backward of one layer, in bf16 and float32: a loop
with PyTorch's fused kernel, a loop with the same written out, ours (the one or the other by length), segments of like
length together as a padded batch, all of them under a block mask. Prints best and median processor time.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
import transformers
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence

from gmai_vl.model import IGNORED, Batch, ModelSettings, Vlm, build_model, collate, encode, loss_sum, set_trainable
from gmai_vl.model.attention import Segments, attend
from gmai_vl.records import ImageRef, Turn
from gmai_vl.training.memory import keep_freed_memory
from gmai_vl.training.optimizer import make_optimizer
from gmai_vl.training.precision import autocast, resolve_precision

WORDS = (10, 20, 25, 30, 40, 60)
CPU = torch.device("cpu")
chance = random.Random(0)
LENGTHS = {
    "many short": [70] * 30,
    "mixed": [round(64 * (700 / 64) ** chance.random()) for _ in range(12)],
    "few long": [1024] * 4,
}


def main(steps: int, repeats: int) -> None:
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
    for name, lengths in LENGTHS.items():
        for kind in (torch.bfloat16, torch.float32):
            compare_attention(name, lengths, kind, repeats)


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


def compare_attention(name: str, lengths: list[int], kind: torch.dtype, repeats: int) -> None:
    """Print what each way takes for 9 heads of width 64."""
    torch.manual_seed(0)
    tokens = sum(lengths)
    states = [torch.randn(1, tokens, 9, 64, dtype=kind).transpose(1, 2).requires_grad_() for _ in range(3)]
    mask = torch.block_diag(*(torch.ones(length, length).tril() for length in lengths)).bool()
    buckets = by_length(lengths)
    ways: dict[str, Callable[..., Tensor]] = {
        "fused": lambda *states: in_turn(fused, states, lengths),
        "written out": lambda *states: in_turn(written_out, states, lengths),
        "ours": lambda *states: attend(*states, Segments(lengths, CPU), scaling=0.125, dropout=0.0, window=None),
        "buckets": lambda *states: in_buckets(states, *buckets),
        "block mask": lambda *states: F.scaled_dot_product_attention(*states, attn_mask=mask).transpose(1, 2),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    results = [way(*states) for way in ways.values()]
    assert all(torch.allclose(result, results[0], atol=0.05 if kind == torch.bfloat16 else 1e-5) for result in results)
    pull = torch.randn_like(results[0])
    for _ in range(repeats):
        for what, way in ways.items():
            started = time.process_time()
            torch.autograd.grad(way(*states), states, pull)
            times[what].append(1e3 * (time.process_time() - started))
    shown = ", ".join(f"{what} {min(taken):.1f} / {statistics.median(taken):.1f}" for what, taken in times.items())
    print(f"{name}, {tokens} tokens, {kind}: {shown} ms")


def in_turn(attend_one: Callable[..., Tensor], states: Sequence[Tensor], lengths: list[int]) -> Tensor:
    parts = zip(*(state.split(lengths, dim=2) for state in states), strict=True)
    return torch.cat([attend_one(*part) for part in parts], dim=2).transpose(1, 2)


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    later = torch.ones(query.shape[-2], query.shape[-2], dtype=torch.bool).triu(1)
    scores = (query @ key.transpose(-1, -2) / 8).masked_fill(later, -torch.inf)
    return scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype) @ value


def by_length(lengths: list[int]) -> tuple[list[Tensor], Tensor]:
    """Return the tokens of each bucket, [segments, tokens], and where in all buckets the tokens of the row lie.

    The longest segment of a bucket is a fifth longer than the shortest at most; padding is its last token again.
    """
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if groups and lengths[groups[-1][0]] <= 1.2 * lengths[number]:
            groups[-1].append(number)
        else:
            groups.append([number])
    buckets: list[Tensor] = []
    places = torch.empty(sum(lengths), dtype=torch.long)
    for group in groups:
        before = sum(bucket.numel() for bucket in buckets)
        tokens = torch.arange(lengths[group[0]])
        buckets.append(torch.stack([starts[number] + tokens.clamp(max=lengths[number] - 1) for number in group]))
        for row, number in enumerate(group):
            own = tokens[: lengths[number]]
            places[starts[number] + own] = before + row * len(tokens) + own
    return buckets, places


def in_buckets(states: Sequence[Tensor], buckets: list[Tensor], places: Tensor) -> Tensor:
    attended = []
    for bucket in buckets:
        batch = [state[0].index_select(1, bucket.flatten()).unflatten(1, bucket.shape) for state in states]
        attended.append(written_out(*batch).flatten(1, 2))
    return torch.cat(attended, dim=1).index_select(1, places).transpose(0, 1)[None]


if __name__ == "__main__":
    main(*(int(number) for number in (sys.argv[1:] + ["20", "20"][len(sys.argv) - 1 :])))
