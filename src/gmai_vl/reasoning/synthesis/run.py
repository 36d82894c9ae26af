"""A rejection sampling from recipe to traces, that goes on after it was stopped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmai_vl.evaluation import choose
from gmai_vl.foundation import UserError, is_inside, write_json
from gmai_vl.reasoning.items import asked_sha256, read_items
from gmai_vl.reasoning.synthesis.answers import latest, open_answers, read_answers
from gmai_vl.reasoning.synthesis.judging import judge_answers
from gmai_vl.reasoning.synthesis.recipe import SynthesisRecipe
from gmai_vl.reasoning.synthesis.report import report_of
from gmai_vl.reasoning.synthesis.teacher import teacher_of, tries_of
from gmai_vl.reasoning.synthesis.traces import write_traces

RUN, RAW = "run.json", "raw.jsonl"
"""What stands in the output folder, beside what is made of it."""

PROMPT = "reason"

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Synthesis:
    """What a rejection sampling came to."""

    out: Path
    report: dict[str, Any]
    """As in report.json."""


def synthesize(recipe: SynthesisRecipe, *, base: Path, ask: bool = True) -> Synthesis:
    """Ask the teacher what it was not asked yet, judge all answers anew, and write what is kept and what is not.

    Paths of the recipe are relative to `base`. Without `ask` the answers that are there are judged and no teacher is
    needed. Raises UserError if questions or teacher cannot be used, or `out` holds anything else; EndpointError where a
    server cannot be reached. What was answered is kept.
    """
    folder, out = (base / recipe.questions).resolve(), (base / recipe.out).resolve()
    if is_inside(folder, out) or is_inside(out, folder):
        raise UserError(f"out: {out} lies about {folder} or in it; give another folder")
    items = read_items(folder, recipe.side, PROMPT)
    asked = {
        "questions": asked_sha256(items.questions),
        "side": recipe.side,
        "prompt": PROMPT,
        "temperature": recipe.temperature,
        "top_p": recipe.top_p,
        "max_new_tokens": recipe.max_new_tokens,
        "seed": recipe.seed,
    }
    questions = list(items.questions)
    if recipe.limit is not None:
        questions = choose(questions, recipe.limit, recipe.seed)
    if ask:
        _check_out(out)
        teacher = teacher_of(recipe, base, out)
        identity = asked | {"teacher": teacher.name}
        _claim(out, identity)
        with open_answers(out / RAW) as kept:
            for left in _unfinished(out):
                left.unlink(missing_ok=True)
            teacher.ask(tries_of(questions, recipe.tries), items.image, kept)
    else:
        identity = asked | {"teacher": _before(out)["teacher"]}
        _claim(out, identity)
    lines = read_answers(out / RAW)
    answers = latest(lines)
    judged = judge_answers(questions, answers, recipe.tries, items.about, folder, recipe.checks, recipe.per_question)
    report = report_of(recipe, identity, questions, lines, answers, judged)
    write_traces(out, questions, judged, report)
    return Synthesis(out=out, report=report)


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"out: {out} is a file; give a folder")
    there = {path.name for path in out.iterdir() if path not in _unfinished(out)} if out.is_dir() else set()
    if there and RUN not in there:
        raise UserError(f"out: {out} holds other things; give a new or an empty folder")


def _unfinished(out: Path) -> list[Path]:
    """Return the files that a killed run had begun to write."""
    return list(out.glob(".*.tmp"))


def _before(out: Path) -> Row:
    """Return what was asked of whom, as run.json tells it. Raises UserError where there is none."""
    try:
        told: Row = json.loads((out / RUN).read_text(encoding="utf-8"))
        return told | {"teacher": str(told["teacher"])}
    except FileNotFoundError:
        raise UserError(f"{out}: holds no answers of a teacher; leave --rejudge out to ask one") from None
    except (OSError, ValueError, LookupError, TypeError):
        raise UserError(f"{out / RUN}: cannot be read; give another `out`") from None


def _claim(out: Path, identity: Mapping[str, Any]) -> None:
    """Make the folder that of these answers. Raises UserError where it has those to something else."""
    if not (out / RUN).exists():
        write_json(out / RUN, dict(identity))
        return
    before = _before(out)
    if other := sorted(key for key in {*identity, *before} if before.get(key) != identity.get(key)):
        raise UserError(f"{out}: holds answers with another {' and '.join(other)}; give another `out`")
