"""Models that were taught in different ways, on the same questions: the claim that RL generalises where SFT memorises.

Every model answers the sides `test` (datasets that it may have learnt from, other patients) and `held_out` (datasets
that it has not) by `gmai eval run`; each is held against the first, question by question.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmai_vl.evaluation import Question, read_predictions
from gmai_vl.evaluation.comparison import compare as compare_answers
from gmai_vl.evaluation.reports.plots import write_plots
from gmai_vl.evaluation.reports.render import to_csv, to_markdown
from gmai_vl.evaluation.reports.tables import Cell, Table, TableRow
from gmai_vl.evaluation.run import PREDICTIONS, Asking
from gmai_vl.evaluation.run import run as run_benchmark
from gmai_vl.evaluation.verdicts import paired
from gmai_vl.foundation import UserError, write_json, write_text
from gmai_vl.reasoning.cases import Cases, find_cases
from gmai_vl.reasoning.items import Side, read_items, side_file
from gmai_vl.reasoning.rewards import format_reward, parts_of
from gmai_vl.reasoning.synthesis.known import judged_by

ASKED: tuple[Side, ...] = ("test", "held_out")

WRITTEN = ("compare.md", "compare.csv", "compare.json", "plots")
"""What stands in the output folder beside a folder for each model."""

USE = "Research use only, not for diagnosis."


@dataclass(frozen=True, slots=True)
class Model:
    """A model to compare."""

    name: str
    path: Path


def model_of(text: str) -> Model:
    """Return the model that `NAME=FOLDER` or `FOLDER` names: a checkpoint, or a run that holds one.

    GRPO and `train` write it to `final`, `sft` to `run/final`. Raises UserError where there is none.
    """
    name, folder = "", text
    if "=" in text and not Path(text).is_dir():
        name, _, folder = text.partition("=")
    path = Path(folder)
    for checkpoint in (path, path / "final", path / "run" / "final"):
        if (checkpoint / "config.json").is_file():
            return Model(name or path.resolve().name, checkpoint)
    raise UserError(
        f"{folder}: holds no checkpoint, neither itself nor in `final` or `run/final`; give the folder of one"
    )


def compare_models(
    models: Sequence[Model],
    questions: Path,
    out: Path,
    *,
    prompt: str = "reason",
    max_new_tokens: int | None = None,
    corpora: Sequence[Path] = (),
) -> dict[str, Any]:
    """Ask all models both sides, and write compare.json, compare.md, compare.csv and plots into `out`.

    Each answer is kept below OUT/<model>/<side>, so that a comparison that was stopped goes on. Every model but the
    first is compared with the first. Where the cases of questions are at hand, thoughts are held against them. Raises
    UserError where a name stands twice or can be none of a folder, or models or questions cannot be used.
    """
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise UserError(f"models: a name stands twice among {', '.join(names)}; give NAME=FOLDER")
    for name in names:
        # What is no part of a path by itself would be written beside `out`, or over what stands there.
        if name in ("", ".", "..") or re.search(r"[/\\\0]", name) or name.casefold() in WRITTEN:
            raise UserError(f"models: {name!r} can be no folder in {out}; give NAME=FOLDER with another name")
    sides = [side for side in ASKED if side_file(questions, side).is_file()]
    if not sides:
        raise UserError(f"{questions}: has neither test.jsonl nor held_out.jsonl; build the questions anew")
    asked = {side: read_items(questions, side, prompt) for side in sides}
    cases = {side: find_cases(questions, items.about) for side, items in asked.items()}
    told: dict[str, Any] = {"questions": str(questions), "prompt": prompt, "base": names[0], "models": {}}
    for model in models:
        of_sides: dict[str, Any] = {}
        told["models"][model.name] = {"path": str(model.path), "sides": of_sides}
        for side in sides:
            asking = Asking(
                model=str(model.path),
                benchmark="own",
                data=side_file(questions, side),
                prompt=prompt,
                max_new_tokens=max_new_tokens,
                corpora=tuple(corpora),
            )
            folder = out / model.name / side
            score = run_benchmark(asking, folder).score
            assert score is not None
            said = read_predictions(folder / PREDICTIONS)
            formed = sum(format_reward(one, said[one.id]) for one in asked[side].questions)
            of_sides[side] = {
                "n": score["n"],
                "accuracy": score["micro"],
                "interval": score["interval"],
                "format": formed / score["n"],
                "facts": _facts(asked[side].questions, said, cases[side]),
                "n_unparsed": score["n_unparsed"],
                "n_cut_off": score["n_cut_off"],
                "leaks": score["leaks"],
                "by_source": {
                    name: {key: group[key] for key in ("n", "accuracy", "interval")}
                    for name, group in score["groups"].get("source", {}).items()
                },
            }
            if model is not models[0]:
                of_sides[side]["against"] = _against(folder, out / models[0].name / side, models[0].name)
    _write(told, sides, out)
    return told


def _facts(questions: Sequence[Question], said: Mapping[str, str], cases: Cases) -> dict[str, Any] | None:
    """Return what the annotation says to the thoughts about known cases; None where no case is known."""
    if not cases.packed:
        return None
    judged = [
        facts
        for question in questions
        if (case := cases.of(question.id)) is not None
        and (parts := parts_of(said[question.id])) is not None
        and parts[0]
        and (facts := judged_by(case, question, parts[0])).unknown is None
    ]
    borne_out = sum(facts.borne_out for facts in judged)
    statements = borne_out + sum(len(facts.contradicted) for facts in judged)
    contradicted = sum(bool(facts.contradicted) for facts in judged)
    return {
        "questions": len(cases.packed),
        "thoughts": len(judged),
        "statements": statements,
        "true": borne_out / statements if statements else None,
        "contradicted": contradicted / len(judged) if judged else None,
    }


def _against(folder: Path, first: Path, name: str) -> dict[str, Any]:
    pair = paired(folder, first)
    found = compare_answers(
        [verdict.correct for verdict in pair.one],
        [verdict.correct for verdict in pair.other],
        [verdict.patient for verdict in pair.one],
    )
    return {"model": name, **found.as_json()}


def _write(told: dict[str, Any], sides: Sequence[Side], out: Path) -> None:
    table = _table(told, sides)
    markdown, csv, json, plots = (out / name for name in WRITTEN)
    write_plots([table], plots)
    write_text(markdown, f"# Base, taught and reinforced\n\n{USE}\n\n{to_markdown(table)}")
    write_text(csv, to_csv(table))
    write_json(json, told)


def _table(told: dict[str, Any], sides: Sequence[Side]) -> Table:
    rows, notes = [], []
    for name, model in told["models"].items():
        cells = {}
        for side in sides:
            found = model["sides"][side]
            low, high = found["interval"]
            cells[f"{side} right"] = Cell(value=100 * found["accuracy"], interval=(100 * low, 100 * high), n=found["n"])
            cells[f"{side} well formed"] = Cell(value=100 * found["format"])
            if found["facts"] and found["facts"]["thoughts"]:
                share, thoughts = found["facts"]["contradicted"], found["facts"]["thoughts"]
                cells[f"{side} thoughts contradicted"] = Cell(value=100 * share, n=thoughts)
            if "against" in found:
                notes.append(_note(name, side, found["against"]))
        seen = ", ".join(f"{side} {_leaks(model['sides'][side]['leaks'])}" for side in sides)
        rows.append(TableRow(model=name, status="measured", source=f"leaks: {seen}", protocol="default", cells=cells))
    given = {column for row in rows for column in row.cells}
    whats = ("right", "well formed", "thoughts contradicted")
    columns = tuple(column for side in sides for what in whats if (column := f"{side} {what}") in given)
    return Table(
        name="reasoning",
        title="Answers and thoughts, per cent",
        columns=columns,
        spokes=(),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _leaks(leaks: dict[str, Any]) -> str:
    return f"{leaks['n']} leaked" if leaks["status"] == "leaked" else str(leaks["status"])


def _note(name: str, side: str, against: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in against["interval"])
    return (
        f"{name} against {against['model']} on {side}: {100 * against['difference']:+.1f} points "
        f"[{low:+.1f}, {high:+.1f}], exact McNemar p = {against['p_mcnemar']:.3g}, clustered by patient "
        f"{against['p_clustered']:.3g}."
    )
