"""Extraction on labelled responses: the open part that rules were written by, and the sealed one that they were not."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from gmai_vl.evaluation.answers.extraction import extract
from gmai_vl.evaluation.answers.wording import words

FOLDER = Path(__file__).parent / "data/answers"
SEALED_SHA256 = "b2fbb1811076c4ad67f2bc0bf3fea55ece025d9c2464fa37c77b25af230152ac"


def is_right(case: dict) -> bool:
    said = extract(case["kind"], case["question"], case["options"], case["response"])
    if case["unparsed"]:
        return said.unparsed
    if case["choice"] is not None:
        return said.choice == case["choice"]
    return not said.unparsed and said.choice is None and squeezed(said.text) == squeezed(words(case["text"]))


def squeezed(text: str) -> str:
    """Return a text without blanks: whether a mark between Chinese words leaves one is a matter of taste."""
    return text.replace(" ", "")


def shares(name: str) -> dict[tuple[str, str], float]:
    """Return the share of right readings by language, of clear answers and of what is none."""
    right: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        key = case["lang"], "none" if case["unparsed"] else "clear"
        total[key] += 1
        right[key] += is_right(case)
    return {key: right[key] / total[key] for key in total}


@pytest.mark.parametrize("name", ["open.jsonl", "open_2.jsonl", "sealed.jsonl"])
def test_clear_answers_are_read_and_others_left_alone(name):
    found = shares(name)
    assert found.keys() == {("en", "clear"), ("en", "none"), ("zh", "clear"), ("zh", "none")}
    assert all(share >= 0.97 for share in found.values()), found


def test_the_sealed_part_is_the_one_that_was_sealed():
    assert hashlib.sha256((FOLDER / "sealed.jsonl").read_bytes()).hexdigest() == SEALED_SHA256
