"""Questions about made pictures, for tests of reasoning: a disc that is darker than what is around it, or lighter."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from gmai_vl.foundation import stable_rng

NAMES = ("dark disc", "light disc")


def picture(kind: int, seed: int) -> np.ndarray:
    """Return [32, 32] pixels: noise about 120 and a disc that is 90 below or above it."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    disc = (rows - rng.integers(12, 20)) ** 2 + (columns - rng.integers(12, 20)) ** 2 < 49
    return np.clip(rng.normal(120, 12, (32, 32)) + np.where(disc, (-90, 90)[kind], 0), 0, 255).astype(np.uint8)


def write_side(folder: Path, side: str, count: int, seed: int) -> None:
    """Write a side of questions whose right letters and kinds are balanced."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        kind = number % 2
        name = f"images/{side}-{number}.png"
        Image.fromarray(picture(kind, seed * 10_000 + number)).save(folder / name)
        texts = NAMES
        answer = "AB"[texts.index(NAMES[kind])]
        options = dict(zip("AB", texts, strict=True))
        line = {"id": f"{side}-{number}", "question": "Which is it?", **options, "answer": answer, "image": name}
        lines.append(line | {"language": "en", "patient": f"{side}-{number}", "source": "discs", "about": {}})
    order = stable_rng(seed, side).sample(range(count), count)
    (folder / f"{side}.jsonl").write_text("".join(json.dumps(lines[place]) + "\n" for place in order))
