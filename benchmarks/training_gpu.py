"""What the trainer does on one GPU: real tokens a second, MFU and memory, with a model of GMAI-VL's size.

    python benchmarks/training_gpu.py [--out benchmarks/results/training_gpu.json]
    python benchmarks/training_gpu.py --toy          the same at toy size, on a CPU too

Random weights and made-up samples, so nothing is to be fetched. A model shaped like GMAI-VL-7B (CLIP ViT-L/14-336,
InternLM2.5-7B in Llama's layout) goes through stages I and II, and III whole where the estimate says that it fits, else
with LoRA and by a model of 3 billion; packs of 4,096 and 8,192 tokens. Then, in stage II: best fit, next-fit and padded
batches; PyTorch's varlen kernel, FlexAttention and a dense mask. Then 200 steps whose loss must fall, and a run that
stops and goes on to the same bits. Real tokens are of text and images, not of padding. MFU is of what is computed, with
and without what gradient checkpointing computes again.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from gmai_vl import __version__
from gmai_vl.model import IGNORED, Batch, loss_sum
from gmai_vl.model.attention import Segments
from gmai_vl.model.segments import attend_within_segments
from gmai_vl.training.adapters import add_adapters
from gmai_vl.training.arithmetic import (
    NO_ADAPTERS,
    Adapters,
    Load,
    Placement,
    flops_of_step,
    load_of,
    memory_of_step,
    peak_flops,
)
from gmai_vl.training.dealing import Slot
from gmai_vl.training.gradients import backward
from gmai_vl.training.modes import set_modes
from gmai_vl.training.optimizer import clip_gradients, make_optimizer
from gmai_vl.training.packing import Packing, PackLimits, pack
from gmai_vl.training.precision import resolve_precision
from gmai_vl.training.ranks import Ranks
from gmai_vl.training.recipe import Part, Stage
from gmai_vl.training.sharding import Learner, shard
from gmai_vl.training.state import StateWriter, load_state, seed_chance
from gmai_vl.training.survey import survey

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ALONE = Ranks(device=DEVICE)
PRECISION = resolve_precision("auto", DEVICE)
STAGES = {"I": ["projector"], "II": ["vision", "projector"], "III": ["vision", "projector", "language"]}
RECOMPUTED: tuple[Part, ...] = ("vision", "language")
WARM_UP, TIMED = 2, 5


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a model and of what it is fed."""

    name: str
    width: int
    layers: int
    heads: int
    key_heads: int
    inner: int
    words: int
    vision: tuple[int, int, int, int, int] = (1024, 24, 16, 336, 14)
    """Width, layers, heads, image side, patch side."""

    packs: tuple[int, ...] = (4096, 8192)
    text: float = 4.9
    """Mean of the logarithm of a sample's text tokens."""

    @property
    def image_tokens(self) -> int:
        """Tokens of one image."""
        return (self.vision[3] // self.vision[4]) ** 2


SEVEN = Shape(name="7B", width=4096, layers=32, heads=32, key_heads=8, inner=14336, words=92_544)
THREE = Shape(name="3B", width=3072, layers=26, heads=24, key_heads=8, inner=8192, words=92_544)
TOY = Shape(
    name="toy",
    width=64,
    layers=2,
    heads=4,
    key_heads=2,
    inner=128,
    words=300,
    vision=(32, 3, 2, 32, 8),
    packs=(128, 256),
    text=2.5,
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    large, small = (TOY, TOY) if given.toy else (SEVEN, THREE)
    started = time.perf_counter()
    results: list[dict[str, Any]] = []

    def note(what: str, **values: Any) -> None:
        results.append({"what": what} | values)
        told = ", ".join(f"{key} {_short(value)}" for key, value in values.items())
        print(f"{time.perf_counter() - started:6.0f} s  {what}: {told}", flush=True)

    for stage in ("I", "II"):
        for length in large.packs:
            note(f"{large.name} stage {stage}", **speed(large, stage, length))
    estimate = estimated(large, "III", large.packs[0])
    note(f"{large.name} stage III, estimate", **{"GiB": estimate, "GiB of the device": device_bytes() / 2**30})
    if estimate * 2**30 < 0.92 * device_bytes():
        note(f"{large.name} stage III", **speed(large, "III", large.packs[0]))
    note(f"{large.name} stage III, LoRA 64", **speed(large, "III", large.packs[0], lora=64))
    note(f"{small.name} stage III", **speed(small, "III", small.packs[0]))
    for packing in ("bfd", "next-fit", "padded"):
        note(f"{large.name} stage II, {packing}", **speed(large, "II", large.packs[0], packing=packing))
    for way in ("varlen", "flex", "mask") if DEVICE.type == "cuda" else ("loop", "mask"):
        note(f"{large.name} stage II, attention by {way}", **speed(large, "II", large.packs[0], way=way))
    note(f"{small.name} stage III, 200 steps on 4 packs", **falls(small))
    note("stopped and gone on", **goes_on(TOY))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps({"where": where(), "results": results}, indent=1) + "\n")


def new_model(shape: Shape, device: torch.device = DEVICE) -> LlavaForConditionalGeneration:
    width, layers, heads, side, patch_side = shape.vision
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            image_size=side,
            patch_size=patch_side,
        ),
        text_config=LlamaConfig(
            vocab_size=shape.words,
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_heads,
            max_position_embeddings=32_768,
            tie_word_embeddings=False,
        ),
        image_token_index=0,
        image_seq_length=shape.image_tokens,
    )
    torch.manual_seed(0)
    with device:
        model = LlavaForConditionalGeneration(config)
    attend_within_segments(model)
    return model


def new_learner(shape: Shape, stage: str, lora: int = 0) -> tuple[Learner, Stage]:
    keys: dict[str, Any] = {"name": stage, "train": STAGES[stage], "learning_rate": 1e-4, "global_batch": 1}
    keys |= {"max_steps": 1, "gradient_checkpointing": RECOMPUTED, "mixture": [{"corpus": "none"}]}
    keys |= {"lora": {"parts": ["language"], "rank": lora}} if lora else {}
    chosen = Stage.model_validate(keys)
    model = new_model(shape)
    if chosen.lora:
        add_adapters(model, chosen.lora, seed=0)
    learner = shard(model, ALONE, "full", PRECISION)
    learner.learn(chosen.train, adapted=chosen.lora.parts if chosen.lora else ())
    set_modes(learner.model, chosen)
    return learner, chosen


def made_up(shape: Shape, length: int, packing: str, count: int) -> list[list[tuple[int, int]]]:
    """Return `count` rows of samples, each its tokens and images: seven in ten show one."""
    chance = np.random.default_rng(0)
    samples = 40 * count
    images = (chance.random(samples) < 0.7).astype(np.int64)
    text = np.clip(chance.lognormal(shape.text, 0.75, samples), 4, length // 3).astype(np.int64)
    tokens = text + images * shape.image_tokens
    if packing == "padded":
        per_row = max(1, length // int(tokens.mean() * 1.4))
        rows = [range(start, start + per_row) for start in range(0, per_row * count, per_row)]
    else:
        kind: Packing = "next-fit" if packing == "next-fit" else "bfd"
        limits = PackLimits(packing=kind, length=length, most_images=16, too_long="quarantine")
        packs = pack(tokens, images, limits, seed=0)
        rows = [packs[number] for number in np.random.default_rng(1).permutation(len(packs))[:count]]
    return [[(int(tokens[index]), int(images[index])) for index in row] for row in rows]


def batch_of(shape: Shape, row: Sequence[tuple[int, int]], *, padded: bool = False) -> Batch:
    """Return random tokens and pixels of these sizes; half of the text is supervised."""
    generator = torch.Generator().manual_seed(len(row))
    longest = max(tokens for tokens, _ in row)
    ids, labels, lengths = [], [], []
    for tokens, images in row:
        shown = images * shape.image_tokens
        own = torch.randint(1, shape.words, (tokens,), generator=generator)
        own[:shown] = 0
        said = own.clone()
        said[: shown + (tokens - shown) // 2] = IGNORED
        empty = longest - tokens if padded else 0
        ids.append(F.pad(own, (0, empty), value=1))
        labels.append(F.pad(said, (0, empty), value=IGNORED))
        lengths.append(tokens + empty)
    images = sum(shown for _, shown in row)
    side = shape.vision[3]
    pixels = torch.randn(images, 3, side, side, generator=generator) if images else None
    return Batch(torch.cat(ids), torch.cat(labels), tuple(lengths), pixels)


def take_step(learner: Learner, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    supervised = int((batch.labels != IGNORED).sum())
    (loss,) = backward(learner, loss_sum, [Slot(0, True)], [batch], supervised, 1)
    clip_gradients(optimizer, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss / supervised


def speed(
    shape: Shape, stage: str, length: int, *, packing: str = "bfd", lora: int = 0, way: str | None = None
) -> dict[str, Any]:
    """Return what a step on one pack does, the median of some; a step that does not fit is told, not hidden."""
    rows = made_up(shape, length, packing, WARM_UP + TIMED)
    try:
        learner, chosen = new_learner(shape, stage, lora)
        optimizer = make_optimizer(learner.model, chosen.rates, 0.0)
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds, tokens, model_flops, hardware_flops = [], [], [], []
        numbers = survey(new_model(shape, torch.device("meta")))
        with attending(way):
            for row in rows:
                batch = batch_of(shape, row, padded=packing == "padded")
                began = time.perf_counter()
                take_step(learner, optimizer, batch)
                if DEVICE.type == "cuda":
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - began)
                tokens.append(sum(count for count, _ in row))
                adapters = Adapters(parts=("language",), rank=lora) if lora else NO_ADAPTERS
                cost = flops_of_step(
                    numbers, load(row), train=chosen.train, lora=adapters, checkpointing=chosen.gradient_checkpointing
                )
                model_flops.append(cost.model)
                hardware_flops.append(cost.hardware)
    except torch.OutOfMemoryError as error:
        return {"pack": length, "out of memory": str(error).splitlines()[0]}
    finally:
        learner = optimizer = None  # type: ignore[assignment]
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()
    spent = sum(seconds[WARM_UP:])
    told: dict[str, Any] = {
        "pack": length,
        "real tokens/s": sum(tokens[WARM_UP:]) / spent,
        "seconds a step": statistics.median(seconds[WARM_UP:]),
    }
    if peak := peak_flops(DEVICE):
        told["MFU, hardware"] = sum(hardware_flops[WARM_UP:]) / spent / peak
        told["MFU, model"] = sum(model_flops[WARM_UP:]) / spent / peak
    if DEVICE.type == "cuda":
        told["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return told


def load(row: Sequence[tuple[int, int]]) -> Load:
    images = sum(shown for _, shown in row)
    supervised = sum(tokens for tokens, _ in row) // 4
    return load_of([tokens for tokens, _ in row], images=images, supervised=supervised)


def estimated(shape: Shape, stage: str, length: int) -> float:
    placement = Placement(precision=PRECISION, checkpointing=RECOMPUTED)
    whole = load_of([length // 4] * 4, images=4, supervised=length // 4)
    return (
        memory_of_step(survey(new_model(shape, torch.device("meta"))), placement, whole, train=STAGES[stage]).total
        / 2**30
    )


def device_bytes() -> int:
    if DEVICE.type == "cuda":
        return torch.cuda.get_device_properties(DEVICE).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def attending(way: str | None) -> AbstractContextManager[Any]:
    """Give a context in which the language model attends in one way only; None for the one that it chooses."""
    if way is None:
        return nullcontext()
    if way == "mask":
        return patch("gmai_vl.model.segments.attend", _under_a_mask)
    return patch("gmai_vl.model.attention.way_to_attend", lambda *_: way)


def _under_a_mask(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, *, scaling: float, dropout: float, window: int | None
) -> Tensor:
    segments.attended += 1
    lengths = torch.tensor(segments.lengths, device=query.device)
    number = torch.arange(len(lengths), device=query.device).repeat_interleave(lengths)
    sees = (number[:, None] == number).tril()
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    query, key = query.to(value.dtype), key.to(value.dtype)
    return F.scaled_dot_product_attention(query, key, value, sees, scale=scaling).transpose(1, 2)


def falls(shape: Shape) -> dict[str, Any]:
    learner, chosen = new_learner(shape, "III")
    optimizer = make_optimizer(learner.model, dict.fromkeys(chosen.train, 1e-3 if shape is TOY else 1e-4), 0.0)
    batches = [batch_of(shape, row) for row in made_up(shape, shape.packs[0], "bfd", 4)]
    losses = [take_step(learner, optimizer, batches[number % 4]) for number in range(200)]
    first, last = statistics.mean(losses[:4]), statistics.mean(losses[-4:])
    return {"loss of the first 4": first, "of the last 4": last, "fell": last < 0.9 * first}


def goes_on(shape: Shape) -> dict[str, Any]:
    """Train six steps, and three and three with a state between; say whether the weights are the same to the bit."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    batches = [batch_of(shape, row) for row in made_up(shape, shape.packs[0], "bfd", 6)]
    with tempfile.TemporaryDirectory() as folder:
        ends = []
        for goes_on_from in (0, 3):
            learner, chosen = new_learner(shape, "III")
            optimizer = make_optimizer(learner.model, chosen.rates, 0.0)
            seed_chance(0, 0)
            if goes_on_from:
                load_state(Path(folder) / "state" / "trial-3", learner, optimizer, ALONE, seed=0)
            with StateWriter(Path(folder), ALONE) as states:
                for number in range(goes_on_from, 6):
                    if number == 3 and not goes_on_from:
                        states.save("trial", 3, learner, optimizer, {})
                    take_step(learner, optimizer, batches[number])
            ends.append([weight.detach().cpu() for weight in learner.model.parameters()])
    torch.use_deterministic_algorithms(False)
    return {"bit-equal": all(torch.equal(one, other) for one, other in zip(*ends, strict=True))}


def where() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or "cpu",
        "command": " ".join(sys.argv),
        "commit": commit,
        "gmai-vl": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "precision": PRECISION,
        "shapes": json.dumps([asdict(shape) for shape in (SEVEN, THREE, TOY)]),
    }


def _short(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
