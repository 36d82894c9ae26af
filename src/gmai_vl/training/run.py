"""A whole training: the recipe's stages one after the other, each saved as a loadable checkpoint."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from gmai_vl.corpus import Corpus
from gmai_vl.foundation import UserError, is_inside, say
from gmai_vl.model import ModelSettings, backbone_records, build_model, save_model
from gmai_vl.training.checkpoint import model_card, provenance, stage_record
from gmai_vl.training.leak_check import check_leaks
from gmai_vl.training.loop import run_stage
from gmai_vl.training.memory import keep_freed_memory
from gmai_vl.training.mixture import training_mixture, validation_mixture
from gmai_vl.training.precision import resolve_precision
from gmai_vl.training.recipe import RESERVED_NAMES, TrainRecipe
from gmai_vl.training.telemetry import RunLog
from gmai_vl.training.tokens import open_tokens


def train(recipe: TrainRecipe, *, base: Path, overwrite: bool = False) -> Path:
    """Train as `recipe` says and return OUT/final, a link to the checkpoint of the last stage.

    Paths of the recipe are relative to `base`. OUT/<stage>/ are checkpoints, OUT/log.jsonl and OUT/tensorboard/ tell
    how it went. Raises UserError if data or parts of the model are missing, if OUT is not empty (`overwrite` removes an
    earlier run from it), or if a loss is not finite.
    """
    out = (base / recipe.out).resolve()
    settings = _placed(recipe.model, base)
    _check_free(out, settings, overwrite)
    names = dict.fromkeys(part.corpus for stage in recipe.stages for part in stage.mixture)
    corpora = {name: Corpus((base / name).resolve()) for name in names}
    leaks = check_leaks(recipe.leak_check, corpora.values(), base) if recipe.leak_check else None
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = resolve_precision(recipe.precision, device)
    vlm = build_model(settings, seed=recipe.seed)
    stores = {name: open_tokens(corpus, vlm.processor) for name, corpus in corpora.items()}
    # The data of all stages first: a mistake in the last one must not show after hours.
    data = [
        (training_mixture(stage, stores, recipe.seed), validation_mixture(stage, stores, recipe.seed))
        for stage in recipe.stages
    ]
    vlm.model.to(device)
    torch.manual_seed(recipe.seed)
    origin = _origin(settings) | ({"leak_check": leaks} if leaks else {})
    say(f"{recipe.name}: {len(recipe.stages)} stages on {device} in {precision}")

    _remove_earlier_run(out)
    out.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    with RunLog(out) as log:
        for stage, (mixture, held_out) in zip(recipe.stages, data, strict=True):
            totals = run_stage(
                vlm,
                stage,
                mixture,
                held_out,
                seed=recipe.seed,
                precision=precision,
                log=log,
                limits=recipe.pack_limits,
            )
            records.append(stage_record(stage, mixture, totals))
            facts = provenance(recipe, origin, precision, records)
            save_model(vlm, out / stage.name, provenance=facts, card=model_card(facts))
            log.write("saved", stage.name, totals.steps, path=stage.name, seconds=totals.seconds)
            say(f"{stage.name}: saved to {out / stage.name}")
    return _link(out / "final", recipe.stages[-1].name)


def _placed(settings: ModelSettings, base: Path) -> ModelSettings:
    """Make relative folders relative to `base`; names of backbones and hub ids stay."""
    folders = {"init": settings.init} if settings.init else {}
    for key, value in (("vision", settings.vision), ("language", settings.language)):
        if value and (base / value).is_dir():
            folders[key] = value
    return settings.model_copy(update={key: str((base / value).resolve()) for key, value in folders.items()})


def _origin(settings: ModelSettings) -> dict[str, Any]:
    """Return the backbones, or the checkpoint that training goes on from with its own provenance."""
    origin = backbone_records(settings)
    if settings.init and (earlier := Path(settings.init) / "provenance.json").is_file():
        origin["provenance"] = json.loads(earlier.read_text(encoding="utf-8"))
    return origin


def _link(link: Path, target: str) -> Path:
    """Point `link` at its sibling `target`, at once."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target, target_is_directory=True)
    return temporary.replace(link)


def _check_free(out: Path, settings: ModelSettings, overwrite: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder as `out`")
    if settings.init and is_inside(Path(settings.init), out):
        raise UserError(f"{out}: holds the checkpoint of `model.init`; give another `out`")
    foreign = sorted(entry.name for entry in out.iterdir() if not _of_a_run(entry))
    if foreign:
        raise UserError(f"{out}: holds {foreign[0]}, which no training wrote; give an empty or new folder as `out`")
    if any(out.iterdir()) and not overwrite:
        raise UserError(f"{out}: holds an earlier training; give another `out`, or remove it with --overwrite")


def _remove_earlier_run(out: Path) -> None:
    for entry in out.iterdir() if out.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _of_a_run(entry: Path) -> bool:
    """Say whether a training wrote `entry`: a log, the link, a checkpoint with its provenance, or half of one."""
    if entry.name.startswith(".") and entry.suffix in (".tmp", ".old"):
        return True
    return entry.name in RESERVED_NAMES or (entry / "provenance.json").is_file()
