"""report.html of a run: the score, how sure it is, what it is by group, and the answers that were wrong."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, ImageDraw

from gmai_vl.corpus.page import jpeg_uri, page
from gmai_vl.evaluation.benchmarks.benchmark import Benchmark
from gmai_vl.evaluation.grounding import wanted_boxes
from gmai_vl.evaluation.question import Question
from gmai_vl.evaluation.reports.runs import Group, Interval, Run, run_of
from gmai_vl.foundation import BadItem, stable_shuffle, visible, write_text
from gmai_vl.writing.markup import ShareBox, parse_boxes

MOST_SHOWN = 60
"""Wrong answers on a page, drawn at random but always the same."""

MOST_IMAGES = 7
"""Pictures of one question."""

_SIDE = 240
_WANTED, _DRAWN = "#ffd23f", "#4cc9f0"
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Verdict(Protocol):
    """A question, and what became of the response to it."""

    @property
    def question(self) -> Question:
        """What was asked."""

    @property
    def correct(self) -> bool:
        """Whether it counts as right."""

    @property
    def unparsed(self) -> bool:
        """Whether no answer could be read."""

    @property
    def text(self) -> str | None:
        """What was read."""


def write_page(
    folder: Path,
    score: Mapping[str, Any],
    benchmark: Benchmark,
    judged: Sequence[Verdict],
    responses: Mapping[str, str],
) -> Path:
    """Write FOLDER/report.html, one file that asks nothing of any network and runs nothing, and return its path.

    `responses`: id of a question -> what the model wrote, kept to the letter. Raises UserError if the score is none.
    """
    run = run_of(score, str(folder / "score.json"))
    wrong = [entry for entry in judged if entry.unparsed or not entry.correct]
    chosen = sorted(stable_shuffle(range(len(wrong)), "wrong answers", benchmark.name)[:MOST_SHOWN])
    shown = [_answer(benchmark, wrong[place], responses.get(wrong[place].question.id, "")) for place in chosen]
    text = page(
        "gmai_vl.evaluation.reports",
        "report",
        run=run,
        tiles=_tiles(run),
        notes=[*benchmark.notes, _leaks(run)],
        baselines=[_baseline(name, share, run) for name, share in run.baselines.items()],
        calibration=run.calibration,
        groups={name: _group_rows(values) for name, values in run.groups.items() if values},
        sections=[
            (
                title,
                sum(entry.unparsed is unparsed for entry in wrong),
                [each for each in shown if each["unparsed"] is unparsed],
            )
            for title, unparsed in (("No answer could be read", True), ("Wrong", False))
        ],
        judge=_judge(score["judge"]) if "judge" in score else None,
        manifest={name: _told(value) for name, value in score.get("manifest", {}).items()},
    )
    write_text(folder / "report.html", writable(text))
    return folder / "report.html"


def writable(text: str) -> str:
    """Return a text for a page: control characters, turns of direction and halves of a pair become their escapes."""
    return _UNWRITABLE.sub(lambda found: visible(found[0]), text)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(interval: Interval | None) -> str:
    """Return the bounds in per cent, "68.9 to 73.6"; empty where there are none."""
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""


def _tiles(run: Run) -> list[tuple[str, str]]:
    patients = f" of {run.n_patients:,} patients" if run.n_patients else ""
    tiles = [(f"{run.n:,}", f"questions{patients}")]
    if run.macro is not None:
        tiles.append((_percent(run.macro), f"mean by {run.macro_over.replace('_', ' ')}"))
    tiles.append((f"{run.n_unparsed:,}", f"unparsed, {_percent(run.n_unparsed / run.n)}"))
    if run.n_guessed:
        tiles.append((f"{run.n_guessed:,}", "guessed by the protocol"))
    if run.n_cut_off:
        tiles.append((f"{run.n_cut_off:,}", "cut off at their longest length"))
    if wilson := run.intervals.get("wilson"):
        tiles.append((_interval(wilson), "95 % interval if all questions were independent"))
    return tiles


def _leaks(run: Run) -> str:
    leaks = run.leaks
    why = f" ({leaks.why})" if leaks.why else ""
    if leaks.status == "clean":
        return f"None of the questions or pictures was found in the training data{why}."
    if leaks.status == "unknown":
        return f"Whether the model met these questions or pictures in training was not looked for or is not known{why}."
    told = f"{leaks.n:,} of the questions were met in training{why}."
    if left := leaks.without:
        interval = f" (95 % interval {_interval(left.interval)})" if left.interval else ""
        told += f" Of the other {left.n:,} the model has {_percent(left.micro)} right{interval}."
    return told


def _baseline(name: str, share: float, run: Run) -> dict[str, str]:
    return {"name": name, "accuracy": _percent(share), "gain": f"{100 * (run.micro - share):+.1f}"}


def _judge(judge: Mapping[str, Any]) -> dict[str, Any]:
    agreement = judge["agreement"]
    return {
        **{name: judge[name] for name in ("model", "version", "n", "n_failed", "n_empty", "n_grounding")},
        "share": "" if judge["share"] is None else _percent(judge["share"]),
        "interval": _interval(judge["interval"]),
        "rows": [
            {
                **{name: row[name] for name in ("n", "both_right", "only_rules", "only_judge", "both_wrong")},
                "questions": name,
                "share": "" if row["share"] is None else _percent(row["share"]),
                "kappa": "" if row["kappa"] is None else f"{row['kappa']:.2f}",
            }
            for name, row in {"all": agreement, **agreement["by_kind"]}.items()
        ],
    }


def _group_rows(values: Mapping[str, Group]) -> list[dict[str, Any]]:
    return [
        {
            "value": value,
            "share": group.accuracy,
            "accuracy": _percent(group.accuracy),
            "interval": _interval(group.interval),
            "n": f"{group.n:,}",
            "unparsed": f"{group.n_unparsed:,}",
            "patients": f"{group.n_patients:,}" if group.n_patients is not None else "",
        }
        for value, group in values.items()
    ]


def _answer(benchmark: Benchmark, entry: Verdict, response: str) -> dict[str, Any]:
    question, options = entry.question, entry.question.options or {}
    names = question.images[:MOST_IMAGES]
    drawn = [box for _, box in parse_boxes(response)] if question.kind == "grounding" else []
    return {
        "id": question.id,
        "about": " · ".join(filter(None, (question.kind, question.modality, question.clinical_task, question.source))),
        "images": [
            _picture(benchmark, name, question if place == 0 else None, drawn) for place, name in enumerate(names)
        ],
        "more_images": len(question.images) - len(names),
        "stem": question.stem,
        "options": [(letter, text, letter == question.answer) for letter, text in options.items()],
        "reference": _with_option(question.answer, options),
        "unparsed": entry.unparsed,
        "read": "" if entry.unparsed else _with_option(entry.text, options),
        "response": response,
    }


def _with_option(answer: str | None, options: Mapping[str, str]) -> str:
    if answer is None:
        return ""
    return f"{answer}. {options[answer]}" if answer in options else answer


def _picture(benchmark: Benchmark, name: str, question: Question | None, drawn: Sequence[ShareBox]) -> dict[str, Any]:
    """Return the thumbnail of an image, or why there is none; `question` only where its boxes are of this image."""
    try:
        image = Image.fromarray(benchmark.image(name)).convert("RGB")
    except BadItem as bad:
        return {"name": name, "uri": None, "reason": str(bad)}
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    if question and question.regions:
        pen = ImageDraw.Draw(image)
        for colour, boxes in ((_WANTED, wanted_boxes(question)), (_DRAWN, drawn)):
            for x1, y1, x2, y2 in boxes:
                corners = (x1 * image.width, y1 * image.height, x2 * image.width - 1, y2 * image.height - 1)
                pen.rectangle(
                    (*corners[:2], max(corners[0], corners[2]), max(corners[1], corners[3])), outline=colour, width=2
                )
    return {"name": name, "uri": jpeg_uri(image), "reason": ""}


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
