"""Rounds: traces are made and learnt, what is hard then is found out, and rewards teach on; the next round goes on so.

The iterative training of GMAI-VL-R1 (arXiv 2504.01886). A round begins with the model that the last one gave. In
order, of these what the recipe has: `synthesize`, `sft` on its traces, `estimate_difficulty` by what came of it, `grpo`
from there.
"""

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from gmai_vl.evaluation import checkpoint_sha256
from gmai_vl.evaluation.remote import PREFIX
from gmai_vl.foundation import (
    Settings,
    UserError,
    load_settings,
    overridden,
    read_yaml,
    say,
    sha256_of_file,
    write_json,
    write_text,
)
from gmai_vl.reasoning.base import Base, Teaching
from gmai_vl.reasoning.difficulty import estimate_difficulty, spread
from gmai_vl.reasoning.grpo import Bounds, GrpoRecipe, GrpoSettings, grpo
from gmai_vl.reasoning.grpo.claim import FINAL
from gmai_vl.reasoning.grpo.telemetry import LOG
from gmai_vl.reasoning.items import read_items, side_file
from gmai_vl.reasoning.sft import SftRecipe, SftSettings, sft
from gmai_vl.reasoning.synthesis import SynthesisRecipe, SynthesisSettings, synthesize
from gmai_vl.reasoning.synthesis.traces import REPORT
from gmai_vl.training.outputs import is_begun
from gmai_vl.training.resume import differences

ROUNDS, SUMMARY = "rounds.json", "summary.jsonl"
"""What stands in the output folder beside the rounds."""

FREE_KEYS: dict[str, Any] = {
    "rounds": True,
    "synthesis": {"concurrency", "key_env", "budget_requests", "timeout_s", "prices"},
    "grpo": {"state"},
}
"""Keys that may change when a run goes on: how many rounds there are, how a server is asked, how often is saved."""

REWARD_STEPS = 10
"""First and last steps that a reward is the mean of; fewer where there are not twice as many."""

Row = dict[str, Any]


class Estimate(Settings):
    """How the difficulty of questions is estimated in each round."""

    samples: PositiveInt = 8
    """Answers to a question."""

    temperature: PositiveFloat = 1.0
    max_new_tokens: PositiveInt = 1024
    keep: Bounds | None = (0.1, 0.9)
    """Share of right answers of the questions that GRPO takes; None: all, the estimate is only told."""


class RoundsRecipe(Teaching):
    """A whole iterative training. What a round sets itself (folders, models, seeds) stands in none of its steps.

    The first round begins with `model` and `seed`; the second has the next number as its seed, so that the same
    questions are answered anew.
    """

    rounds: PositiveInt
    """More of them may be asked for later."""

    synthesis: SynthesisSettings | None = None
    """Without `teacher` a round's first model is its own teacher."""

    sft: SftSettings | None = None
    difficulty: Estimate | None = None
    """None: GRPO takes all questions."""

    grpo: GrpoSettings | None = None

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.sft is None and self.grpo is None:
            raise ValueError("no step teaches the model; give `sft` with `synthesis`, or `grpo`, or all of them")
        if (self.sft is None) != (self.synthesis is None):
            raise ValueError("`sft` learns what `synthesis` makes; give both or neither")
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One round as its steps are told it; folders are relative to the recipe file."""

    number: int
    """From 1."""

    seed: int
    begins_with: str
    """Folder of a checkpoint."""

    synthesis: SynthesisRecipe | None
    sft: SftRecipe | None
    learnt: str
    """Folder of the checkpoint after `sft`, whose difficulties are estimated; without, what the round begins with."""

    grpo: GrpoRecipe | None
    gives: str
    """Folder of the round's checkpoint."""


def read_rounds_recipe(path: Path, overrides: Sequence[str] = ()) -> RoundsRecipe:
    """Read a recipe from YAML, with `key=value` in place of what stands there.

    Raises UserError, naming the file and the key, for what is no recipe, in any of its steps.
    """
    return load_settings(RoundsRecipe, overridden(read_yaml(path), overrides), path)


def laid_out(recipe: RoundsRecipe) -> list[Round]:
    """Return all rounds, each with the recipes of its steps."""
    rounds: list[Round] = []
    for number in range(1, recipe.rounds + 1):
        rounds.append(_round(recipe, number, rounds[-1].gives if rounds else recipe.model.init))
    return rounds


def _round(recipe: RoundsRecipe, number: int, model: str) -> Round:
    out, seed = f"{recipe.out}/round-{number}", recipe.seed + number - 1
    common = {"questions": recipe.questions, "seed": seed}
    synthesis = taught = reinforced = None
    learnt = gives = model
    if recipe.synthesis and recipe.sft:
        own = {"teacher": recipe.synthesis.teacher or model, "out": f"{out}/traces"}
        synthesis = SynthesisRecipe(**{**dict(recipe.synthesis), **common, **own})
        told = {"name": f"{recipe.name}-{number}-sft", "out": f"{out}/sft", "traces": synthesis.out}
        taught = SftRecipe(**{**dict(recipe.sft), **common, **told, "model": Base(init=model)})
        learnt = gives = f"{taught.out}/run/final"
    if recipe.grpo:
        told = {"name": f"{recipe.name}-{number}-grpo", "out": f"{out}/grpo"}
        bounds = recipe.difficulty.keep if recipe.difficulty else None
        begin = {"model": Base(init=learnt), "difficulty": bounds}
        reinforced = GrpoRecipe(**{**dict(recipe.grpo), **common, **told, **begin})
        gives = f"{reinforced.out}/{FINAL}"
    return Round(
        number=number,
        seed=seed,
        begins_with=model,
        synthesis=synthesis,
        sft=taught,
        learnt=learnt,
        grpo=reinforced,
        gives=gives,
    )


def rounds(recipe: RoundsRecipe, *, base: Path, resume: bool = False) -> list[Row]:
    """Run all rounds and return the lines of OUT/summary.jsonl: of each its models, yield, difficulties and rewards.

    Paths of the recipe are relative to `base`. OUT/round-N/ holds what the steps of a round write. With `resume` the
    run in OUT goes on: steps that are finished are not done again, the one that was stopped goes on as it does by
    itself. Raises UserError if model or questions cannot be used, if OUT holds anything that is not to be gone on
    with, if a synthesis keeps no trace, and what the steps raise.
    """
    out = (base / recipe.out).resolve()
    told = _told(recipe, base)
    _claim(out, told, resume=resume)
    lines = _json_lines(out / SUMMARY) if (out / SUMMARY).is_file() else []
    for one in laid_out(recipe)[len(lines) :]:
        say(f"{recipe.name}: round {one.number} of {recipe.rounds}")
        lines.append(_run(one, recipe, base))
        write_text(out / SUMMARY, "".join(json.dumps(line) + "\n" for line in lines))
    return lines[: recipe.rounds]


def _told(recipe: RoundsRecipe, base: Path) -> Row:
    """Return what makes a run this one and no other. Raises UserError where model or questions cannot be used."""
    init, questions = (base / recipe.model.init).resolve(), (base / recipe.questions).resolve()
    if not (init / "config.json").is_file():
        raise UserError(f"model.init: {init} holds no checkpoint; give the folder of one")
    prompt = recipe.grpo.prompt if recipe.grpo else "reason"
    read_items(questions, "train", prompt)
    if recipe.grpo and recipe.grpo.validation:
        read_items(questions, "val", prompt)
    said = recipe.model_dump(mode="json", exclude=FREE_KEYS)
    if recipe.synthesis and recipe.synthesis.is_remote:  # a server may move, its model counts
        said["synthesis"]["teacher"] = f"{PREFIX}#{str(recipe.synthesis.teacher).partition('#')[2]}"
    return {
        "recipe": said,
        "model_sha256": checkpoint_sha256(init),
        "questions_sha256": sha256_of_file(side_file(questions, "train")),
    }


def _claim(out: Path, told: Mapping[str, Any], *, resume: bool) -> None:
    """Make the output folder this run's. Raises UserError where it is another's, or is not to be gone on with."""
    held = out / ROUNDS
    if not held.is_file():
        if out.is_file() or is_begun(out):
            raise UserError(f"{out}: holds other things; give a new or an empty folder as `out`")
        write_json(held, dict(told))
        return
    if not resume:
        raise UserError(f"{out}: holds rounds; --resume goes on with them, or give another `out`")
    try:
        before = json.loads(held.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{held}: cannot be read: {error}; give another `out`") from None
    for key in differences(before, told):
        raise UserError(f"{out}: was begun with another `{key}`; go on with what {ROUNDS} tells, or give another `out`")


def _run(one: Round, recipe: RoundsRecipe, base: Path) -> Row:
    """Run the steps of a round, or what is left of them, and return its line of the summary."""
    line: Row = {"round": one.number, "begins_with": _model(one.begins_with, base)}
    if one.synthesis and one.sft:
        report = _synthesized(one.synthesis, base)
        told = report["questions"]
        share = told["with_trace"] / told["all"]
        line["synthesis"] = {"teacher": report["asked"]["teacher"], **told, "yield": share}
        sft(one.sft, base=base, resume=True)
        line["sft"] = _model(one.learnt, base)
    if recipe.difficulty:
        estimates = estimate_difficulty(
            (base / recipe.questions).resolve(),
            (base / one.learnt).resolve(),
            samples=recipe.difficulty.samples,
            temperature=recipe.difficulty.temperature,
            max_new_tokens=recipe.difficulty.max_new_tokens,
            seed=one.seed,
            prompt=one.grpo.prompt if one.grpo else "reason",
        )
        line["difficulty"] = spread(estimates)
    if one.grpo:
        grpo(one.grpo, base=base, resume=True)
        gc.collect()  # TRL's trainer holds itself in a cycle, and with it the memory of a model
        line["grpo"] = course(_json_lines((base / one.grpo.out).resolve() / LOG))
    return line | {"gives": _model(one.gives, base)}


def _model(folder: str, base: Path) -> Row:
    return {"path": folder, "sha256": checkpoint_sha256((base / folder).resolve())}


def _synthesized(recipe: SynthesisRecipe, base: Path) -> Row:
    """Return the report of a round's synthesis; made anew only where there is none, or no trace in it.

    Asked again, a server might answer what it refused before, and the traces would not be those that were learnt.
    """
    file = (base / recipe.out).resolve() / REPORT
    report: Row = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not report or not report["questions"]["with_trace"]:
        report = synthesize(recipe, base=base).report
    if report["questions"]["with_trace"]:
        return report
    reasons = [f"{number} for `{name}`" for name, number in report["reasons"].items()]
    why = f" ({', '.join(reasons)})" if reasons else ""
    raise UserError(
        f"{file.parent}: none of {report['tries']['answered']} answers is kept{why}, so there is nothing to learn; "
        "give a better `teacher` or more `tries`, and another `out`"
    )


def course(log: Sequence[Row]) -> Row:
    """Return how a reinforcement went: reward, and accuracy on unseen questions, at its beginning and its end."""
    rewards = [row["reward"] for row in log if row["event"] == "step"]
    steps = max(1, min(REWARD_STEPS, len(rewards) // 2))
    told: Row = {"reward": {"first": sum(rewards[:steps]) / steps, "last": sum(rewards[-steps:]) / steps}}
    if validations := [row for row in log if row["event"] == "validation"]:
        first, last = validations[0], validations[-1]
        told["accuracy"] = {"first": first["accuracy"], "last": last["accuracy"], "questions": last["questions"]}
    return told


def _json_lines(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
