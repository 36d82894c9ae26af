"""report.html: one file that shows what a quickstart made, how good it is, and on what it ran."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

import jinja2

from gmai_vl import __version__
from gmai_vl.corpus import Corpus
from gmai_vl.evaluation import Judged
from gmai_vl.foundation import stable_shuffle, write_text
from gmai_vl.quickstart.measure import ANSWERERS, answers, verdicts
from gmai_vl.quickstart.plots import Share, accuracy_by_form, loss_curves, picture, thumbnail
from gmai_vl.records import Box, Sample, Turn
from gmai_vl.training import TrainRecipe, read_recipe
from gmai_vl.writing.markup import parse_boxes

SHOWN_ANSWERS = 12
SHOWN_EXAMPLES = 8
PLOTTED_COLUMNS = ("modality", "department", "kind", "language")
GROUPS = ("modality", "language")
NAMES = {
    "trained": "the trained model",
    "images exchanged": "the same with the images of other patients",
    "untrained": "the model before training",
    "majority": "the most frequent answer of the training data",
}


def write_report(
    out: Path,
    corpora: Sequence[Path],
    train_recipe: Path,
    *,
    seed: int,
    own_data: bool,
    steps: Mapping[str, Mapping[str, Any]],
) -> Path:
    """Write OUT/report.html from what the steps left in `out`, and return its path."""
    recipe = read_recipe(train_recipe)
    parts = [_part(Corpus(path), out / "evaluation" / path.name, seed, own_data) for path in corpora]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gmai_vl.quickstart", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template("report.html").render(
        title="gmai-vl quickstart",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seed=seed,
        tiles=_tiles(parts, steps),
        summary=_summary(recipe, own_data),
        steps=[{"name": name, **step} for name, step in steps.items()],
        total_seconds=sum(step["seconds"] for step in steps.values()),
        parts=parts,
        training=_training(out / "model", recipe),
        go_on=_go_on(out, corpora),
        machine=_machine(),
        versions=_versions(),
    )
    write_text(out / "report.html", text)
    return out / "report.html"


def _summary(recipe: TrainRecipe, own_data: bool) -> str:
    data = (
        "The images of your recipe"
        if own_data
        else "Procedural phantom studies with exact annotation, and real images that ship inside packages,"
    )
    stages = "; ".join(f"{stage.name}: {', '.join(stage.train)}" for stage in recipe.stages)
    return (
        f"{data} became instruction data, each sentence computed from an annotation and checked against it. "
        f"A LLaVA-style model ({recipe.model.preset}: ImageNet EfficientNet-Lite0, two-layer projector, "
        f"SmolLM2-135M-Instruct) learned from it in stages ({stages}) and was asked about patients that it "
        "never saw."
    )


def _tiles(parts: Sequence[Mapping[str, Any]], steps: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    tiles = []
    for part in parts:
        tiles.append({"value": f"{part['cases']:,}", "label": f"images, {part['name']}"})
        if part["rows"]:
            tiles.append({"value": part["rows"][0]["accuracy"], "label": f"right on unseen patients, {part['name']}"})
    minutes = sum(step["seconds"] for step in steps.values()) / 60
    return [*tiles, {"value": f"{minutes:.1f} min", "label": "all steps"}]


def _part(corpus: Corpus, evaluation: Path, seed: int, own_data: bool) -> dict[str, Any]:
    """Return what the report says about one corpus and the scores on its unseen patients."""
    name, counts = corpus.manifest["name"], corpus.manifest["counts"]
    path = evaluation / "scores.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    about = "Questions on the test split: patients of whom no image was seen in training."
    return {
        "name": name,
        "title": f"Scores: {name}",
        "about": about if results else "The test split holds no question that rules can score.",
        "cases": counts["cases"],
        **(_scores(results, own_data or name != "phantom") if results else {"rows": []}),
        "answers": [
            _answer(corpus, entry, response)
            for entry, response in answers(corpus, evaluation, "test", seed, SHOWN_ANSWERS)
            if entry.question.images
        ]
        if results
        else [],
        "corpus_about": f"{counts['cases']:,} images, {counts['samples']:,} samples; "
        f"fingerprint {corpus.manifest['fingerprint']}.",
        "plots": [
            {"name": column, "image": picture(corpus.path / "stats" / f"{column}.png")} for column in PLOTTED_COLUMNS
        ],
        "examples": _examples(corpus, seed),
    }


def _scores(results: Mapping[str, Any], without_targets: bool) -> dict[str, Any]:
    choices, boxes, margins = results["choices"], results["boxes"], results["margins"]
    shown = [name for name in ANSWERERS if name in choices]
    forms = {form: group["n"] for form, group in choices["trained"]["groups"]["form"].items()}
    shares = {name: _form_shares(choices[name], forms) for name in shown}
    return {
        "rows": [_score_row(name, choices[name], margins.get(name)) for name in shown],
        "reading": _reading(choices) + ("" if without_targets else " " + _verdict_text(results)),
        "forms_plot": accuracy_by_form(shares, forms),
        "groups": [
            _group_row(column, value, group, choices["majority"]["groups"][column][value])
            for column in GROUPS
            for value, group in choices["trained"]["groups"][column].items()
        ],
        "grounding": [_box_row(name, boxes[name]) for name in ANSWERERS if name in boxes],
    }


def _score_row(name: str, score: Mapping[str, Any], margin: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "name": NAMES[name],
        "ours": name == "trained",
        "accuracy": f"{score['micro']:.1%}",
        "interval": _interval(score["interval"]),
        "macro": f"{mean(group['accuracy'] for group in score['groups']['form'].values()):.1%}",
        "unparsed": f"{score['n_unparsed']} of {score['n']}",
        "margin": f"{100 * margin['value']:+.1f} points" if margin else "",
        "margin_interval": f"{100 * margin['interval'][0]:+.1f} to {100 * margin['interval'][1]:+.1f}"
        if margin
        else "",
    }


def _reading(choices: Mapping[str, Any]) -> str:
    score = choices["trained"]
    return (
        f"{score['n']} multiple-choice and yes/no questions about {score['n_patients']} unseen patients; protocol "
        f"`{score['protocol']}`: an answer that cannot be extracted is wrong. Intervals are clustered by patient; "
        "margins are paired, with a bootstrap over patients. The most frequent answer is taken per question form and "
        "option set."
    )


def _verdict_text(results: Mapping[str, Any]) -> str:
    texts = [
        f"{row['name']} by {100 * row['needed']:.0f} points: {'met' if row['met'] else 'missed'}"
        for row in verdicts(results)
    ]
    return f"Targets, with intervals apart: {'; '.join(texts)}."


def _group_row(column: str, value: str, group: Mapping[str, Any], majority: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "group": column,
        "value": value,
        "n": group["n"],
        "accuracy": f"{group['accuracy']:.1%}",
        "interval": _interval(group["interval"]),
        "majority": f"{majority['accuracy']:.1%}",
    }


def _box_row(name: str, score: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": NAMES[name] if name != "majority" else "the median box of the training data",
        "n": score["n"],
        "mean_iou": f"{score['mean_iou']:.2f}",
        "at_half": f"{score['micro']:.1%}",
        "unparsed": score["n_unparsed"],
    }


def _interval(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _form_shares(score: Mapping[str, Any], forms: Mapping[str, int]) -> dict[str, Share]:
    groups = score["groups"]["form"]
    return {
        form: Share(value=groups[form]["accuracy"], low=groups[form]["interval"][0], high=groups[form]["interval"][1])
        for form in forms
        if form in groups
    }


def _answer(corpus: Corpus, entry: Judged, response: str) -> dict[str, Any]:
    question = entry.question
    drawn = [box for _, box in parse_boxes(response)] if question.kind == "grounding" else []
    return {
        "image": thumbnail(corpus.image(question.images[0])),
        "question": question.text,
        "truth": f"{question.reference}. {question.options[question.reference]}"
        if question.options
        else question.reference,
        "response": response[:200] or "(nothing)",
        "right": entry.correct,
        "boxes": [_place(region.box, question.width, question.height) for region in question.regions]
        + [{**_place_of_shares(box), "predicted": True} for box in drawn[:4]],
    }


def _examples(corpus: Corpus, seed: int) -> list[dict[str, Any]]:
    """Return images of different modalities, each with what was written about it."""
    by_case: dict[str, list[Sample]] = {}
    for sample in (sample for sample in corpus.samples(split="train") if sample.images):
        by_case.setdefault(sample.case_id, []).append(sample)
    by_modality: dict[str | None, list[list[Sample]]] = {}
    for case_id in stable_shuffle(sorted(by_case), seed):
        by_modality.setdefault(by_case[case_id][0].modality, []).append(by_case[case_id])
    rounds = max(map(len, by_modality.values()), default=0)
    chosen = [cases[turn] for turn in range(rounds) for cases in by_modality.values() if turn < len(cases)]
    return [_example(corpus, samples) for samples in chosen[:SHOWN_EXAMPLES]]


def _example(corpus: Corpus, samples: Sequence[Sample]) -> dict[str, Any]:
    first = samples[0]
    caption = next((sample for sample in samples if sample.kind == "caption" and sample.granularity == "image"), first)
    question = next((sample for sample in samples if sample.kind in ("mcq", "closed")), None)
    boxed = next((sample for sample in samples if sample.regions), None)
    return {
        "image": thumbnail(corpus.image(first.images[0])),
        "place": f"{first.modality or 'no modality given'} · {first.case_id}",
        "boxes": [_place(region.box, first.width, first.height) for region in (boxed.regions if boxed else ())],
        "texts": [caption.turns[-1].text, *([_conversation(question.turns)] if question else [])],
    }


def _conversation(turns: Sequence[Turn]) -> str:
    return "\n".join(turn.text for turn in turns)


def _place(box: Box, width: int, height: int) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {"predicted": False, **_percent(x1 / width, y1 / height, x2 / width, y2 / height)}


def _place_of_shares(box: Sequence[float]) -> dict[str, Any]:
    x1, y1, x2, y2 = (min(1.0, max(0.0, side)) for side in box)
    return _percent(x1, y1, x2, y2)


def _percent(x1: float, y1: float, x2: float, y2: float) -> dict[str, Any]:
    sides = {"left": x1, "top": y1, "width": x2 - x1, "height": y2 - y1}
    return {name: round(100 * side, 2) for name, side in sides.items()}


def _training(model: Path, recipe: TrainRecipe) -> dict[str, Any]:
    log = [json.loads(line) for line in (model / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    records = {
        stage["name"]: stage for stage in json.loads((model / "final" / "provenance.json").read_text())["stages"]
    }
    rows = []
    for stage in recipe.stages:
        steps = [row for row in log if row["stage"] == stage.name and row["event"] == "step"]
        record = records[stage.name]
        speed = sum(row["tokens"] for row in steps) / sum(row["seconds"] for row in steps)
        rows.append(
            {
                "stage": stage.name,
                "trained": ", ".join(stage.train),
                "steps": record["steps"],
                "samples": f"{record['samples']:,}",
                "tokens_per_second": f"{speed:,.0f}",
                "first_loss": f"{steps[0]['loss']:.3f}",
                "last_loss": f"{mean(row['loss'] for row in steps[-5:]):.3f}",
                "validation_loss": f"{record['validation_loss']:.3f}" if record["validation_loss"] is not None else "",
            }
        )
    about = (
        "First the projector alone, then projector and vision tower, then everything, as in the paper. Here the third "
        "is cut in two: a shortened language model learns to speak again, then all questions are learnt while the "
        "vision tower rests. The loss is one mean over all supervised tokens of a batch; only the assistant's words "
        "are supervised. In the first two stages it is not that of the text but of the words that the image alone "
        "speaks for. Last loss: mean of the last five steps."
    )
    return {"about": about, "plot": loss_curves(log), "rows": rows}


def _go_on(out: Path, corpora: Sequence[Path]) -> str:
    lines = [
        f"gmai chat --model {out / 'model' / 'final'} --image IMAGE",
        *(f"gmai data browse {corpus}" for corpus in corpora),
        f"gmai train {out / 'recipes' / 'train.yaml'} --set out=../again",
        "gmai quickstart --recipe YOUR_RECIPE.yaml --out runs/mine",
    ]
    return "\n".join(lines)


def _machine() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "numpy", "pillow", "pyarrow")
    return {"gmai-vl": __version__, "python": platform.python_version(), **{name: version(name) for name in packages}}
