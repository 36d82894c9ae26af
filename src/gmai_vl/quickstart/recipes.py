"""The recipes of a quickstart, written into its folder before use, so that each step can be run again by hand."""

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from gmai_vl.corpus import Corpus
from gmai_vl.foundation import UserError, write_text


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
    """Write the train recipe over the built `corpora` with `seed` into `out`.

    A part of a mixture that a corpus has no training sample for is left out: not all data has every form of question.
    Raises UserError, naming corpora, stage and forms, where a stage is left without any.
    """
    data = _packaged("train.yaml")
    data["seed"] = seed
    data["out"] = "../model"
    samples = {corpus: _forms(corpus) for corpus in corpora}
    for stage in data["stages"]:
        asked = stage["mixture"]
        stage["mixture"] = [
            {**deepcopy(part), "corpus": f"../corpora/{corpus.name}"}  # shared lists would be written as YAML aliases
            for part in asked
            for corpus in corpora
            if round(part.get("ratio", 1) * sum(samples[corpus][form] for form in part["forms"])) > 0
        ]
        if not stage["mixture"]:
            names, forms = ", ".join(map(str, corpora)), ", ".join(form for part in asked for form in part["forms"])
            raise UserError(
                f"{names}: has no training sample for stage `{stage['name']}` ({forms}); widen the data recipe's "
                f"`subsets`"
            )
    return _write(out / "recipes" / "train.yaml", data)


def _forms(corpus: Path) -> Counter[str | None]:
    """Count the training samples of each form."""
    return Counter(sample.provenance.facts.get("form") for sample in Corpus(corpus).samples(split="train"))


def _packaged(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((files("gmai_vl.quickstart") / name).read_text(encoding="utf-8"))
    return data


def _write(path: Path, data: dict[str, Any]) -> Path:
    write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return path
