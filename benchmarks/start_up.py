"""What a training costs before its first step, by the number of its samples; for one that begins and one that goes on.

    python benchmarks/start_up.py [SAMPLES ...]      10,000 and 10,000,000 by default, 2.5 GB on disk for the latter

Writes a token store of made-up conversations (an image of 576 tokens, text log-normal), then times, each number of
samples in a process of its own: opening it, choosing a mixture of 90 %, packing to 2,048 tokens, and reading the first
step of 512 packs, or one in the middle as a run that goes on does. Nothing else of a start depends on the samples.
"""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa

from gmai_vl import __version__
from gmai_vl.corpus import Corpus
from gmai_vl.model import ModelSettings, build_model
from gmai_vl.training.fit import fitted, packs_of, plan_steps
from gmai_vl.training.mixture import training_mixture
from gmai_vl.training.packing import PackLimits
from gmai_vl.training.recipe import Stage
from gmai_vl.training.tokens import SCHEMA, TokenStore

AT_A_TIME = 100_000
IMAGE_TOKEN, IMAGE_TOKENS = 7, 576


def main() -> None:
    counts = [int(argument) for argument in sys.argv[1:]] or [10_000, 10_000_000]
    print(f"gmai-vl {__version__}, numpy {np.__version__}, pyarrow {pa.__version__}")
    print(f"{'samples':>12}{'open':>8}{'mixture':>9}{'sizes':>8}{'packs':>8}{'step':>8}{'in all':>8}{'peak MB':>9}")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            write_store(Path(folder), count)
            for goes_on in (False, True):
                process = multiprocessing.get_context("spawn").Process(target=start, args=(folder, goes_on))
                process.start()
                process.join()


def write_store(folder: Path, count: int) -> None:
    chance = np.random.default_rng(0)
    parts = []
    for number, first in enumerate(range(0, count, AT_A_TIME)):
        rows = min(AT_A_TIME, count - first)
        text = np.clip(chance.lognormal(4.9, 0.75, rows), 8, 1400).astype(np.int32)
        conversation = pa.array([[IMAGE_TOKEN, 9, 9 | 1 << 31]] * rows, pa.list_(pa.uint32()))  # short, to spare disk
        same = {"split": "train", "subset": "caption", "kind": "caption", "form": "caption", "language": "en"}
        columns: dict[str, Any] = {name: pa.array([value] * rows) for name, value in same.items()} | {
            "id": pa.array([f"2d#cls#x-ray#made-up#folder#label#file#{first + row}" for row in range(rows)]),
            "chance": chance.integers(0, 2**64, rows, dtype=np.uint64),
            "source": pa.array(["made-up"] * rows),
            "license": pa.array(["CC0-1.0"] * rows),
            "words": text,
            "tokens": text + IMAGE_TOKENS,
            "supervised": text // 2,
            "images": np.ones(rows, np.int32),
            "conversation": conversation,
            "shown": pa.array([[bytes(32)]] * rows, pa.list_(pa.binary(32))),
        }
        name = f"{number:05d}.arrow"
        with pa.ipc.new_file(folder / name, SCHEMA) as part:
            for batch in pa.table([columns[column] for column in SCHEMA.names], schema=SCHEMA).to_batches(2000):
                part.write_batch(batch)
        parts.append({"name": name, "bytes": (folder / name).stat().st_size})
    (folder / "store.json").write_text(json.dumps({"corpus": "made-up", "parts": parts}))


def start(folder: str, goes_on: bool) -> None:
    processor = build_model(ModelSettings(preset="tiny"), seed=0).processor
    keys = {"name": "s", "train": ["projector"], "learning_rate": 1e-3, "global_batch": 512, "epochs": 1}
    stage = Stage.model_validate(keys | {"mixture": [{"corpus": "c", "ratio": 0.9, "languages": ["en"]}]})
    limits = PackLimits(packing="bfd", length=2048, most_images=4, too_long="quarantine")
    times = [time.perf_counter()]
    store = TokenStore(cast(Corpus, SimpleNamespace()), Path(folder), IMAGE_TOKEN, IMAGE_TOKENS)
    times.append(time.perf_counter())
    mixture = training_mixture(stage, {"c": store}, seed=0)
    times.append(time.perf_counter())
    fit = fitted(processor, mixture, limits, "s")
    times.append(time.perf_counter())
    packs = packs_of(fit.sizes, limits, seed=0)
    times.append(time.perf_counter())
    steps = plan_steps(stage, fit.sizes, packs, seed=0)
    step = next(steps.after(len(steps) // 2 if goes_on else 0))
    for micro in step:
        for index in micro:
            fit.mixture.read(index)
    times.append(time.perf_counter())
    spent = [later - earlier for earlier, later in pairwise(times)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    columns = "".join(f"{seconds:>{8 + (place == 1)}.2f}" for place, seconds in enumerate(spent))
    print(
        f"{len(store):>12,}{columns}{sum(spent):>8.2f}{peak:>9,.0f}  {'goes on' if goes_on else 'begins'}", flush=True
    )


if __name__ == "__main__":
    main()
