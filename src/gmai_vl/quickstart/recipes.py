"""The recipes of a quickstart, written into its folder before use, so that each step can be run again by hand."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from gmai_vl.foundation import write_text

CORPORA = "CORPORA"
"""Stands in train.yaml where the mixture takes all corpora of the run."""


def write_data_recipes(out: Path, seed: int) -> list[Path]:
    """Write the phantom and the real recipe with `seed` into `out`; the seed also draws other phantoms."""
    paths = []
    for name in ("phantom", "real"):
        data = _packaged(f"{name}.yaml")
        data["seed"] = seed
        for source in data["sources"]:
            if source["format"] == "phantom":
                source["seed"] = seed
        paths.append(_write(out / "recipes" / f"{name}.yaml", data))
    return paths


def write_train_recipe(out: Path, corpora: Sequence[Path], seed: int) -> Path:
    """Write the train recipe over `corpora` with `seed` into `out`."""
    data = _packaged("train.yaml")
    data["seed"] = seed
    data["out"] = "../model"
    for stage in data["stages"]:
        stage["mixture"] = [
            {**part, "corpus": f"../corpora/{corpus.name}"}
            for part in stage["mixture"]
            for corpus in (corpora if part["corpus"] == CORPORA else ())
        ]
    return _write(out / "recipes" / "train.yaml", data)


def _packaged(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((files("gmai_vl.quickstart") / name).read_text(encoding="utf-8"))
    return data


def _write(path: Path, data: dict[str, Any]) -> Path:
    write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return path
