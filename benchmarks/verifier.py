"""How well the verifier of free texts tells true from false: on labelled texts, by fault, language and role.

    .venv/bin/python benchmarks/verifier.py FOLDER [--misses]

FOLDER holds `cases.json` and a `.jsonl` of texts, or of questions with their answers. A text is stopped if any check
finds a fault: recall is the share of false texts that are stopped, precision the share of stopped texts that are false.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from gmai_vl.records import Case, Finding
from gmai_vl.sources.geometry import side_of
from gmai_vl.vocabulary import Term
from gmai_vl.writing import measured
from gmai_vl.writing.claims import check_text
from gmai_vl.writing.claims.written import check_round


def main() -> None:
    folder = Path(sys.argv[1])
    cases = {name: measured(case_of(one)) for name, one in json.loads((folder / "cases.json").read_text()).items()}
    stopped: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    (texts,) = folder.glob("*.jsonl")
    for line in texts.read_text().splitlines():
        row = json.loads(line)
        case = cases[row["case"]]
        about = None if row["region"] is None else [case.findings[row["region"]]]
        if row["role"] == "qa":
            checks = check_round(row["question"], row["text"], "instruct", None, row["language"], case)
        else:
            checks = check_text(row["text"], row["role"], row["language"], case, about, row["question"])
        faults = {name: result for name, result in checks.items() if result is not True}
        truth = "true" if row["true"] else "false"
        for group in ("all", row["language"], row["role"], row["fault"] or "-"):
            total[group, truth] += 1
            stopped[group, truth] += bool(faults)
        if "--misses" in sys.argv and bool(faults) == row["true"]:
            told = [row[key] or "" for key in ("id", "case", "role", "fault", "question", "text")]
            print(" | ".join([*told, str(faults or row["why"])]))
    print(f"{'':24}{'false':>7}{'stopped':>9}{'true':>7}{'stopped':>9}")
    for group in dict.fromkeys(group for group, _ in total):
        numbers = [counter[group, truth] for truth in ("false", "true") for counter in (total, stopped)]
        print(f"{group:24}{numbers[0]:7}{numbers[1]:9}{numbers[2]:7}{numbers[3]:9}")
    caught, false, alarms = stopped["all", "false"], total["all", "false"], stopped["all", "true"]
    print(f"recall {caught / false:.3f}, precision {caught / (caught + alarms):.3f}")


def case_of(one: dict[str, Any]) -> Case:
    """Return the case that an entry of `cases.json` describes."""
    width, height = one["width"], one["height"]
    return Case(
        source="labelled",
        item="a.png",
        pixels=np.zeros((height, width), np.uint8),
        modality=one["modality"],
        task=one["task"],
        findings=tuple(finding_of(finding, width, height) for finding in one["findings"]),
        negative=term_of(one["negative"]),
        label_set=tuple(Term(**label) for label in one["label_set"]),
        severity=tuple(Term(**label) for label in one["severity"]),
        plane=one["plane"],
        body_part=term_of(one["body_part"]),
        spacing_mm=None if one["spacing_mm"] is None else tuple(one["spacing_mm"]),
    )


def term_of(one: dict[str, str] | None) -> Term | None:
    return None if one is None else Term(**one)


def finding_of(one: dict[str, Any], width: int, height: int) -> Finding:
    """Return a finding; its mask is its box filled, or the ellipse in it."""
    label = Term(one["en"], one["zh"])
    if one["box"] is None:
        return Finding(label=label, source_label=label.en)
    x1, y1, x2, y2 = one["box"]
    mask = None
    if one["mask"]:
        mask = np.zeros((height, width), bool)
        mask[y1:y2, x1:x2] = True
        if one["mask"] == "ellipse":
            rows, columns = np.mgrid[0:height, 0:width] + 0.5
            across, down = (2 * columns - x1 - x2) / (x2 - x1), (2 * rows - y1 - y2) / (y2 - y1)
            mask &= across**2 + down**2 <= 1
    share = float(mask.mean()) if mask is not None else (x2 - x1) * (y2 - y1) / (width * height)
    box = (x1, y1, x2, y2)
    return Finding(label=label, source_label=label.en, box=box, area_share=share, side=side_of(box, width), mask=mask)


if __name__ == "__main__":
    main()
