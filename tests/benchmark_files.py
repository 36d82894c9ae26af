"""Miniature files of benchmarks in their official forms, written from the lists of their fields."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(number: int) -> np.ndarray:
    """Return a small picture that no other number has: [12, 16, 3]."""
    return np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    written = io.BytesIO()
    Image.fromarray(picture(number)).save(written, "PNG")
    return written.getvalue()


def write_png(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(number))


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]], rows_a_group: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=rows_a_group)
