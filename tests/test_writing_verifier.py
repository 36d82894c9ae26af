"""The verifier of free texts on the sealed set: what it caught when scored must stay caught."""

import hashlib
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "data" / "verifier"
MEASURE = Path(__file__).parent.parent / "benchmarks" / "verifier.py"


def test_the_sealed_set_is_the_one_whose_hash_came_before_the_rules() -> None:
    page = (Path(__file__).parent.parent / "docs" / "verifier.md").read_text(encoding="utf-8")
    for name in ("sealed.jsonl", "cases.json"):
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() in page


def test_recall_and_precision_do_not_fall_below_those_of_the_sealed_score() -> None:
    printed = subprocess.run(
        [sys.executable, MEASURE, FOLDER], capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout
    recall, precision = (float(word.strip(",")) for word in printed.split()[-3::2])
    assert recall >= 0.942
    assert precision >= 0.922
