"""One page to look through a corpus: a single HTML file that asks nothing of any network."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmai_vl.corpus.columns import NOT_GIVEN, TASKS
from gmai_vl.corpus.page import jpeg_uri, page
from gmai_vl.corpus.reader import Corpus
from gmai_vl.corpus.schema import Row
from gmai_vl.foundation import progress, write_text
from gmai_vl.sources.rle import decode_mask

MOST_CASES = 500
"""About 15 MB of page; with 1,000 cases and 16,000 samples a search takes 20 ms (Chromium, one core)."""
_LONGEST_SIDE = 256
"""Of a picture in the page, in pixels."""
_EXAMPLES = 5
"""Items that are named for each reason."""

_OF_CASES = ("source", "modality", "department", "task", "split", "license")
_OF_SAMPLES = ("subset", "kind", "language")
"""What the page filters by."""


def browse(corpus: Path, *, most_cases: int = MOST_CASES) -> Path:
    """Write CORPUS/browse.html with at most `most_cases` cases, spread over sources and modalities; return its path.

    Boxes and outlines are drawn by the page, not into the images. Raises UserError if no finished corpus lies at
    `corpus`.
    """
    opened = Corpus(corpus)
    heads = list(opened.rows("cases", ("case_id", "source", "modality")))
    chosen = _spread(heads, most_cases)
    written: dict[str, list[Row]] = {case_id: [] for case_id in chosen}
    for row in opened.rows("samples"):
        if row["case_id"] in written:
            written[row["case_id"]].append(row)
    shared = _Shared()
    by_id = {
        row["case_id"]: _case(opened, row, written[row["case_id"]], shared)
        for row in progress(opened.rows("cases"), "cases", len(heads))
        if row["case_id"] in written
    }
    cases = [by_id[case_id] for case_id in chosen]
    data = {
        "cases": cases,
        "prompts": [[prompt_id, opened.prompts[prompt_id]] for prompt_id in shared.prompts],
        "checks": [json.loads(checks) for checks in shared.checks],
        "ledger": _ledger(opened.rows("ledger")),
    }
    text = page(
        "gmai_vl.corpus",
        "browse",
        data,
        manifest=opened.manifest,
        total=len(heads),
        held=len(cases),
        filters={name: _values(case[name] for case in cases) for name in _OF_CASES}
        | {name: _values(sample[name] for case in cases for sample in case["samples"]) for name in _OF_SAMPLES},
    )
    path = corpus / "browse.html"
    write_text(path, text)
    return path


def _spread(heads: Sequence[Row], most: int) -> list[str]:
    """Choose case ids in turn from every source and modality, as many of each as there are, evenly spaced."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for head in heads:
        groups[head["source"], head["modality"]].append(head["case_id"])
    chosen: list[list[str]] = []
    for waiting, ids in zip(range(len(groups), 0, -1), sorted(groups.values(), key=len), strict=True):
        number = min(len(ids), (most - sum(map(len, chosen))) // waiting)
        chosen.append([ids[index * len(ids) // number] for index in range(number)])
    return [case_id for turn in zip_longest(*chosen) for case_id in turn if case_id is not None]


@dataclass
class _Shared:
    """What many samples have in common stands in the page once: value -> its place there."""

    prompts: dict[str, int] = field(default_factory=dict)
    checks: dict[str, int] = field(default_factory=dict)


def _case(corpus: Corpus, row: Row, written: Sequence[Row], shared: _Shared) -> dict[str, Any]:
    image = None if row["image"] is None else _thumbnail(corpus.image(row["image"]))
    of_case = next((facts["case"] for facts in map(_facts, written) if "case" in facts), None)
    return {
        **{key: row[key] for key in ("case_id", "item", "width", "height", "patient_id", "url", "plane", "spacing_mm")},
        **{key: row[key] or NOT_GIVEN for key in ("source", "modality", "department", "split", "license")},
        "clinical_task": row["clinical_task"],
        "task": f"{row['dimension']} {TASKS[row['task']]}",
        "sha256": row["image"],
        "deidentified": row["deidentified"] is not None,
        "negative": row["negative"],
        "image": None if image is None else jpeg_uri(image),
        "shown": None if image is None else image.size,
        "labels": _labels(row, image),
        "facts": of_case,
        "samples": [_sample(sample, of_case, shared) for sample in written],
    }


def _facts(row: Row) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(row["facts"])
    return facts


def _sample(row: Row, of_case: Any, shared: _Shared) -> dict[str, Any]:
    """Return what the page shows of a sample. Facts of the whole case stand there once; empty ones are left out."""
    facts = _facts(row)
    if facts.get("case") == of_case:
        facts.pop("case", None)
    return {
        **{key: row[key] for key in ("id", "kind", "subset", "language", "writer")},
        "prompt": shared.prompts.setdefault(row["prompt_id"], len(shared.prompts)),
        "turns": [
            [message["role"], "\n".join(piece["text"] for piece in message["content"] if piece["text"])]
            for message in row["messages"]
        ],
        "facts": {key: value for key, value in facts.items() if value not in (None, [])},
        "checks": shared.checks.setdefault(row["checks"], len(shared.checks)),
    }


def _labels(row: Row, image: Image.Image | None) -> list[dict[str, Any]]:
    """Return the labels of a case, each with its boxes and the outline of its masks in pixels of the thumbnail."""
    labels: dict[str, dict[str, Any]] = {}
    for finding in row["findings"]:
        name = finding["label"]["en"]
        new = {"en": name, "zh": finding["label"]["zh"], "number": 0, "share": 0.0, "boxes": [], "outline": ""}
        label = labels.setdefault(name, new)
        label["number"] += 1
        label["share"] += finding["area_share"] or 0.0
        if finding["box"] is not None:
            x1, y1, x2, y2 = finding["box"]
            label["boxes"].append([x1, y1, x2 - x1, y2 - y1])
        if finding["mask"] is not None and image is not None:
            mask_HW = decode_mask(finding["mask"], row["width"], row["height"])
            label["outline"] += outline(_shrunk(mask_HW, *image.size))
    for label in labels.values():
        label["share"] = round(label["share"], 5)
    return list(labels.values())


def _shrunk(mask_HW: NDArray[np.bool_], width: int, height: int) -> NDArray[np.bool_]:
    rows = (np.arange(height) + 0.5) * mask_HW.shape[0] / height
    columns = (np.arange(width) + 0.5) * mask_HW.shape[1] / width
    return mask_HW[rows.astype(int)][:, columns.astype(int)]


def outline(mask_HW: NDArray[np.bool_]) -> str:
    """Return the edges between set and other pixels as an SVG path of strokes: `M x y h length`, `M x y v length`."""
    padded = np.pad(mask_HW, 1)
    path = []
    for edges, command in (
        (padded[1:, 1:-1] ^ padded[:-1, 1:-1], "h"),
        ((padded[1:-1, 1:] ^ padded[1:-1, :-1]).T, "v"),
    ):
        # Along each line of the grid, runs of edges are one stroke.
        change = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        lines, starts = np.nonzero(change == 1)
        _, ends = np.nonzero(change == -1)
        for line, start, end in zip(lines.tolist(), starts.tolist(), ends.tolist(), strict=True):
            x, y = (start, line) if command == "h" else (line, start)
            path.append(f"M{x} {y}{command}{end - start}")
    return "".join(path)


def _ledger(rows: Iterable[Row]) -> dict[str, Any]:
    """Return outcomes by source, and all that was not kept, grouped by reason, most frequent first."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    numbers: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], list[list[str]]] = defaultdict(list)
    for row in rows:
        outcomes[row["source"]][row["outcome"]] += 1
        if row["outcome"] != "kept":
            group = (row["outcome"], row["source"], _gist(row["reason"], row["item"]))
            numbers[group] += 1
            if len(examples[group]) < _EXAMPLES:
                examples[group].append([row["item"], row["reason"]])
    return {
        "outcomes": {source: dict(outcomes[source]) for source in sorted(outcomes)},
        "reasons": [
            {"outcome": group[0], "source": group[1], "reason": group[2], "number": number, "examples": examples[group]}
            for group, number in sorted(numbers.items(), key=lambda entry: (-entry[1], entry[0]))
        ],
    }


def _gist(reason: str, item: str) -> str:
    """Return the reason without the names and numbers that differ from item to item."""
    for name in sorted({item, item.partition("@")[0], PurePosixPath(item).name}, key=len, reverse=True):
        reason = reason.replace(name, "…")
    reason = re.sub(r"^(same pixels as|same words as) .*", r"\1 another", reason)
    return re.sub(r"\d+(\.\d+)?", "#", reason).removeprefix("…: ")


def _thumbnail(pixels: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    return image


def _values(values: Iterable[str]) -> dict[str, int]:
    """Value -> how often, in the order of the alphabet."""
    return dict(sorted(Counter(values).items()))
