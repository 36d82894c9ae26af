"""How full packs are, how many there are, and what it costs to make them.

    python benchmarks/packing.py [SAMPLES]            made-up lengths: an image of 576 tokens and log-normal text
    python benchmarks/packing.py CORPUS [CORPUS ...]  the real lengths of these corpora, 576 tokens for an image

Prints for packs of 2,048, 4,096 and 8,192 tokens and at most 16 images: the fill, which is the share of a pack that is
real tokens, of best fit decreasing, of the official next-fit, and a bound that no packing can pass; seconds, and the
peak memory of the process.
"""

import platform
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gmai_vl import __version__
from gmai_vl.corpus import Corpus
from gmai_vl.model import ModelSettings, build_model
from gmai_vl.model.images import image_token_count
from gmai_vl.training.packing import Packing, PackLimits, pack
from gmai_vl.training.tokens import open_tokens

IMAGE_TOKENS = 576
MOST_IMAGES = 16
PACKINGS: tuple[Packing, ...] = ("bfd", "next-fit")


def main() -> None:
    print(f"gmai-vl {__version__}, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"{'lengths':<22}{'samples':>12}{'pack':>7}{'bfd':>8}{'next-fit':>10}{'bound':>8}{'bfd s':>8}{'peak MB':>9}")
    arguments = sys.argv[1:]
    if arguments and not arguments[0].isdigit():
        tokens, images = real_lengths(arguments)
        show("real corpora", tokens, images)
        return
    count = int(arguments[0]) if arguments else 15_700_000
    for name, share in (("one image each", 1.0), ("70 % with an image", 0.7)):
        tokens, images = made_up_lengths(count, share)
        show(name, tokens, images)


def made_up_lengths(count: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and images of samples of which `share` have an image; text is log-normal, 177 tokens on average."""
    chance = np.random.default_rng(0)
    images = (chance.random(count) < share).astype(np.int32)
    text = np.clip(chance.lognormal(4.9, 0.75, count), 8, 1400).astype(np.int32)
    return text + IMAGE_TOKENS * images, images


def real_lengths(folders: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and images of the training samples of corpora, by the tokenizer of SmolLM2."""
    processor = build_model(ModelSettings(preset="smol-12l"), seed=0).processor
    stores = [open_tokens(Corpus(Path(folder)), processor) for folder in folders]
    table = pa.concat_tables([store.table.select(["split", "tokens", "images"]) for store in stores])
    train = table.filter(pc.equal(table["split"], "train"))
    tokens, images = (train[column].to_numpy() for column in ("tokens", "images"))
    return tokens + (IMAGE_TOKENS - image_token_count(processor)) * images, images


def show(name: str, tokens: np.ndarray, images: np.ndarray) -> None:
    for length in (2048, 4096, 8192):
        fill: dict[Packing, float] = {}
        seconds: dict[Packing, float] = {}
        fits = (tokens <= length) & (images <= MOST_IMAGES)
        for packing in PACKINGS:
            limits = PackLimits(packing=packing, length=length, most_images=MOST_IMAGES, too_long="quarantine")
            start = time.perf_counter()
            packs = pack(tokens[fits], images[fits], limits, seed=0)
            seconds[packing] = time.perf_counter() - start
            fill[packing] = tokens[fits].sum() / (length * len(packs))
            if packing == "bfd":
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        most = most_fill(tokens[fits], length)
        print(
            f"{name:<22}{fits.sum():>12,}{length:>7,}{fill['bfd']:>8.2%}{fill['next-fit']:>10.2%}{most:>8.2%}"
            f"{seconds['bfd']:>8.1f}{peak:>9,.0f}",
            flush=True,
        )


def most_fill(tokens: np.ndarray, length: int) -> float:
    """Return a fill that no packing can pass: after Martello and Toth's second bound (L2) on the number of bins."""
    counts = np.bincount(tokens, minlength=length + 1).astype(np.int64)
    sums = np.cumsum(counts * np.arange(length + 1))
    held = np.cumsum(counts)
    fewest = -(-int(sums[-1]) // length)
    for small in range(length // 2 + 1):
        # Samples over length - small stand alone; those over half a pack share none with each other.
        alone = held[length] - held[length - small]
        halves = held[length - small] - held[length // 2]
        between = sums[length // 2] - (sums[small - 1] if small else 0)
        room = halves * length - (sums[length - small] - sums[length // 2])
        fewest = max(fewest, int(alone + halves + max(0, -(-(between - room) // length))))
    return float(sums[-1] / (length * fewest))


if __name__ == "__main__":
    main()
