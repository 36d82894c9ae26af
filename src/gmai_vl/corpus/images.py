"""The image store: one PNG for each distinct picture, named by the hash of its pixels and never drawn upon."""

import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gmai_vl.foundation import UserError
from gmai_vl.records import Case, pixel_sha256

_NAME = re.compile(r"[0-9a-f]{64}")

MAX_PIXELS = 100_000_000
"""Larger than any image that a source may give."""


def image_path(corpus: Path, name: str) -> Path:
    """Return where the image called `name` lies. Raises UserError if that is no sha256: names come from files."""
    if not _NAME.fullmatch(name):
        raise UserError(f"{corpus}: `{name[:80]}` is no image name; run `gmai data verify {corpus}`")
    return corpus / "images" / name[:2] / f"{name}.png"


def store_image(corpus: Path, case: Case, temporary_for: Callable[[Path], Path]) -> None:
    """Write the pixels of `case`, to a path of `atomic_files`, unless the store has them already."""
    path = image_path(corpus, case.image_sha256)
    if not path.exists():
        write_png(case.pixels, temporary_for(path))


def write_png(pixels: NDArray[np.uint8], target: Path | BinaryIO) -> None:
    """Encode pixels [H, W] or [H, W, 3] as a PNG.

    Looks for runs only: for medical pictures that is quicker than the search for repeats of level 1, and no larger.
    """
    Image.fromarray(pixels).save(target, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)


def load_image(corpus: Path, name: str) -> NDArray[np.uint8]:
    """Return the pixels [H, W] or [H, W, 3]. Raises UserError if they are missing, broken or not the ones named."""
    path = image_path(corpus, name)
    place = f"{path}: this image of the corpus"
    advice = f"run `gmai data verify {corpus}` for the whole list"
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.mode not in ("L", "RGB") or image.width * image.height > MAX_PIXELS:
                raise UserError(f"{place} has mode {image.mode} and {image.width}x{image.height} pixels; {advice}")
            pixels = np.asarray(image)
    except FileNotFoundError:
        raise UserError(f"{place} is missing; {advice}") from None
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise UserError(f"{place} cannot be read ({error}); {advice}") from None
    if pixel_sha256(pixels) != name:
        raise UserError(f"{place} holds other pixels than its name says; {advice}")
    return pixels


def stored_images(corpus: Path) -> Iterator[Path]:
    """Yield every file below `images/`, in name order."""
    store = corpus / "images"
    for place in sorted(store.iterdir()) if store.is_dir() else ():
        if place.is_dir() and not place.is_symlink():
            yield from sorted(path for path in place.rglob("*") if path.is_file())
        elif place.is_file():
            yield place
