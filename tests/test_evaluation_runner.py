"""Asking a model: answers on disk, runs that are killed and go on, runs that must not be mixed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from evaluation_samples import grounding, image_of, question

from gmai_vl.evaluation import ask, checkpoint_sha256, claim, read_predictions
from gmai_vl.foundation import UserError
from gmai_vl.model import ModelSettings, Request, build_model, generate, save_model
from gmai_vl.records import Turn

QUESTIONS = [question(n) for n in range(15)] + [grounding(n, (0, 0, 9, 9)) for n in range(15, 18)]
BATCH_SIZE = 1

KILLED_RUN = """
import os, signal
from test_evaluation_runner import BATCH_SIZE, QUESTIONS, image_of, tiny
from gmai_vl.evaluation import ask
from pathlib import Path

def deadly_image_of(name):
    if name == "image009":
        os.kill(os.getpid(), signal.SIGKILL)
    return image_of(name)

ask(tiny(), QUESTIONS, deadly_image_of, Path("predictions.jsonl"), batch_size=BATCH_SIZE)
"""


def tiny():
    """A tiny model with weights so large that it says different things."""
    vlm = build_model(ModelSettings(preset="tiny"), seed=0)
    with torch.no_grad():
        for weight in vlm.model.model.language_model.parameters():
            weight.mul_(3)
    return vlm


@pytest.fixture(scope="module")
def vlm():
    return tiny()


@pytest.fixture(scope="module")
def whole(vlm, tmp_path_factory):
    """The predictions file of a run that nothing stopped."""
    path = tmp_path_factory.mktemp("whole") / "run" / "predictions.jsonl"
    responses = ask(vlm, QUESTIONS, image_of, path, batch_size=BATCH_SIZE)
    assert responses == read_predictions(path)
    assert list(responses) == [entry.id for entry in QUESTIONS]
    return path


def test_the_answers_are_those_of_the_model(vlm, whole):
    responses = read_predictions(whole)
    for entry in (QUESTIONS[3], QUESTIONS[16]):
        request = Request(entry.turns, tuple(map(image_of, entry.images)))
        tokens = 160 if entry.kind == "grounding" else 24
        assert [responses[entry.id]] == generate(vlm, [request], max_new_tokens=tokens, batch_size=1)
    assert len(set(responses.values())) > 10


def test_a_killed_run_goes_on_and_ends_with_the_same_file(vlm, whole, tmp_path):
    code = subprocess.run(
        [sys.executable, "-c", KILLED_RUN], cwd=tmp_path, env=_environment(), stderr=subprocess.PIPE, text=True
    )
    assert code.returncode == -signal.SIGKILL, code.stderr
    path = tmp_path / "predictions.jsonl"
    before = read_predictions(path)
    assert 0 < len(before) < len(QUESTIONS)
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"id": "q008", "respon')  # a line that the kill cut off

    asked = []
    responses = ask(vlm, QUESTIONS, lambda name: (asked.append(name), image_of(name))[1], path, batch_size=BATCH_SIZE)
    assert sorted(asked) == sorted(entry.images[0] for entry in QUESTIONS if entry.id not in before)
    assert path.read_bytes() == whole.read_bytes()
    assert responses == read_predictions(whole)


def test_a_finished_run_asks_nothing(vlm, whole, tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(whole.read_bytes())

    def refuse(name):
        raise AssertionError(name)

    some = QUESTIONS[::-1][:5]
    assert list(ask(vlm, some, refuse, path)) == [entry.id for entry in some]
    assert path.read_bytes() == whole.read_bytes()


def test_a_file_that_is_no_predictions_is_left_alone(vlm, tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_text("notes\n")
    with pytest.raises(UserError, match=r"predictions.jsonl:1"):
        ask(vlm, QUESTIONS, image_of, path)
    assert path.read_text() == "notes\n"


def test_questions_without_images_are_asked_too(vlm, tmp_path):
    text_only = question(1, images=(), turns=(Turn("user", ("Which organ makes bile?",)),))
    assert set(ask(vlm, [text_only], image_of, tmp_path / "p.jsonl")) == {"q001"}


def test_a_folder_is_claimed_by_one_run(tmp_path):
    identity = {"benchmark": "corpus", "data": "1", "model": "2"}
    claim(tmp_path, identity)
    claim(tmp_path, identity)
    with pytest.raises(UserError, match="another model"):
        claim(tmp_path, identity | {"model": "3"})
    assert json.loads((tmp_path / "run.json").read_text()) == identity


def test_predictions_of_nobody_are_not_taken_over(tmp_path):
    (tmp_path / "predictions.jsonl").write_text('{"id": "a", "response": "A"}\n')
    with pytest.raises(UserError, match=r"without a run.json"):
        claim(tmp_path, {"model": "1"})
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        claim(tmp_path, {"model": "1"})


def test_a_checkpoint_is_known_by_its_weights(tmp_path, vlm):
    save_model(vlm, tmp_path / "a", provenance={"seed": 0})
    save_model(tiny(), tmp_path / "b", provenance={"seed": 7})
    save_model(build_model(ModelSettings(preset="tiny"), seed=1), tmp_path / "c")
    assert checkpoint_sha256(tmp_path / "a") == checkpoint_sha256(tmp_path / "b")
    assert checkpoint_sha256(tmp_path / "a") != checkpoint_sha256(tmp_path / "c")


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
