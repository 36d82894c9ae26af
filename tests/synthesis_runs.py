"""Runs of rejection sampling for tests: made questions, a teacher that mixes good and bad answers, what is written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from stub_server import Stub, answer, status

from gmai_vl.reasoning.synthesis import read_synthesis_recipe, synthesize
from gmai_vl.reasoning.synthesis.teacher import seed_of

QUESTIONS, TRIES = 12, 4
FILES = ("traces.jsonl", "rejected.jsonl", "without_trace.jsonl", "reasoning_mcq_sft.jsonl")
WORDS = ("amber", "birch", "cobalt", "dune", "ember", "flint", "grove", "haze", "iris", "jade", "kelp", "loam")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GMAI_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def note_seeds(monkeypatch):
    """Have every stub note the seeds that it is asked with."""
    begin, handle = Stub.__init__, Stub.handle

    def noting(self, handler, body):
        self.seeds.append(json.loads(body)["seed"])
        handle(self, handler, body)

    def beginning(self, *given, **named):
        self.seeds = []
        begin(self, *given, **named)

    monkeypatch.setattr(Stub, "__init__", beginning)
    monkeypatch.setattr(Stub, "handle", noting)


@pytest.fixture(name="folder")
def folder_of_questions(tmp_path):
    write_questions(tmp_path / "questions")
    return tmp_path


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (24, 24)).astype(np.uint8)


def write_questions(folder: Path, count: int = QUESTIONS, side: str = "train") -> Path:
    """Write a folder of questions, three of a patient; number n is right with A where n is even."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        Image.fromarray(picture(number)).save(folder / f"images/{side}-{number}.png")
        line = {"id": f"n{number}", "question": f"Which is number {number}?", "A": "dark disc", "B": "light disc"}
        line |= {"answer": "AB"[number % 2], "image": f"images/{side}-{number}.png", "language": "en"}
        line |= {"patient": f"{side}-{number // 3}", "source": f"set{number % 3}", "modality": "CT", "about": {}}
        lines.append(line | {"form": "kind" if number < 4 else "size"})
    (folder / f"{side}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def recipe_of(folder: Path, url: str = "http://127.0.0.1:9/v1", **changes: Any) -> Path:
    """Write a recipe beside the folder of questions."""
    told = {"questions": "questions", "teacher": f"openai:{url}#m", "out": "traces", "tries": TRIES, "concurrency": 4}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(told | changes))
    return folder / "recipe.yaml"


def run(path: Path, *overrides: str, ask: bool = True) -> dict[str, Any]:
    return synthesize(read_synthesis_recipe(path, overrides), base=path.parent, ask=ask).report


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def contents(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


def thought(number: int, nth: int) -> str:
    """A thought that no other question and no other try has."""
    return (
        f"The region in the middle looks like {WORDS[number]} against {WORDS[-nth]} noise. Its edge is sharp all "
        "round, and inside of it the values hardly change from one column to the next."
    )


def said(number: int, nth: int, letter: str | None = None) -> str:
    return f"<think>{thought(number, nth)}</think><answer>{letter or 'AB'[number % 2]}</answer>"


ASKED = {seed_of(0, (f"own-n{number}", nth)): (number, nth) for number in range(QUESTIONS) for nth in range(1, 20)}


def tried(now: Any) -> tuple[int, int]:
    """Return which question a request asks, and for which time."""
    number, nth = ASKED[now.body["seed"]]
    assert f"number {number}?" in now.prompt
    return number, nth


def script(now: Any) -> Any:
    """Answer as a mixed teacher does: what comes depends on question and try."""
    number, nth = tried(now)
    match number, nth:
        case 0, _:
            return answer(said(0, nth, "B"))  # always wrong
        case 1, 1 | 2:
            return answer(said(1, 1))  # the same thought twice
        case 2, 1:
            return status(400, '{"error": "too long"}')
        case 2, 2:
            return answer("")
        case 2, 3:
            return answer("the the " * 125_000)
        case 3, 1:
            return answer(said(3, 1), finish="length")
        case 3, 2:
            return answer(f"<think>The answer is B. {thought(3, 2)}</think><answer>B</answer>")
        case ((4 | 5 | 6 | 7), _):
            return answer(said(number, nth).replace(WORDS[number], "one thing"))  # the same thought for four questions
        case _:
            return answer(said(number, nth))


def seeds_of(stub: Stub) -> list[int]:
    return list(stub.seeds)  # type: ignore[attr-defined]
