"""Small sources that the corpus tests draw themselves, and a recipe for them."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

RECIPE: dict[str, Any] = {
    "name": "small",
    "seed": 0,
    "languages": {"en": 0.7, "zh": 0.3},
    "subsets": ["caption", "percept", "instruct"],
    "split": {"train": 0.6, "val": 0.2, "test": 0.2, "by": "patient"},
    "writer": {"kind": "template"},
    "sources": [
        {
            "name": "skin",
            "format": "folder",
            "root": "skin",
            "modality": "Dermoscopy",
            "patient": {"regex": r"(p\d+)_"},
            "license": "CC0-1.0",
            "url": "https://example.org/skin",
        },
        {
            "name": "polyps",
            "format": "mask",
            "root": "polyps",
            "images": "images",
            "masks": "masks/{stem}.png",
            "mask_labels": {255: "polyp"},
            "modality": "Endoscopy",
            "license": "MIT",
        },
    ],
}
"""Two sources: classes with patients, masks without."""


def write_sources(folder: Path, *, patients: int = 5, polyps: int = 6) -> Path:
    """Draw the sources of RECIPE below `folder` and write the recipe; return its path."""
    for patient in range(patients):
        for number, label in enumerate(("nevus", "melanoma")):
            write_picture(folder / "skin" / label / f"p{patient}_{number}.png", seed=10 * patient + number)
    for number in range(polyps):
        write_picture(folder / "polyps" / "images" / f"{number}.png", seed=1000 + number)
        mask_HW = np.zeros((20, 24), np.uint8)
        top = number % 12
        mask_HW[top : top + 7, 3:8] = 255
        save(folder / "polyps" / "masks" / f"{number}.png", mask_HW)
    return write_recipe(folder)


def write_recipe(folder: Path, **changes: Any) -> Path:
    """Write RECIPE with some keys changed; return the path."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE | changes, sort_keys=False))
    return path


def write_picture(path: Path, seed: int) -> None:
    """Save a picture of 24x20 pixels that no other seed gives."""
    save(path, np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8))


def save(path: Path, pixels: np.ndarray) -> None:
    """Save pixels as a file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
