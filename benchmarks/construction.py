"""What building a corpus costs over the bare decoding and encoding of the same files, and in memory.

Run: python benchmarks/construction.py speed [PATIENTS]     images/s of one core, by format, as a share of the bare
     python benchmarks/construction.py memory [CASES ...]   peak memory of a build of so many small pictures
     python benchmarks/construction.py engines [CASES]      local processes against Ray, 2 CPUs each
Phantoms of 512 pixels a side (volumes: 128); bare and build take turns, medians of 3 rounds. Bare encodes as the store
does, `level 1` with Pillow's usual quick settings. Prints versions; name the commit.
"""

import io
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import PIL
import pyarrow
import pydicom
import yaml
from PIL import Image

from gmai_vl import __version__
from gmai_vl.corpus import build
from gmai_vl.corpus.images import write_png
from gmai_vl.sources import PhantomSource
from gmai_vl.sources.phantom.files import mask_labels, write_studies

ROUNDS = 3
SIDE = 512
PICTURES = ("chest-x-ray", "breast-ultrasound")
VOLUMES = ("brain-mr",)

Encoding = Callable[[np.ndarray, io.BytesIO], None]
"""Writes pixels as a PNG."""


def speed(patients: int) -> None:
    """Print images a second for every format: bare, build, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for format_, families in (("folder", PICTURES), ("mask", PICTURES), ("nifti", VOLUMES), ("dicom", PICTURES)):
            write_studies(phantoms(patients, families), root / format_, format_)
        for path in sorted((root / "folder").rglob("*.png")):
            target = root / "jpeg" / path.parent.name / f"{path.stem}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).save(target, quality=90)
        flat = {"format": "folder", "modality": "CT"}
        pictures = {"format": "mask", "images": "images", "masks": "masks/{stem}.png", "modality": "X-Ray"}
        pictures |= {"empty_mask": "negative", "mask_labels": mask_labels(phantoms(patients, PICTURES))}
        volumes = {"format": "volume", "images": "imagesTr", "masks": "labelsTr/{stem}.nii.gz", "modality": "MR"}
        volumes |= {"mask_labels": mask_labels(phantoms(patients, VOLUMES)), "slices_per_axis": 2}
        trials: list[tuple[str, Path, dict[str, object], Callable[[Path, Encoding], int]]] = [
            ("PNG, class", root / "folder", flat, bare_pictures),
            ("JPEG, class", root / "jpeg", flat, bare_pictures),
            ("PNG, masks", root / "mask", pictures, bare_masked),
            ("DICOM", root / "dicom", {"format": "dicom", "modality": "CT"}, bare_dicom),
            ("NIfTI, 6 slices", root / "nifti", volumes, bare_volumes),
        ]
        print("format           images   bare/s  level 1/s  build/s  ratio  to level 1")
        for name, place, source, bare in trials:
            turns = [
                (
                    timed(partial(bare, place, write_png)),
                    timed(partial(bare, place, level_1)),
                    timed_build(place, source),
                )
                for _ in range(ROUNDS)
            ]
            rates = [statistics.median(count / seconds for seconds, count in turn) for turn in zip(*turns, strict=True)]
            bare_rate, level_1_rate, build_rate = rates
            print(
                f"{name:<16} {turns[0][2][1]:>6} {bare_rate:>8.1f} {level_1_rate:>10.1f} {build_rate:>8.1f} "
                f"{build_rate / bare_rate:>6.2f} {build_rate / level_1_rate:>11.2f}",
                flush=True,
            )


def phantoms(patients: int, families: tuple[str, ...]) -> PhantomSource:
    return PhantomSource(name="p", format="phantom", patients=patients, families=families, size=SIDE, slices_per_axis=2)


def timed(work: Callable[[], int]) -> tuple[float, int]:
    start = time.perf_counter()
    count = work()
    return time.perf_counter() - start, count


def timed_build(place: Path, source: dict[str, object]) -> tuple[float, int]:
    """Build a corpus of one source in one process; return seconds and its number of images."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = recipe_of(Path(folder), [source | {"root": str(place)}])
        return timed(lambda: build(recipe, Path(folder) / "corpus").counts["cases"])


def recipe_of(folder: Path, sources: list[dict[str, object]]) -> Path:
    named = [{"name": f"s{number}"} | source for number, source in enumerate(sources)]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "speed", "languages": {"en": 0.7, "zh": 0.3}, "sources": named}))
    return path


def encoded(pixels: np.ndarray, encoding: Encoding) -> int:
    encoding(pixels, io.BytesIO())
    return 1


def level_1(pixels: np.ndarray, target: io.BytesIO) -> None:
    """Encode as Pillow does by default, as quickly as it can."""
    Image.fromarray(pixels).save(target, format="PNG", compress_level=1)


def bare_pictures(place: Path, encoding: Encoding) -> int:
    return sum(encoded(np.asarray(Image.open(path)), encoding) for path in sorted(place.rglob("*.*g")))


def bare_masked(place: Path, encoding: Encoding) -> int:
    for path in sorted((place / "masks").rglob("*.png")):
        np.asarray(Image.open(path))
    return bare_pictures(place / "images", encoding)


def bare_dicom(place: Path, encoding: Encoding) -> int:
    count = 0
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        pixels = pydicom.dcmread(path).pixel_array
        count += encoded(pixels if pixels.dtype == np.uint8 else (pixels >> 4).astype(np.uint8), encoding)
    return count


def bare_volumes(place: Path, encoding: Encoding) -> int:
    """Decode image and labels of every volume, encode 2 slices along each axis."""
    count = 0
    for path in sorted((place / "imagesTr").iterdir()):
        volume = np.asarray(nibabel.load(path).dataobj)
        np.asarray(nibabel.load(place / "labelsTr" / path.name).dataobj)
        low, high = volume.min(), volume.max()
        for axis in range(3):
            for index in np.linspace(0, volume.shape[axis] - 1, 4)[1:3].astype(int):
                shown = np.take(volume, index, axis).astype(np.float32)
                count += encoded(np.ascontiguousarray((shown - low) / (high - low) * 255).astype(np.uint8), encoding)
    return count


def memory(cases: list[int]) -> None:
    """Print the peak memory of the largest process of a build, 2 workers, of so many pictures of 64 pixels a side."""
    for number in cases:
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder) / "pictures", number)
            command = [sys.executable, __file__, "build-one", folder]
            start = time.perf_counter()
            peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"{number:>7} cases: peak {int(peak):,} MiB, {time.perf_counter() - start:.0f} s", flush=True)


def draw(folder: Path, number: int) -> None:
    """Draw `number` distinct pictures in three classes, four of each patient."""
    ground = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    for index in range(number):
        picture = np.roll(ground, index, axis=1)
        picture[:2] = np.frombuffer(np.int64(index).tobytes() * 16, np.uint8).reshape(2, 64)
        path = folder / ("nevus", "melanoma", "actinic keratosis")[index % 3] / f"p{index // 4}_{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, compress_level=1)


def small_recipe(folder: Path) -> Path:
    """Without the search for near-duplicates, whose time grows with the square of the pictures."""
    source = {"format": "folder", "root": "pictures", "modality": "Dermoscopy", "patient": {"regex": r"(p\d+)_"}}
    path = recipe_of(folder, [source])
    path.write_text(f"{path.read_text()}near_duplicates: keep\n")
    return path


def build_one(folder: Path) -> None:
    build(small_recipe(folder), folder / "corpus", workers=2)
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(max(peaks) // 1024)


def engines(cases: int) -> None:
    """Print the seconds that each engine takes for the same corpus on 2 CPUs, and that its fingerprint is the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "pictures", cases)
        recipe = small_recipe(folder)
        prints = set()
        for engine in ("local", "ray", "local", "ray"):
            start = time.perf_counter()
            prints.add(build(recipe, folder / "corpus", engine=engine, workers=2).fingerprint)
            print(f"{engine:>6}: {time.perf_counter() - start:.1f} s for {cases} cases")
            shutil.rmtree(folder / "corpus")
        print("fingerprints are the same" if len(prints) == 1 else f"FINGERPRINTS DIFFER: {prints}")


if __name__ == "__main__":
    what, numbers = sys.argv[1], sys.argv[2:]
    if what == "build-one":
        build_one(Path(numbers[0]))
        sys.exit()
    print(
        f"gmai-vl {__version__}, Python {platform.python_version()}, Pillow {PIL.__version__}, numpy {np.__version__}, "
        f"pyarrow {pyarrow.__version__}, pydicom {pydicom.__version__}, nibabel {nibabel.__version__}"
    )
    if what == "speed":
        speed(int(numbers[0]) if numbers else 4)
    elif what == "memory":
        memory([int(number) for number in numbers] or [1_000, 10_000, 100_000])
    else:
        engines(int(numbers[0]) if numbers else 2_000)
