"""Folders of weights: their config, and safetensors in one file or several, written again under other names."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gmai_vl.foundation import UserError, write_json

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""The names that transformers gives to weights in one file, and to the index of several."""

Rename = Callable[[str, Tensor], Iterable[tuple[str, Tensor]]]
"""From a weight to what it becomes: none, one or several of other names. Raises ValueError where it does not fit."""


def shard_files(folder: Path) -> list[Path]:
    """Return the weight files of a folder, in the order of their names.

    Raises UserError where there is none, or one that the index names is missing.
    """
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
            files = [folder / Path(name).name for name in names]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / INDEX}: is no index of safetensors: {error}; fetch it again") from error
        for file in files:
            if not file.is_file():
                raise UserError(f"{file}: is missing, though {INDEX} names it; fetch it again")
        return files
    if not (folder / WHOLE).is_file():
        raise UserError(f"{folder}: has neither {WHOLE} nor {INDEX}; other weight files are not read")
    return [folder / WHOLE]


def weight_files(folder: Path) -> dict[str, Path]:
    """Return the file of each weight in a folder, by the weight's name. Raises UserError where a file is damaged."""
    places: dict[str, Path] = {}
    for file in shard_files(folder):
        try:
            with safe_open(file, framework="pt") as opened:
                places |= dict.fromkeys(opened.keys(), file)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: cannot be read: {str(error).splitlines()[0]}; fetch it again") from error
    return places


def read_weight(file: Path, name: str) -> Tensor:
    """Return one weight of a file. Raises UserError where the file is damaged."""
    try:
        with safe_open(file, framework="pt") as opened:
            weight: Tensor = opened.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: cannot be read: {str(error).splitlines()[0]}; fetch it again") from error
    return weight


def rewrite_shards(source: Path, target: Path, rename: Rename, shapes: Mapping[str, torch.Size]) -> None:
    """Write the weights of `source` to `target` as `rename` gives them, file by file, with an index for several.

    Memory holds the weights of one file at a time. `shapes` are those that `target` must have in the end. Raises
    UserError, naming the file, where a file is damaged or a weight is missing, unknown or of another shape.
    """
    files = shard_files(source)
    places: dict[str, str] = {}
    size = 0
    for file in files:
        weights = _renamed(file, rename, shapes)
        if twice := sorted(weights.keys() & places.keys()):
            raise UserError(f"{file}: holds {twice[0]}, which {places[twice[0]]} holds too; fetch both again")
        save_file(weights, target / file.name, metadata={"format": "pt"})
        places |= dict.fromkeys(weights, file.name)
        size += sum(weight.nbytes for weight in weights.values())
    if missing := sorted(shapes.keys() - places.keys()):
        raise UserError(f"{source}: {len(missing)} weights are missing, the first is {missing[0]}; fetch it again")
    if len(files) > 1:
        write_json(target / INDEX, {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))})


def _renamed(file: Path, rename: Rename, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    try:
        with safe_open(file, framework="pt") as opened:
            for old in opened.keys():  # noqa: SIM118  it is no dict
                for name, weight in rename(old, opened.get_tensor(old)):
                    if name not in shapes:
                        raise ValueError(f"{old} is no weight of this architecture")
                    if weight.shape != shapes[name]:
                        raise ValueError(f"{old} gives {list(weight.shape)} for {name}, not {list(shapes[name])}")
                    weights[name] = weight.contiguous()
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be converted: {str(error).splitlines()[0]}; fetch it again") from error
    return weights


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json of a folder. Raises UserError where it is no JSON object."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / 'config.json'}: is no JSON: {error}; fetch it again") from error
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.json'}: holds no object; fetch it again")
    return config
