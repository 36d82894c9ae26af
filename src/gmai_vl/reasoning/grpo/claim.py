"""Whose an output folder is: what makes a run this one, and whether the one that lies there is gone on with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gmai_vl.evaluation import Question
from gmai_vl.foundation import UserError, canonical_json, is_inside, sha256_of_text, write_json
from gmai_vl.reasoning.cases import Cases
from gmai_vl.reasoning.grpo.recipe import GrpoRecipe
from gmai_vl.reasoning.grpo.telemetry import LOG
from gmai_vl.training.outputs import check_out, is_begun, remove_earlier

RUN, STATE, FINAL = "run.json", "state", "final"
"""What stands in the output folder, beside the log."""


def check_place(out: Path, init: Path, questions: Path, *, overwrite: bool, resume: bool) -> None:
    """Raise UserError where a run may not write to `out`, or would write into what it reads; nothing is changed."""
    needs = {"the checkpoint of `model.init`": init, "the folder of `questions`": questions}
    check_out(out, needs, _wrote, overwrite=overwrite, resume=resume)
    for name, path in needs.items():
        if is_inside(out, path):
            raise UserError(f"{out}: lies in {name}; give another `out`")


def told_of(
    recipe: GrpoRecipe, model_sha256: str, folder: Path, questions: Sequence[Question], cases: Cases
) -> dict[str, Any]:
    """Return what makes a run this one and no other; `questions` are those that it learns from."""
    # The manifest says what a folder was made with, not what stands in it now; estimates of difficulty are not in it.
    asked = [
        [one.id, one.language, [turn.text for turn in one.turns], one.options, one.answer, one.images]
        for one in questions
    ]
    sha256 = sha256_of_text(canonical_json(asked))
    return {
        "recipe": recipe.model_dump(mode="json", exclude={"state"}),
        "model_sha256": model_sha256,
        "questions_sha256": sha256,
        "questions_fingerprint": _fingerprint(folder) or sha256,
        # A corpus that went or came while the run was stopped would change what answers earn.
        **({"cases_sha256": cases.sha256} if recipe.rewards.facts else {}),
    }


def _fingerprint(questions: Path) -> str | None:
    """Return the fingerprint of a folder of questions; None for one that was made by hand."""
    manifest = questions / "manifest.json"
    if not manifest.is_file():
        return None
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{manifest}: cannot be read: {error!r}; build the questions anew") from None


def goes_on(out: Path, told: Mapping[str, Any]) -> bool:
    """Say whether this run was begun in `out`. Raises UserError where another one was, or nothing says which."""
    if not is_begun(out):
        return False
    held = out / RUN
    try:
        before = json.loads(held.read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError(f"it is a {type(before).__name__}")
    except (OSError, ValueError) as error:
        raise UserError(f"{held}: cannot be read: {error}; --overwrite begins anew") from None
    if other := sorted(key for key in {*before, *told} if before.get(key) != told.get(key)):
        raise UserError(f"{out}: was begun with another {' and '.join(other)}; --overwrite begins anew")
    return True


def claim(out: Path, told: Mapping[str, Any]) -> None:
    """Make the output folder this run's, in place of what an earlier one left there."""
    remove_earlier(out, _wrote)
    write_json(out / RUN, dict(told))


def _wrote(entry: Path) -> bool:
    return entry.name in (RUN, STATE, FINAL, LOG)
