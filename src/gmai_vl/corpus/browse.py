"""One page to look through a corpus: a single HTML file that asks nothing of any network."""

import base64
import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from gmai_vl.corpus.reader import Corpus
from gmai_vl.corpus.schema import Row
from gmai_vl.foundation import progress, write_text

MOST_CASES = 200
_CASE_COLUMNS = ("source", "modality", "split", "item", "width", "height", "patient_id", "license")
_LONGEST_SIDE = 224
_COLOURS = 6
"""Box colours that the page knows."""


def browse(corpus: Path, *, most_cases: int = MOST_CASES) -> Path:
    """Write CORPUS/browse.html with at most `most_cases` cases, spread over sources and modalities; return its path.

    Boxes are drawn by the page, not into the images. Raises UserError if no finished corpus lies at `corpus`.
    """
    opened = Corpus(corpus)
    heads = list(opened.rows("cases", ("case_id", "source", "modality")))
    chosen = _spread(heads, most_cases)
    samples: dict[str, list[Row]] = {case_id: [] for case_id in chosen}
    columns = ("id", "case_id", "kind", "subset", "language", "messages", "answer")
    for row in opened.rows("samples", columns):
        if row["case_id"] in samples:
            samples[row["case_id"]].append(_sample(row))
    by_id = {
        row["case_id"]: _case(opened, row, samples[row["case_id"]])
        for row in progress(opened.rows("cases"), "cases", len(heads))
        if row["case_id"] in samples
    }
    cases = [by_id[case_id] for case_id in chosen]
    style, script = _asset("browse.css"), _asset("browse.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(_asset("browse.html")).render(
        manifest=opened.manifest,
        cases=cases,
        total=len(heads),
        filters={
            "source": _values(cases, "source"),
            "modality": _values(cases, "modality"),
            "split": _values(cases, "split"),
            "language": sorted({sample["language"] for case in cases for sample in case["samples"]}),
            "kind": sorted({sample["kind"] for case in cases for sample in case["samples"]}),
        },
        # Our own files, so no text of a source gets round the escaping; their hashes let nothing else run.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy="default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_source_hash(style)}; script-src {_source_hash(script)}",
    )
    path = corpus / "browse.html"
    write_text(path, page)
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


def _case(corpus: Corpus, row: Row, samples: list[dict[str, Any]]) -> dict[str, Any]:
    labels: dict[str, dict[str, Any]] = {}
    for finding in row["findings"]:
        new = {"zh": finding["label"]["zh"], "colour": len(labels) % _COLOURS, "boxes": [], "number": 0, "share": 0.0}
        label = labels.setdefault(finding["label"]["en"], new)
        label["number"] += 1
        label["share"] += finding["area_share"] or 0.0
        if finding["box"] is not None:
            x1, y1, x2, y2 = finding["box"]
            label["boxes"].append({"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1})
    return {
        **{key: row[key] for key in _CASE_COLUMNS},
        "negative": row["negative"]["en"] if row["negative"] else None,
        "image": None if row["image"] is None else _data_uri(corpus.image(row["image"])),
        "labels": labels,
        "samples": samples,
    }


def _sample(row: Row) -> dict[str, Any]:
    turns = [
        {"role": message["role"], "text": "\n".join(piece["text"] for piece in message["content"] if piece["text"])}
        for message in row["messages"]
    ]
    return {**{key: row[key] for key in ("id", "kind", "subset", "language")}, "turns": turns}


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _values(cases: Sequence[dict[str, Any]], key: str) -> list[str]:
    return sorted({case[key] for case in cases if case[key] is not None})


def _asset(name: str) -> str:
    return (files("gmai_vl.corpus") / name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
