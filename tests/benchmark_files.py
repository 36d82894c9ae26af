"""Miniature files of benchmarks in their official forms, written from the lists of their fields."""

import base64
import csv
import io
import json
import zipfile
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


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_zip(path: Path, numbers: dict[str, int]) -> None:
    """Write an archive of pictures: name in it -> number of the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, number in numbers.items():
            archive.writestr(name, png(number))


def base64_png(number: int) -> str:
    return base64.b64encode(png(number)).decode()


def write_tsv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as pandas does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
