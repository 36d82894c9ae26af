"""The comparison as a table and as a page with pairs side by side (after Figure 2 of arXiv 2411.14522)."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from PIL import Image

from gmai_vl.corpus.compare.pairs import Pair, Side
from gmai_vl.corpus.page import jpeg_uri, page
from gmai_vl.foundation import UserError, write_json, write_text

MOST_SHOWN = 200
_MADE = {"comparison.json", "pairs.jsonl", "index.html"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Shares of texts that hold, of one route or all; 0-1."""

    images: int
    guided: float
    """As first written."""

    guided_again: float
    """When what failed was written again once."""

    unguided: float
    difference: float
    """guided - unguided."""

    interval: tuple[float, float]
    """95 % interval of the difference, paired and clustered by image, by the normal approximation."""

    checks: dict[str, tuple[float, float]]
    """Check -> share of texts that fail it, guided and unguided, both as first written."""


def summary_of(pairs: Sequence[Pair]) -> dict[str, Comparison]:
    """Return route -> comparison, with `all` where there are several. There must be at least one pair."""
    routes = list(dict.fromkeys(pair.route for pair in pairs))
    groups = {route: [pair for pair in pairs if pair.route == route] for route in routes}
    return {
        name: _comparison(some) for name, some in (groups | ({"all": list(pairs)} if len(routes) > 1 else {})).items()
    }


def _comparison(pairs: Sequence[Pair]) -> Comparison:
    count = len(pairs)
    by_image: dict[str, list[int]] = {}
    for pair in pairs:
        by_image.setdefault(pair.case_id, []).append(pair.guided.holds - pair.unguided.holds)
    differences = [sum(each) / len(each) for each in by_image.values()]
    images = len(differences)
    mean = sum(differences) / images
    spread = 1.96 * sqrt(sum((each - mean) ** 2 for each in differences) / max(images - 1, 1) / images)
    failed = [Counter(check for pair in pairs for check in side(pair).faults) for side in (_guided, _unguided)]
    checks = sorted(failed[0] | failed[1])
    return Comparison(
        images=images,
        guided=sum(pair.guided.holds for pair in pairs) / count,
        guided_again=sum(pair.guided_again.holds for pair in pairs) / count,
        unguided=sum(pair.unguided.holds for pair in pairs) / count,
        difference=mean,
        interval=(max(-1.0, mean - spread), min(1.0, mean + spread)),
        checks={check: (failed[0][check] / count, failed[1][check] / count) for check in checks},
    )


def _guided(pair: Pair) -> Side:
    return pair.guided


def _unguided(pair: Pair) -> Side:
    return pair.unguided


def check_out(out: Path) -> None:
    """Raise UserError if the folder `out` holds anything but an earlier comparison."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder for the comparison")
    strangers = sorted({path.name for path in out.iterdir()} - _MADE) if out.is_dir() else []
    if strangers:
        raise UserError(f"{out}: holds `{strangers[0]}`; give a new or an empty folder")


def write_report(pairs: Sequence[Pair], out: Path, *, model: str, saw_images: bool) -> dict[str, Comparison]:
    """Write comparison.json, pairs.jsonl and index.html into `out`; of the pairs the page shows the first 200."""
    summary = summary_of(pairs)
    told = {"model": model, "saw_images": saw_images, "use": "research use only, not for diagnosis"}
    write_json(out / "comparison.json", told | {"routes": {name: asdict(each) for name, each in summary.items()}})
    rows = [_row(pair) for pair in pairs]
    write_text(out / "pairs.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    shown = [
        row | {"picture": jpeg_uri(Image.fromarray(pair.image))}
        for row, pair in zip(rows[:MOST_SHOWN], pairs, strict=False)
    ]
    text = page(
        "gmai_vl.corpus.compare",
        "page",
        model=model,
        saw_images=saw_images,
        summary=summary,
        pairs=shown,
        total=len(pairs),
    )
    write_text(out / "index.html", text)
    return summary


def _row(pair: Pair) -> dict[str, Any]:
    return {
        "case_id": pair.case_id,
        "source": pair.source,
        "route": pair.route,
        "told": pair.told,
        **{name: asdict(getattr(pair, name)) for name in ("guided", "guided_again", "unguided")},
    }
