"""The verifier of free texts on the sealed sets: what it caught when scored must stay caught."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"


@pytest.mark.parametrize(
    "name",
    [
        "verifier/sealed.jsonl",
        "verifier/cases.json",
        "verifier_questions/sealed2.jsonl",
        "verifier_questions/cases.json",
        "verifier_questions_again/sealed3.jsonl",
        "verifier_questions_again/cases.json",
    ],
)
def test_a_sealed_set_is_the_one_whose_hash_came_before_its_score(name: str) -> None:
    page = (ROOT / "docs" / "verifier.md").read_text(encoding="utf-8")
    assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() in page


@pytest.mark.parametrize(
    ("folder", "least_recall", "least_precision"),
    [("verifier", 0.942, 0.922), ("verifier_questions", 0.786, 0.899), ("verifier_questions_again", 0.908, 0.690)],
)
def test_recall_and_precision_do_not_fall_below_those_of_the_sealed_score(
    folder: str, least_recall: float, least_precision: float
) -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "verifier.py", DATA / folder],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    ).stdout
    recall, precision = (float(word.strip(",")) for word in printed.split()[-3::2])
    assert recall >= least_recall
    assert precision >= least_precision
