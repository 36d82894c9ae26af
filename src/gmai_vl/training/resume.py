"""Going on: where a training stopped, and whether what is asked for now is that training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmai_vl.corpus import Corpus
from gmai_vl.foundation import UserError, write_json
from gmai_vl.training.outputs import is_begun
from gmai_vl.training.precision import Precision
from gmai_vl.training.recipe import TrainRecipe
from gmai_vl.training.state import latest

RUN = "run.json"

FREE_KEYS = ("out", "state", "stop_at_leap", "strategy", "tracker")
"""Keys of a recipe that change nothing about the weights that come out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where a training begins or goes on."""

    stage: int = 0
    """Number of the first stage that is not finished; the number of stages where all are."""

    state: Path | None = None
    """The last state of that stage; None where it begins anew."""

    records: tuple[Mapping[str, Any], ...] = ()
    """What provenance says of the stages that are finished."""


def describe(
    recipe: TrainRecipe, corpora: Mapping[str, Corpus], precision: Precision, origin: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all that the weights of a training depend on."""
    described = {
        "recipe": recipe.model_dump(mode="json", exclude=set(FREE_KEYS)),
        "corpora": {name: corpus.manifest["fingerprint"] for name, corpus in corpora.items()},
        "precision": precision,
        "origin": dict(origin),
    }
    return dict(json.loads(json.dumps(described)))  # tuples as the lists that they are read back as


def write_description(out: Path, description: Mapping[str, Any]) -> None:
    """Write OUT/run.json, before anything else is written to `out`."""
    write_json(out / RUN, description)


def find_start(out: Path, recipe: TrainRecipe, description: Mapping[str, Any]) -> Start:
    """Return where the training in `out` goes on; at its beginning, where there is none.

    Raises UserError, naming what differs, if it is another training than `description` describes.
    """
    if not is_begun(out):
        return Start()
    try:
        earlier = json.loads((out / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{out}: holds no training to resume ({RUN} cannot be read); give another `out`") from None
    for key in differences(earlier, description):
        raise UserError(
            f"{out}: holds a training with another `{key}`; resume it with what it was begun with (see {RUN} there), "
            "or give another `out`"
        )
    records: tuple[Mapping[str, Any], ...] = ()
    for number, stage in enumerate(recipe.stages):
        finished = out / stage.name / "provenance.json"
        if not finished.is_file():
            return Start(stage=number, state=latest(out, stage.name), records=records)
        records = tuple(json.loads(finished.read_text(encoding="utf-8"))["stages"])
    return Start(stage=len(recipe.stages), records=records)


def differences(earlier: Any, now: Any, place: str = "") -> list[str]:
    """Return the places where two JSON values differ, deepest first."""
    if isinstance(earlier, Mapping) and isinstance(now, Mapping):
        keys = [*earlier, *(key for key in now if key not in earlier)]
        return [name for key in keys for name in differences(earlier.get(key), now.get(key), f"{place}.{key}")]
    if isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        pairs = enumerate(zip(earlier, now, strict=True))
        return [name for number, (one, other) in pairs for name in differences(one, other, f"{place}.{number}")]
    return [] if earlier == now else [place.removeprefix(".").removeprefix("recipe.")]
