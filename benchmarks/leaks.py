"""What the leak gate finds and what it takes for a leak: planted copies among 5,000 pictures, and sets that look alike.

Run: python benchmarks/leaks.py DATA [PICTURES]   DATA: a folder with the sets of recipes/data/, so called.
Phantoms fill up to PICTURES (5,000). The threshold in corpus/looks.py was chosen on phantoms of seed 5 and 150 copies
of each kind; this draws phantoms of seed 11, other copies, other places to crop. Prints versions; name the commit.
"""

import io
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import scipy
from PIL import Image

from gmai_vl import __version__
from gmai_vl.corpus import read_recipe
from gmai_vl.corpus.looks import alike_between, alike_within, look_of, stacked
from gmai_vl.records import Case, pixel_sha256
from gmai_vl.sources import PhantomSource, list_items, read_item

RECIPES = Path(__file__).parent.parent / "recipes" / "data"
COPIES = 500
"""Of each kind."""

Pixels = np.ndarray


class Picture(NamedTuple):
    set: str
    name: str
    patient: str | None
    pixels: Pixels


def main(data: Path, number: int) -> None:
    print(f"gmai-vl {__version__}, Python {platform.python_version()}, Pillow {PIL.__version__}, ", end="")
    print(f"numpy {np.__version__}, scipy {scipy.__version__}")
    real, phantoms = real_pictures(data), drawn_pictures(number)
    missing = max(0, number - len(real))
    pictures = distinct([*real, *(phantoms[index * len(phantoms) // missing] for index in range(missing))])
    start = time.perf_counter()
    looks = stacked([look_of(picture.pixels) for picture in pictures])
    seconds = time.perf_counter() - start
    print(f"{len(pictures)} pictures, {len(real)} of them real; looks of {len(pictures) / seconds:,.0f} pictures/s\n")

    rng = random.Random(11)
    print(f"{'copy':<22} {'recall':>7} {'not found in'}")
    planted, found_all, searched = 0, 0, 0.0
    wrong: Counter[str] = Counter()
    for kind, copy in KINDS.items():
        chosen = rng.sample(range(len(pictures)), COPIES)
        copies = stacked([look_of(np.ascontiguousarray(copy(pictures[index].pixels, rng))) for index in chosen])
        start = time.perf_counter()
        pairs = [(chosen[pair.one], pair.other) for pair in alike_between(copies, looks)]
        searched += time.perf_counter() - start
        hit = {one for one, other in pairs if one == other}
        missed = Counter(pictures[index].set for index in chosen if index not in hit)
        print(f"{kind:<22} {len(hit) / COPIES:>7.1%} {dict(missed.most_common(4))}")
        planted, found_all = planted + COPIES, found_all + len(hit)
        wrong.update(kinship(pictures[one], pictures[other]) for one, other in pairs if one != other)
    alarms = sum(wrong.values())
    print(f"{'all':<22} {found_all / planted:>7.1%}")
    print(f"pairs reported besides the copies' originals: {dict(wrong)}")
    false = wrong["other patients"] + wrong["other sets"]
    print(f"precision, slices of one volume counted as right: {1 - false / (found_all + alarms):.2%}")
    print(f"search: {planted / searched:,.0f} pictures/s against {len(pictures)}\n")

    start = time.perf_counter()
    pairs = list(alike_within(looks))
    seconds = time.perf_counter() - start
    print(f"within the {len(pictures)} pictures: {len(pairs)} pairs in {seconds:.0f} s")
    table = Counter((pictures[pair.one].set, kinship(pictures[pair.one], pictures[pair.other])) for pair in pairs)
    for (name, what), count in sorted(table.items()):
        print(f"  {name:<24} {what:<16} {count}")
    print("\nunrelated sets of one modality: pairs held against each other, alarms")
    for one, other in UNRELATED:
        sides = [[index for index, picture in enumerate(pictures) if within(picture, side)] for side in (one, other)]
        alarms = sum(1 for _ in alike_between(looks[sides[0]], looks[sides[1]]))
        print(f"  {one:<28} {other:<28} {len(sides[0]) * len(sides[1]):>9,} {alarms:>4}")


def real_pictures(data: Path) -> list[Picture]:
    return [
        Picture(source.name, case.item, case.patient_id, case.pixels)
        for recipe in sorted(RECIPES.glob("*.yaml"))
        for source in read_recipe(recipe).sources
        for item in list_items(source, data / source.root)
        for case in read_item(source, data / source.root, item)
        if isinstance(case, Case) and case.has_image
    ]


def drawn_pictures(number: int) -> list[Picture]:
    spec = PhantomSource(name="p", format="phantom", patients=max(1, number // 18), seed=11, size=224)
    return [
        Picture("phantom " + item.partition("/")[0], case.item, case.patient_id, case.pixels)
        for item in list_items(spec, Path())
        for case in read_item(spec, Path(), item)
        if isinstance(case, Case)
    ]


def distinct(pictures: list[Picture]) -> list[Picture]:
    return list({pixel_sha256(picture.pixels): picture for picture in pictures}.values())


def kinship(one: Picture, other: Picture) -> str:
    if one.set != other.set:
        return "other sets"
    if one.patient is None:
        return "patient unknown"
    return "one patient" if one.patient == other.patient else "other patients"


def within(picture: Picture, side: str) -> bool:
    return picture.set.startswith(side)


UNRELATED = (
    ("brain-tumor-mri", "vqa-rad"),
    ("brain-tumor-mri", "phantom brain-mr"),
    ("brain-tumor-mri", "biomedparse-mr"),
    ("hippocampus", "brain-tumor-mri"),
    ("vqa-rad", "biomedparse-xray"),
    ("vqa-rad", "biomedparse-ct"),
    ("vqa-rad", "phantom chest-x-ray"),
    ("totalsegmentator-ct", "vqa-rad"),
    ("totalsegmentator-ct", "phantom abdomen-ct"),
    ("drive", "phantom fundus"),
    ("drive", "biomedparse-fundus"),
    ("isic2017", "phantom dermoscopy"),
    ("busi", "phantom breast-ultrasound"),
    ("cvc-clinicdb", "phantom colonoscopy"),
)


def jpeg(pixels: Pixels, rng: random.Random) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(io.BytesIO(stream.getvalue())))


def half(pixels: Pixels, rng: random.Random) -> Pixels:
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((max(8, image.width // 2), max(8, image.height // 2)), Image.Resampling.BILINEAR))


def cropped(pixels: Pixels, rng: random.Random) -> Pixels:
    height, width = (round(0.95 * side) for side in pixels.shape[:2])
    top, left = rng.randint(0, pixels.shape[0] - height), rng.randint(0, pixels.shape[1] - width)
    return pixels[top : top + height, left : left + width]


def windowed(pixels: Pixels, rng: random.Random) -> Pixels:
    low, high = rng.uniform(0, 0.15), rng.uniform(0.75, 0.95)
    return (np.clip((pixels / 255 - low) / (high - low), 0, 1) * 255).astype(np.uint8)


KINDS: dict[str, Callable[[Pixels, random.Random], Pixels]] = {
    "JPEG 60": jpeg,
    "half size": half,
    "mirrored": lambda pixels, rng: pixels[:, ::-1],
    "upside down": lambda pixels, rng: pixels[::-1],
    "5 % cropped": cropped,
    "other window": windowed,
    "mirrored, cropped, JPEG": lambda pixels, rng: jpeg(np.ascontiguousarray(cropped(pixels, rng)[:, ::-1]), rng),
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5_000)
