"""How many responses a second are read: the labelled ones of the tests, by the protocol `default`.

python benchmarks/extraction.py
"""

import json
import platform
import time
from pathlib import Path

from gmai_vl import __version__
from gmai_vl.evaluation.answers.extraction import extract

ANSWERS = Path(__file__).parents[1] / "tests/data/answers"
ROUNDS = 5


def main() -> None:
    cases = [
        json.loads(line) for file in sorted(ANSWERS.glob("*.jsonl")) for line in file.read_text("utf-8").splitlines()
    ]
    rates = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for case in cases:
            extract(case["kind"], case["question"], case["options"], case["response"])
        rates.append(len(cases) / (time.perf_counter() - start))
    characters = sum(len(case["response"]) for case in cases) / len(cases)
    print(
        f"gmai-vl {__version__}, Python {platform.python_version()}, one process: {min(rates):,.0f} to "
        f"{max(rates):,.0f} responses/s of {characters:.0f} characters on average ({len(cases)}, {ROUNDS} rounds)"
    )


if __name__ == "__main__":
    main()
