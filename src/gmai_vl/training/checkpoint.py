"""What lies beside the weights of a stage: where they come from (provenance.json) and a card for people (README.md)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gmai_vl import __version__
from gmai_vl.foundation import canonical_json, sha256_of_text
from gmai_vl.training.loop import Totals
from gmai_vl.training.mixture import Mixture
from gmai_vl.training.precision import Precision
from gmai_vl.training.recipe import Stage, TrainRecipe
from gmai_vl.training.tokens import TokenStore

USE = "research use only, not for diagnosis"


def recipe_sha256(recipe: TrainRecipe) -> str:
    """Return the hash of what a recipe says: not of its comments, order of keys, or defaults left out."""
    return sha256_of_text(canonical_json(recipe.model_dump(mode="json")))


def stage_record(stage: Stage, mixture: Mixture, totals: Totals) -> dict[str, Any]:
    """Return what provenance says about one stage: what learned, from which corpora, how long, with what loss."""
    return {
        "name": stage.name,
        "train": list(stage.train),
        "steps": totals.steps,
        "samples": totals.samples,
        "left_out": totals.left_out,
        "tokens": totals.tokens,
        "loss": totals.loss,
        "validation_loss": totals.validation_loss,
        "best_step": totals.best_step,
        "corpora": [
            _corpus_record(store, mixture.row_N[mixture.store_N == number])
            for number, store in enumerate(mixture.stores)
            if (mixture.store_N == number).any()
        ],
    }


def _corpus_record(store: TokenStore, row_M: NDArray[np.int64]) -> dict[str, Any]:
    licences = pc.unique(store.table["license"].take(pa.array(row_M))).to_pylist()
    return {
        "name": store.corpus.manifest["name"],
        "fingerprint": store.corpus.manifest["fingerprint"],
        "samples_per_epoch": len(row_M),
        "licenses": sorted({name or "unknown" for name in licences}),
    }


def provenance(
    recipe: TrainRecipe, origin: Mapping[str, Any], precision: Precision, stages: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the content of provenance.json after the last of `stages`, which are records of `stage_record`.

    `origin` tells the backbones, or the checkpoint that the training went on from.
    """
    return {
        "name": recipe.name,
        "tool": f"gmai-vl {__version__}",
        "recipe": recipe.model_dump(mode="json"),
        "recipe_sha256": recipe_sha256(recipe),
        "origin": dict(origin),
        "precision": precision,
        "stage": stages[-1]["name"],
        "stages": list(stages),
        "use": USE,
    }


def model_card(facts: Mapping[str, Any]) -> str:
    """Return the card, in Markdown, of a checkpoint with the given provenance."""
    stages = "\n".join(
        f"| {stage['name']} | {', '.join(stage['train'])} | {stage['steps']} | {stage['samples']} | "
        f"{stage['loss']:.3f} | {_number(stage['validation_loss'])} |"
        for stage in facts["stages"]
    )
    corpora = "\n".join(
        f"| {stage['name']} | {corpus['name']} | `{corpus['fingerprint'][:12]}` | {corpus['samples_per_epoch']} | "
        f"{', '.join(corpus['licenses'])} |"
        for stage in facts["stages"]
        for corpus in stage["corpora"]
    )
    return f"""---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [medical, research-only]
---
# {facts["name"]}, after stage {facts["stage"]}

**{USE[0].upper()}{USE[1:]}.** Answers are made by a language model, can be wrong, and are checked by nobody.

A medical vision-language model (LLaVA architecture), trained with {facts["tool"]}.
Recipe `{facts["recipe_sha256"][:12]}`; provenance.json beside this file has all of it.

## Stages

| stage | parts that learned | steps | samples | training loss | validation loss |
|---|---|---|---|---|---|
{stages}

## Data

| stage | corpus | fingerprint | samples per epoch | licences |
|---|---|---|---|---|
{corpora}

## Use

    gmai chat --model THIS_FOLDER --image FILE "What does the image show?"
"""


def _number(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.3f}"
