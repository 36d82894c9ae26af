"""Real tokens a second of this trainer and of Hugging Face's Trainer, same model and samples, in one run.

    python benchmarks/training.py CORPUS [CORPUS ...] [--steps 12] [--rounds 3] [--preset smol-12l]

Each way goes once over the same samples, 16 a step, in each of the three stages of GMAI-VL: padded in random order (the
Trainer's default), padded with samples of like length together (`group_by_length`), ours, and ours on packs. A real
token is one of text or image, not of padding. Each pass loads every image once; its first step is not counted. Prints
the median over the rounds, and its ratio to the padded default of the same round.
"""

import argparse
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from gmai_vl import __version__
from gmai_vl.corpus import Corpus
from gmai_vl.model import IGNORED, ModelSettings, Vlm, build_model, set_trainable
from gmai_vl.training.feed import LoadImage, image_loader
from gmai_vl.training.fit import fitted
from gmai_vl.training.loop import Run, run_stage
from gmai_vl.training.memory import keep_freed_memory
from gmai_vl.training.mixture import Mixture, training_mixture
from gmai_vl.training.packing import PackLimits
from gmai_vl.training.precision import resolve_precision
from gmai_vl.training.ranks import Ranks
from gmai_vl.training.recipe import Part, Stage
from gmai_vl.training.sharding import shard
from gmai_vl.training.state import StateWriter
from gmai_vl.training.telemetry import RunLog, read_log
from gmai_vl.training.tokens import open_tokens

BATCH = 16
STAGES: dict[str, tuple[Part, ...]] = {
    "I projector": ("projector",),
    "II vision, projector": ("vision", "projector"),
    "III all": ("vision", "projector", "language"),
}
WAYS = ("Trainer, padded", "Trainer, like lengths", "ours", "ours, packed")
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="smol-12l")
    given = parser.parse_args()
    keep_freed_memory()
    vlm = build_model(
        ModelSettings(preset=given.preset, image_size=128 if given.preset.startswith("smol") else None), seed=0
    )
    mixture = samples(given.corpora, vlm, given.steps * BATCH)
    tokens = mixture.numbers("tokens")
    print(
        f"gmai-vl {__version__}, torch {torch.__version__}, transformers {transformers.__version__}, {given.preset}, "
        f"{resolve_precision('auto', CPU)}, {torch.get_num_threads()} threads; {len(mixture)} samples of "
        f"{tokens.min()} to {tokens.max()} tokens, {np.median(tokens):.0f} in the middle"
    )
    speeds: dict[tuple[str, str], list[float]] = {(stage, way): [] for stage in STAGES for way in WAYS}
    for number in range(given.rounds):
        for stage in STAGES:
            for place in range(len(WAYS)):  # another way first in each round
                way = WAYS[(place + number) % len(WAYS)]
                speeds[stage, way].append(speed(way, STAGES[stage], given.preset, mixture, number))
    for stage in STAGES:
        default = speeds[stage, WAYS[0]]
        for way in WAYS:
            ratios = [mine / theirs for mine, theirs in zip(speeds[stage, way], default, strict=True)]
            print(f"{stage:<22}{way:<24}{statistics.median(speeds[stage, way]):>8,.0f} tokens/s", end="")
            print(f"{statistics.median(ratios):>8.2f} x   (rounds: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")


def new_model(preset: str) -> Vlm:
    return build_model(ModelSettings(preset=preset, image_size=128 if preset.startswith("smol") else None), seed=0)


def samples(folders: list[Path], vlm: Vlm, count: int) -> Mixture:
    """Return `count` samples that chance takes from all corpora together."""
    stores = {str(folder): open_tokens(Corpus(folder), vlm.processor) for folder in folders}
    stage = stage_of(("projector",), [{"corpus": name} for name in stores])
    every = training_mixture(stage, stores, seed=0)
    return every[np.random.default_rng(0).permutation(len(every))[:count]]


def stage_of(train: tuple[Part, ...], mixture: list[dict[str, str]]) -> Stage:
    keys = {"name": "stage", "train": train, "learning_rate": 1e-5, "global_batch": BATCH, "epochs": 1}
    return Stage.model_validate(keys | {"mixture": mixture})


def speed(way: str, train: tuple[Part, ...], preset: str, mixture: Mixture, seed: int) -> float:
    """Return the real tokens a second of one pass, with a new model."""
    gc.collect()  # a Trainer refers to itself, and with it to its model
    vlm = new_model(preset)
    load_image = image_loader(vlm.processor)
    with tempfile.TemporaryDirectory() as folder:
        if way.startswith("ours"):
            return speed_of_ours(vlm, train, mixture, seed, Path(folder), packed=way.endswith("packed"))
        return speed_of_trainer(vlm, train, mixture, seed, folder, load_image, grouped=way.endswith("lengths"))


def speed_of_ours(vlm: Vlm, train: tuple[Part, ...], mixture: Mixture, seed: int, out: Path, *, packed: bool) -> float:
    limits = PackLimits(packing="bfd", length=2048, most_images=64, too_long="cut") if packed else None
    stage = stage_of(train, [{"corpus": "any"}])
    if packed:
        per_pack = 2048 / float(mixture.numbers("tokens").mean())
        stage = stage.model_copy(update={"global_batch": max(1, round(BATCH / per_pack))})
    ranks = Ranks(device=CPU)
    with RunLog(out) as log, StateWriter(out, ranks) as states:
        learner = shard(vlm.model, ranks, "full", resolve_precision("auto", CPU))
        run = Run(
            vlm=vlm,
            learner=learner,
            seed=seed,
            limits=limits,
            log=log,
            states=states,
            save_every=10**9,
            stop_at_leap=None,
            survey=None,
        )
        run_stage(run, stage, fitted(vlm.processor, mixture, limits, "stage"), None)
    steps = [row for row in read_log(out) if row["event"] == "step"][1:]
    return sum(row["tokens"] for row in steps) / sum(row["seconds"] for row in steps)


class Conversations(Dataset[dict[str, Any]]):
    """The samples as the Trainer takes them."""

    def __init__(self, mixture: Mixture, load_image: LoadImage) -> None:
        self.mixture, self.load_image = mixture, load_image

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, index: int) -> dict[str, Any]:
        stored = self.mixture.read(index)
        images = [self.load_image(self.mixture.corpus(index), name) for name in stored.images]
        return {"input_ids": stored.encoded.input_ids, "labels": stored.encoded.labels, "images": images}


class Clock(TrainerCallback):
    """When steps ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def speed_of_trainer(
    vlm: Vlm, train: tuple[Part, ...], mixture: Mixture, seed: int, out: str, load_image: LoadImage, *, grouped: bool
) -> float:
    set_trainable(vlm.model, train)
    tokens: list[int] = []

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        labels = [torch.tensor(row["labels"]) for row in rows]
        images = [image for row in rows for image in row["images"]]
        tokens.append(sum(map(len, ids)))
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        }
        return batch | ({"pixel_values": torch.stack(images)} if images else {})

    clock = Clock()
    arguments = TrainingArguments(
        output_dir=out,
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=1e-5,
        bf16=resolve_precision("auto", CPU) == "bf16",
        use_cpu=True,
        seed=seed,
        train_sampling_strategy="group_by_length" if grouped else "random",
        remove_unused_columns=False,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        optim="adamw_torch_fused",
    )
    trainer = Trainer(
        model=vlm.model,
        args=arguments,
        train_dataset=Conversations(mixture, load_image),
        data_collator=collate,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    steps = len(clock.ends)
    return sum(tokens[-steps:][1:]) / (clock.ends[-1] - clock.ends[0])


if __name__ == "__main__":
    main()
