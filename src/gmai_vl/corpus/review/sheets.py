"""What goes out to the raters: one page and one table with the same pairs, and what is needed to read scores back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from gmai_vl.corpus.page import jpeg_uri, page
from gmai_vl.corpus.reader import Corpus
from gmai_vl.corpus.review.cells import SCORE_COLUMNS, table_text
from gmai_vl.corpus.review.draw import Draw, Pair
from gmai_vl.corpus.review.rubric import AXES, JUDGE_PREFIX, LEVELS, rubric
from gmai_vl.foundation import UserError, canonical_json, progress, sha256_of_text, write_json, write_text
from gmai_vl.records import Sample

_LONGEST_SIDE = 720
"""Of a picture on the page, in pixels; 30 pairs of ten sources come to some 20 MB."""


def write_sheets(corpus: Corpus, drawn: Draw, folder: Path) -> bool:
    """Write sheet.csv, sheet.html and review.json into `folder`; return False where they lay there already.

    Sheets of the same review are left as they are, as somebody may have filled them. Raises UserError if `folder` is
    the corpus or holds anything but this review.
    """
    record = _record(drawn)
    if folder.resolve() == corpus.path.resolve():
        raise UserError(f"{folder}: is the corpus; give another folder for the sheets")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder for the sheets")
    if folder.is_dir() and any(folder.iterdir()):
        if _is_written(folder, record):
            return False
        raise UserError(f"{folder}: is not empty and holds another review or none; give a new folder for the sheets")
    write_text(folder / "sheet.html", _page(corpus, drawn, record["review"]))
    write_text(folder / "sheet.csv", _table(drawn))
    write_json(folder / "review.json", record)  # the last: without it no scores are read
    return True


def conversation(sample: Sample) -> str:
    """Return the turns of a sample as text, with their roles."""
    return "\n".join(f"[{turn.role}] {turn.text}" for turn in sample.turns)


def facts_for_people(sample: Sample) -> list[tuple[str, str]]:
    """Return what the annotation says, as (name, value); names of patients and files are not among it."""
    facts = sample.provenance.facts
    case = facts.get("case") or {}
    rows: list[tuple[str, Any]] = [
        ("modality", sample.modality),
        ("department", sample.department),
        ("task", sample.clinical_task),
        ("plane", case.get("plane")),
        ("body part", case.get("body_part")),
        ("size", f"{sample.width} × {sample.height} px" if sample.images else None),
        ("labels", ", ".join(f"{label} × {count}" for label, count in (case.get("counts") or {}).items())),
        ("nothing found", case.get("negative")),
        ("grade", case.get("grade")),
    ]
    rows += [("finding", _finding(finding)) for finding in case.get("findings") or ()]
    is_markup = sample.kind == "grounding"  # its box stands among the findings
    rows += [("not there", ", ".join(case.get("absent") or ())), ("right answer", None if is_markup else sample.answer)]
    return [(name, str(value)) for name, value in rows if value]


def _finding(finding: dict[str, Any]) -> str:
    parts = [
        finding.get("label"),
        f"box {finding['box']} px" if finding.get("box") else None,
        f"{finding['percent']} % of the image" if finding.get("percent") is not None else None,
        finding.get("size"),
        finding.get("position"),
        f"{finding['laterality']} of the patient" if finding.get("laterality") else None,
        f"{finding['width_mm']} × {finding['height_mm']} mm" if finding.get("width_mm") else None,
    ]
    return ", ".join(str(part) for part in parts if part)


def _record(drawn: Draw) -> dict[str, Any]:
    pairs = [{"pair": pair.name, "source": pair.sample.source} for pair in drawn.pairs]
    about = {
        "corpus": drawn.corpus,
        "fingerprint": drawn.fingerprint,
        "seed": drawn.seed,
        "per_source": drawn.per_source,
        "pairs": pairs,
    }
    return about | {"review": sha256_of_text(canonical_json(about))[:16]}


def _is_written(folder: Path, record: dict[str, Any]) -> bool:
    try:
        found = json.loads((folder / "review.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(found == record)


def _table(drawn: Draw) -> str:
    head = ("number", "pair", "language", "conversation", "facts", *SCORE_COLUMNS[1:])
    empty = [""] * (len(SCORE_COLUMNS) - 1)
    return table_text(
        head,
        (
            [
                str(number),
                pair.name,
                pair.sample.language,
                conversation(pair.sample),
                "\n".join(f"{name}: {value}" for name, value in facts_for_people(pair.sample)),
                *empty,
            ]
            for number, pair in enumerate(drawn.pairs, 1)
        ),
    )


def _page(corpus: Corpus, drawn: Draw, review: str) -> str:
    data = {
        "review": review,
        "axes": AXES,
        "levels": LEVELS,
        "rubric": rubric(),
        "judge": JUDGE_PREFIX,
        "columns": SCORE_COLUMNS,
        "pairs": list(_pairs(corpus, drawn)),
    }
    return page("gmai_vl.corpus.review", "sheet", data, corpus=drawn.corpus, total=len(drawn.pairs), review=review)


def _pairs(corpus: Corpus, drawn: Draw) -> Iterator[dict[str, Any]]:
    pictures: dict[str, str] = {}
    for pair in progress(drawn.pairs, "pairs", len(drawn.pairs)):
        yield _pair(corpus, pair, pictures)


def _pair(corpus: Corpus, pair: Pair, pictures: dict[str, str]) -> dict[str, Any]:
    sample = pair.sample
    for image in sample.images:
        if image not in pictures:
            pictures[image] = _picture(corpus, image)
    findings = (sample.provenance.facts.get("case") or {}).get("findings") or ()
    return {
        "pair": pair.name,
        "language": sample.language,
        "turns": [[turn.role, turn.text] for turn in sample.turns],
        "facts": facts_for_people(sample),
        "images": [pictures[image] for image in sample.images],
        "width": sample.width,
        "height": sample.height,
        "annotated": [[finding.get("label"), finding["box"]] for finding in findings if finding.get("box")],
    }


def _picture(corpus: Corpus, sha256: str) -> str:
    image = Image.fromarray(corpus.image(sha256))
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    return jpeg_uri(image, quality=90)
