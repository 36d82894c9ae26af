"""A whole training: the recipe's stages one after the other, each saved as a loadable checkpoint."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from gmai_vl.corpus import Corpus
from gmai_vl.foundation import UserError, say
from gmai_vl.model import ModelSettings, Vlm, backbone_records, build_model, new_conversations, outline, save_model
from gmai_vl.training.adapters import add_adapters, merged
from gmai_vl.training.checkpoint import model_card, provenance, stage_record
from gmai_vl.training.feed import image_loader
from gmai_vl.training.fit import Fit, check_batch, fitted
from gmai_vl.training.leak_check import check_leaks
from gmai_vl.training.loop import Run, run_stage
from gmai_vl.training.memory import keep_freed_memory
from gmai_vl.training.mixture import Mixture, training_mixture, validation_mixture
from gmai_vl.training.outputs import check_out, remove_earlier
from gmai_vl.training.precision import Precision, resolve_precision
from gmai_vl.training.ranks import Ranks, start_ranks, wait_for_all
from gmai_vl.training.recipe import RESERVED_NAMES, Stage, TrainRecipe
from gmai_vl.training.resume import RUN, Start, describe, find_start, write_description
from gmai_vl.training.sharding import Learner, shard, whole_weights
from gmai_vl.training.state import StateWriter
from gmai_vl.training.survey import survey_if_known
from gmai_vl.training.telemetry import RunLog, cut_log
from gmai_vl.training.tokens import TokenStore, open_tokens
from gmai_vl.training.trackers import open_tracker
from gmai_vl.training.validation import confidences


def train(recipe: TrainRecipe, *, base: Path, overwrite: bool = False, resume: bool = False) -> Path:
    """Train as `recipe` says, on all ranks that torchrun started, and return OUT/final, a link to the last checkpoint.

    Paths of the recipe are relative to `base`. OUT/<stage>/ are checkpoints, OUT/state/ what `resume` goes on from,
    OUT/log.jsonl and OUT/tensorboard/ tell how it went. Raises UserError if data or parts of the model are missing, if
    OUT holds anything that is neither to be removed (`overwrite`) nor to go on with (`resume`), or if a loss is not
    finite.
    """
    with start_ranks() as ranks:
        return _train(recipe, ranks, base, overwrite=overwrite, resume=resume)


def check_free(recipe: TrainRecipe, *, base: Path, overwrite: bool, resume: bool) -> None:
    """Raise UserError where `train` may not write to OUT; nothing is changed."""
    init = placed(recipe.model, base).init
    needs = {"the checkpoint of `model.init`": Path(init)} if init else {}
    check_out((base / recipe.out).resolve(), needs, _of_a_run, overwrite=overwrite, resume=resume)


def _train(recipe: TrainRecipe, ranks: Ranks, base: Path, *, overwrite: bool, resume: bool) -> Path:
    check_free(recipe, base=base, overwrite=overwrite, resume=resume)
    out = (base / recipe.out).resolve()
    settings = placed(recipe.model, base)
    names = dict.fromkeys(part.corpus for stage in recipe.stages for part in stage.mixture)
    corpora = {name: Corpus((base / name).resolve()) for name in names}
    precision = resolve_precision(recipe.precision, ranks.device)
    origin = _origin(settings)
    description = describe(recipe, corpora, precision, origin)
    start = find_start(out, recipe, description) if resume else Start()
    if start.stage == len(recipe.stages):
        if ranks.is_main:
            say(f"{recipe.name}: is finished, there is nothing to resume")
            # It may have been killed after the last checkpoint and before these.
            shutil.rmtree(out / "state", ignore_errors=True)
            _link(out / "final", recipe.stages[-1].name)
        return out / "final"
    if recipe.leak_check and ranks.is_main:
        origin["leak_check"] = check_leaks(recipe.leak_check, corpora.values(), base)

    keep_freed_memory()
    _choose_kernels(deterministic=recipe.deterministic)
    if start.stage:
        settings = ModelSettings(init=str(out / recipe.stages[start.stage - 1].name))
    vlm = _model(settings, ranks, recipe.seed)
    numbers = survey_if_known(vlm)
    stores = _stores(corpora, vlm, ranks)
    # The data of all stages first: a mistake in the last one must not show after hours.
    data = [_data(recipe, stage, stores, vlm) for stage in recipe.stages[start.stage :]]
    tracker = open_tracker(recipe.tracker, recipe.name) if recipe.tracker and ranks.is_main else None
    if ranks.is_main:
        _prepare(out, recipe, start, description, resume=resume)
        where = f"{ranks.world} ranks, {ranks.device.type}" if ranks.world > 1 else ranks.device
        say(f"{recipe.name}: {len(recipe.stages)} stages on {where} in {precision}")
        if notice := new_conversations(settings):
            say(notice)
    wait_for_all(ranks)

    records: list[Mapping[str, Any]] = list(start.records)
    with (
        RunLog(out, writes=ranks.is_main, tracker=tracker) as log,
        StateWriter(out, ranks, keep=recipe.state.keep) as states,
    ):
        learner: Learner | None = None
        for number in range(start.stage, len(recipe.stages)):
            stage, (fit, held_out) = recipe.stages[number], data[number - start.stage]
            if learner is None:
                learner = _learner(vlm, stage, ranks, recipe, precision)
            elif stage.lora or recipe.stages[number - 1].lora:
                # Adapters come before sharding and go into the checkpoint.
                settings = ModelSettings(init=str(out / recipe.stages[number - 1].name))
                vlm = _model(settings, ranks, recipe.seed)
                learner = _learner(vlm, stage, ranks, recipe, precision)
            run = Run(
                vlm=vlm,
                learner=learner,
                seed=recipe.seed,
                limits=recipe.pack_limits,
                log=log,
                states=states,
                save_every=recipe.state.every,
                stop_at_leap=recipe.stop_at_leap,
                survey=numbers,
            )
            if any(part.min_confidence is not None for part in stage.mixture):
                fit = _confident(run, recipe, stage, stores)
            totals = run_stage(run, stage, fit, held_out, start.state if number == start.stage else None)
            records.append(stage_record(stage, fit.mixture, totals))
            # Before the checkpoint: killed between the two, a stage that is finished would lack its line.
            log.write("done", stage.name, totals.steps, path=stage.name, seconds=totals.seconds)
            _save(run, stage, out / stage.name, provenance(recipe, origin, precision, records))
            wait_for_all(ranks)
    if ranks.is_main:
        _link(out / "final", recipe.stages[-1].name)
    wait_for_all(ranks)
    return out / "final"


def _model(settings: ModelSettings, ranks: Ranks, seed: int) -> Vlm:
    """Return the model on rank 0, elsewhere its shapes: `shard` deals its weights out."""
    return build_model(settings, seed=seed) if ranks.is_main else outline(settings)


def _choose_kernels(*, deterministic: bool) -> None:
    """Let PyTorch take kernels that give the same bits every time, or any."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first use
    torch.use_deterministic_algorithms(deterministic)


def _learner(vlm: Vlm, stage: Stage, ranks: Ranks, recipe: TrainRecipe, precision: Precision) -> Learner:
    """Return the model, with adapters where `stage` has them, spread over the ranks."""
    if stage.lora:
        add_adapters(vlm.model, stage.lora, seed=recipe.seed)
    return shard(vlm.model, ranks, recipe.strategy, precision)


def _save(run: Run, stage: Stage, path: Path, facts: Mapping[str, Any]) -> None:
    """Save the model as the checkpoint of `stage`, then remove the states that led to it."""
    run.states.wait()
    weights = whole_weights(run.learner)
    if run.learner.ranks.is_main:
        if stage.lora:
            weights = merged(weights, stage.lora)
        try:
            save_model(run.vlm, path, weights=weights, provenance=dict(facts), card=model_card(facts))
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{path}: the checkpoint cannot be saved: {error}; the last training state is whole, make room and go "
                "on with --resume"
            ) from error
        run.states.clear()
        say(f"{stage.name}: saved to {path}")


def _data(recipe: TrainRecipe, stage: Stage, stores: Mapping[str, TokenStore], vlm: Vlm) -> tuple[Fit, Fit | None]:
    """Return what a stage learns from and what it is validated on."""
    learnt = training_mixture(stage, stores, recipe.seed)
    held_out = validation_mixture(stage, stores, recipe.seed)
    fit = fitted(vlm.processor, learnt, recipe.pack_limits, stage.name)
    check_batch(stage, fit.sizes, recipe.pack_limits)
    if held_out is None:
        return fit, None
    return fit, fitted(vlm.processor, held_out, recipe.pack_limits, stage.name)


def _confident(run: Run, recipe: TrainRecipe, stage: Stage, stores: Mapping[str, TokenStore]) -> Fit:
    """Return what a stage learns from, without the samples whose answers the model is too unsure of as it begins."""
    processor, load_image = run.vlm.processor, image_loader(run.vlm.processor)

    def confidence(found: Mixture) -> NDArray[np.float64]:
        whole = fitted(processor, found, None, stage.name)
        shares = confidences(run.learner, processor, load_image, whole, stage.micro_batch_tokens)
        deciles = [round(share, 4) for share in np.quantile(shares, np.linspace(0, 1, 11)).tolist()]
        run.log.write("confidence", stage.name, 0, samples=len(found), deciles=deciles)
        return shares

    mixture = training_mixture(stage, stores, recipe.seed, confidence)
    fit = fitted(processor, mixture, recipe.pack_limits, stage.name)
    if run.learner.ranks.is_main:
        say(f"{stage.name}: {len(mixture)} samples an epoch are left by `min_confidence`; log.jsonl has the deciles")
    return fit


def _stores(corpora: Mapping[str, Corpus], vlm: Vlm, ranks: Ranks) -> dict[str, TokenStore]:
    """Open the token stores; the first rank of each machine makes them, the others wait for it."""
    if ranks.is_first_of_machine:
        for corpus in corpora.values():
            open_tokens(corpus, vlm.processor)
    wait_for_all(ranks)
    return {name: open_tokens(corpus, vlm.processor) for name, corpus in corpora.items()}


def _prepare(out: Path, recipe: TrainRecipe, start: Start, description: Mapping[str, Any], *, resume: bool) -> None:
    """Bring `out` to where the training begins or goes on."""
    if not resume:
        remove_earlier(out, _of_a_run)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / RUN).exists():
        write_description(out, description)
    done = int(start.state.name.rpartition("-")[2]) if start.state else -1
    cut_log(out, [stage.name for stage in recipe.stages[: start.stage]], recipe.stages[start.stage].name, done)


def placed(settings: ModelSettings, base: Path) -> ModelSettings:
    """Return `settings` with folders that are relative to `base` made absolute; names of backbones and hub ids stay."""
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


def _of_a_run(entry: Path) -> bool:
    """Say whether a training wrote `entry`: a log, the link, or a checkpoint with its provenance."""
    return entry.name in RESERVED_NAMES or (entry / "provenance.json").is_file()
