"""The whole programme in one command: parts, corpora, three stages, evaluation, report. Finished steps are kept."""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gmai_vl import __version__
from gmai_vl.corpus import Corpus, build, verify
from gmai_vl.corpus import read_recipe as read_data_recipe
from gmai_vl.corpus.stats import stats
from gmai_vl.foundation import UserError, say, sha256_of_file, write_json
from gmai_vl.model import Vlm, build_model, is_present, load_model, parts, pull
from gmai_vl.quickstart.measure import measure
from gmai_vl.quickstart.recipes import write_data_recipes, write_train_recipe
from gmai_vl.quickstart.report import write_report
from gmai_vl.training import read_recipe as read_train_recipe
from gmai_vl.training import train
from gmai_vl.training.precision import resolve_precision

BACKBONES = ("smollm2-135m", "efficientnet-lite0")


def run_quickstart(out: Path, *, recipe: Path | None = None, seed: int = 0) -> Path:
    """Run every step that `out` does not hold yet and return the report's path.

    Without a data `recipe` the corpora are phantoms and the images that ship inside packages, reported apart.
    Raises UserError if `out` holds a run of another recipe or seed, or if a corpus fails its own checks.
    """
    if recipe is not None:
        read_data_recipe(recipe)
    journal = _Journal(out, {"seed": seed, "recipe": sha256_of_file(recipe) if recipe else None, "tool": __version__})
    data_recipes = [recipe] if recipe else write_data_recipes(out, seed)
    corpora = [out / "corpora" / read_data_recipe(path).name for path in data_recipes]

    journal.step("backbones", _pull_backbones)
    for path, corpus in zip(data_recipes, corpora, strict=True):
        journal.step(f"corpus {corpus.name}", partial(_build_corpus, path, corpus))
    train_recipe = write_train_recipe(out, corpora, seed)
    journal.step("training", partial(_train, train_recipe))
    journal.step("evaluation", partial(_evaluate, out, train_recipe, corpora, seed))
    report = write_report(out, corpora, train_recipe, seed=seed, own_data=recipe is not None, steps=journal.steps)
    say(f"quickstart: {sum(step['seconds'] for step in journal.steps.values()):.0f} s in all, report: {report}")
    return report


class _Journal:
    """The finished steps of a run, with what came out and how long it took: OUT/quickstart.json."""

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        self._path = out / "quickstart.json"
        self._identity = identity
        self.steps: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            held = json.loads(self._path.read_text(encoding="utf-8"))
            if held["identity"] != identity:
                raise UserError(f"{out}: holds a run of another recipe, seed or version; give another --out")
            self.steps = held["steps"]
        elif out.exists() and any(out.iterdir()):
            raise UserError(f"{out}: is not empty and holds no quickstart; give another --out")

    def step(self, name: str, work: Callable[[], str]) -> None:
        """Do `work` unless it was done before, and write down what it returned."""
        if name in self.steps:
            say(f"{name}: done before")
            return
        say(f"== {name}")
        started = time.monotonic()
        result = work()
        self.steps[name] = {"result": result, "seconds": time.monotonic() - started}
        write_json(self._path, {"identity": self._identity, "steps": self.steps})


def _pull_backbones() -> str:
    missing = [name for name in BACKBONES if not is_present(name)]
    for name in missing:
        pull(name)
    return f"fetched {', '.join(missing)}" if missing else "in the cache already"


def _build_corpus(recipe: Path, corpus: Path) -> str:
    summary = build(recipe, corpus, workers=os.cpu_count() or 1)
    faults = verify(corpus)
    if faults:
        raise UserError(f"{corpus}: {len(faults)} faults, the first: {faults[0]}; see `gmai data verify {corpus}`")
    stats(corpus)
    counts = summary.counts
    outcomes = ", ".join(f"{number} items {outcome}" for outcome, number in counts["outcomes"].items())
    return f"{counts['cases']} images, {counts['samples']} samples, every invariant verified ({outcomes})"


def _train(recipe: Path) -> str:
    # What an interrupted run left is done again: its stages are minutes.
    final = train(read_train_recipe(recipe), base=recipe.parent, overwrite=True)
    stages = json.loads((final / "provenance.json").read_text(encoding="utf-8"))["stages"]
    return ", ".join(f"{stage['name']} {stage['steps']} steps on {stage['samples']} samples" for stage in stages)


def _evaluate(out: Path, train_recipe: Path, corpora: list[Path], seed: int) -> str:
    recipe = read_train_recipe(train_recipe)
    trained = _in_native_precision(load_model(out / "model" / "final"))
    untrained = _in_native_precision(build_model(recipe.model, seed=recipe.seed))
    texts = []
    for path in corpora:
        results = measure(Corpus(path), trained, untrained, out / "evaluation" / path.name, seed=seed)
        if results:
            score = results["choices"]["trained"]
            texts.append(f"{path.name} {score['micro']:.1%} of {score['n']} questions")
    return "; ".join(texts) or "no questions on unseen patients"


def _in_native_precision(vlm: Vlm) -> Vlm:
    """Let the language part compute in bf16 where the processor does, as in training: its answers come sooner."""
    if resolve_precision("auto", vlm.model.device) == "bf16":
        parts(vlm.model)["language"].to(torch.bfloat16)
    return vlm
