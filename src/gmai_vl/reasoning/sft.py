"""The supervised baseline: the traces that were kept, learnt by the trainer of all other stages."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from gmai_vl.foundation import Settings, load_settings, overridden, read_yaml
from gmai_vl.reasoning.base import Teaching
from gmai_vl.reasoning.synthesis import traces_corpus
from gmai_vl.training import train
from gmai_vl.training.recipe import Lora, Part, TrainRecipe
from gmai_vl.training.run import check_free

CORPUS = "corpus"
"""Folder of the traces as a corpus, below the output folder of the recipe; the training lies in `run` beside it."""


class SftSettings(Settings):
    """How a model learns traces, whatever model and traces these are."""

    train: tuple[Part, ...] = ("projector", "language")
    """Parts that learn."""

    lora: Lora | None = None
    learning_rate: PositiveFloat = 1e-5
    global_batch: PositiveInt = 16
    epochs: PositiveInt | None = None
    max_steps: PositiveInt | None = None
    """Optimizer steps; or `epochs`."""

    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    stop_at_leap: PositiveFloat | None = 4.0
    """As in a train recipe."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("give either `epochs` or `max_steps`")
        return self


class SftRecipe(SftSettings, Teaching):
    """A supervised training on traces, which answer `questions`."""

    traces: str
    """Folder that `gmai reason synthesize` wrote, relative to the recipe file."""


def read_sft_recipe(path: Path, overrides: Sequence[str] = ()) -> SftRecipe:
    """Read a recipe from YAML, with `key=value` in place of what stands there.

    Raises UserError, naming the file and the key, for what is no recipe.
    """
    return load_settings(SftRecipe, overridden(read_yaml(path), overrides), path)


def sft(recipe: SftRecipe, *, base: Path, overwrite: bool = False, resume: bool = False) -> Path:
    """Make a corpus of the traces, train on it, and return the checkpoint, OUT/run/final.

    Paths of the recipe are relative to `base`. Raises UserError where traces or questions cannot be used, and what
    `train` raises. Where traces or OUT are refused, an earlier corpus stays beside its training.
    """
    traces, questions, out = ((base / path).resolve() for path in (recipe.traces, recipe.questions, recipe.out))
    training = _training(recipe, base, out)
    if overwrite:
        check_free(training, base=out, overwrite=overwrite, resume=resume)
        fresh = out / f".{CORPUS}.tmp"
        shutil.rmtree(fresh, ignore_errors=True)
        traces_corpus(traces, questions, fresh)
        shutil.rmtree(out / CORPUS, ignore_errors=True)
        fresh.rename(out / CORPUS)
    else:
        traces_corpus(traces, questions, out / CORPUS)
    return train(training, base=out, overwrite=overwrite, resume=resume)


def _training(recipe: SftRecipe, base: Path, out: Path) -> TrainRecipe:
    length: dict[str, Any] = {"epochs": recipe.epochs, "max_steps": recipe.max_steps}
    stage = {
        "name": "reason",
        "train": list(recipe.train),
        "learning_rate": recipe.learning_rate,
        "global_batch": recipe.global_batch,
        "warmup_ratio": recipe.warmup_ratio,
        "lora": None if recipe.lora is None else recipe.lora.model_dump(mode="json"),
        **{name: value for name, value in length.items() if value is not None},
        "mixture": [{"corpus": CORPUS}],
    }
    told = {
        "name": recipe.name,
        "out": "run",
        "seed": recipe.seed,
        "precision": recipe.precision,
        "stop_at_leap": recipe.stop_at_leap,
        "model": {"init": str((base / recipe.model.init).resolve())},
        "stages": [stage],
    }
    return load_settings(TrainRecipe, told, out)
