"""Asked by likelihood: the smallest loss is the answer, losses are kept, calibrated and scored as OmniMedVQA does."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_files import write_json, write_png
from evaluation_samples import image_of, question
from outspoken_models import outspoken
from typer.testing import CliRunner

from gmai_vl.cli.eval import app
from gmai_vl.evaluation.likelihood import calibration_of, chances, weigh
from gmai_vl.evaluation.predictions import read_asides, read_predictions
from gmai_vl.evaluation.prompts import BY_LIKELIHOOD
from gmai_vl.evaluation.protocols import PROTOCOLS
from gmai_vl.foundation import UserError
from gmai_vl.model import Request, Weighing, mean_losses, save_model


def read_losses(path):
    return read_asides(path).losses


OPTIONS = {"A": "CT", "B": "magnetic resonance imaging", "C": "X-ray", "D": "CT"}
QUESTIONS = [question(n, images=(f"image{n // 3:03}",), options=OPTIONS) for n in range(70)]

KILLED_RUN = """
import os, signal
from pathlib import Path
from test_evaluation_likelihood import QUESTIONS, image_of, outspoken
from gmai_vl.evaluation.likelihood import weigh

def deadly_image_of(name):
    if name == "image022":
        os.kill(os.getpid(), signal.SIGKILL)
    return image_of(name)

weigh(outspoken(), QUESTIONS, deadly_image_of, Path("predictions.jsonl"), prompt=None)
"""


@pytest.fixture(scope="module")
def vlm():
    return outspoken()


def test_letters_are_weighed_where_the_answer_begins(vlm, tmp_path):
    said = weigh(vlm, QUESTIONS[:6], image_of, tmp_path / "p.jsonl", prompt=None)
    losses = read_losses(tmp_path / "p.jsonl")
    asked = QUESTIONS[4]
    weighing = Weighing(Request(asked.turns, (image_of(asked.images[0]),)), tuple("ABCD"))
    assert list(losses[asked.id].values()) == pytest.approx(mean_losses(vlm, [weighing], batch_size=4)[0], rel=1e-4)
    assert said == {id: min(of, key=of.get) for id, of in losses.items()} == read_predictions(tmp_path / "p.jsonl")


def test_texts_are_weighed_with_a_dot_after_the_prefix(vlm, tmp_path):
    weigh(vlm, QUESTIONS[:1], image_of, tmp_path / "p.jsonl", prompt=BY_LIKELIHOOD)
    texts = (" CT.", " magnetic resonance imaging.", " X-ray.", " CT.")
    weighing = Weighing(Request(QUESTIONS[0].turns, (image_of("image000"),)), texts, "The answer is")
    (expected,) = mean_losses(vlm, [weighing], batch_size=4)
    losses = read_losses(tmp_path / "p.jsonl")["q000"]
    assert list(losses) == list(OPTIONS)
    assert list(losses.values()) == pytest.approx(expected, rel=1e-4)


def test_of_equal_options_the_first_is_the_answer(vlm, tmp_path):
    same = question(0, options={"A": "CT", "B": "CT"})
    assert weigh(vlm, [same], image_of, tmp_path / "p.jsonl", prompt=BY_LIKELIHOOD) == {"q000": "A"}


def test_a_killed_run_goes_on_and_ends_with_the_same_file(vlm, tmp_path):
    whole = tmp_path / "whole.jsonl"
    weigh(vlm, QUESTIONS, image_of, whole, prompt=None)
    environment = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    run = subprocess.run([sys.executable, "-c", KILLED_RUN], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    assert run.returncode == -signal.SIGKILL, run.stderr
    path = tmp_path / "predictions.jsonl"
    assert 0 < len(read_predictions(path)) < len(QUESTIONS)
    weigh(vlm, QUESTIONS, image_of, path, prompt=None)
    assert read_predictions(path) == read_predictions(whole)
    assert list(read_losses(path)) == list(read_losses(whole))


def test_only_multiple_choice_is_weighed(vlm, tmp_path):
    mixed = [QUESTIONS[0], question(99, kind="open", options=None, answer="liver")]
    with pytest.raises(UserError, match="1 of 2 questions are no multiple choice, the first is `q099`"):
        weigh(vlm, mixed, image_of, tmp_path / "p.jsonl", prompt=None)


def test_a_model_whose_losses_are_no_numbers_is_refused(tmp_path):
    broken = outspoken()
    with torch.no_grad():
        broken.model.lm_head.weight.fill_(math.nan)
    with pytest.raises(UserError, match=r"q000: the model's losses are \[nan, .*damaged"):
        weigh(broken, QUESTIONS[:1], image_of, tmp_path / "p.jsonl", prompt=None)
    assert read_predictions(tmp_path / "p.jsonl") == {}


def test_chances_are_shares_of_the_options():
    told = chances({"A": math.log(2), "B": math.log(4), "C": math.log(4)})
    assert told == pytest.approx({"A": 0.5, "B": 0.25, "C": 0.25})
    assert chances({"A": 5000.0, "B": 5000.0}) == {"A": 0.5, "B": 0.5}


def test_calibration_by_hand():
    questions = [question(0, answer="A"), question(1, answer="C")]
    fits = calibration_of(questions, {id: {"A": 0.0, "B": math.log(2), "C": math.log(2)} for id in ("q000", "q001")})
    # Sure by 0.5 of A both times, right once. Brier: 0.25 + 0.0625 + 0.0625, and 0.25 + 0.0625 + 0.5625.
    assert fits is not None
    assert (fits.n, fits.expected_error, fits.brier) == pytest.approx((2, 0.0, (0.375 + 0.875) / 2))


def test_there_is_no_calibration_where_losses_are_missing_or_of_other_options():
    questions = [question(0), question(1)]
    assert calibration_of(questions, {"q000": dict.fromkeys("ABC", 1.0)}) is None
    with pytest.raises(UserError, match="`q000` has losses for AB, its options are others"):
        calibration_of(questions[:1], {"q000": dict.fromkeys("AB", 1.0)})


def test_omnimedvqa_prefix_holds_texts_together():
    twice = replace(QUESTIONS[0], answer="D")
    verdicts = [PROTOCOLS["omnimedvqa-prefix"].judge([twice], {"q000": letter})[0] for letter in "ABCD"]
    assert [verdict.correct for verdict in verdicts] == [True, False, False, True]
    with pytest.raises(ValueError, match="q000: 'CT' is no letter of its options; ask by likelihood"):
        PROTOCOLS["omnimedvqa-prefix"].judge([twice], {"q000": "CT"})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """OmniMedVQA in small, a checkpoint, and a run of it by likelihood."""
    folder = tmp_path_factory.mktemp("omni")
    for dataset, count in (("ACRIMA", 1), ("BRSET", 3)):
        rows = [
            {
                "dataset": dataset,
                "question_id": f"{dataset}_{number}",
                "question_type": "Modality Recognition",
                "question": f"What is it, {number}?",
                "gt_answer": "CT scan",
                "image_path": "Images/1.png",
                "option_A": "PET scan",
                "option_B": "CT scan",
                "modality_type": "CT",
            }
            for number in range(count)
        ]
        write_json(folder / f"data/QA_information/Open-access/{dataset}.json", rows)
    write_png(folder / "data/Images/1.png", 1)
    save_model(outspoken(), folder / "model")
    assert gmai_eval(folder, "run", "--prompt", BY_LIKELIHOOD, "--by-likelihood").exit_code == 0
    return folder


def gmai_eval(base, verb, *more, out="run"):
    result = CliRunner().invoke(app, [verb, *map(str, arguments(base, verb, base / out)), *map(str, more)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def arguments(base, verb, out):
    of_benchmark = ("--benchmark", "omnimedvqa-open", "--data", base / "data")
    if verb == "run":
        return (*of_benchmark, "--model", base / "model", "--out", out)
    return (*of_benchmark, "--predictions", out / "predictions.jsonl")


def test_a_run_by_likelihood_is_scored_and_calibrated(base):
    score = json.loads((base / "run/score.json").read_text())
    losses = read_losses(base / "run/predictions.jsonl")
    right = [of["B"] < of["A"] for of in losses.values()]
    assert score["micro"] == sum(right) / 4
    assert score["calibration"]["n"] == 4
    assert score["calibration"]["brier"] == pytest.approx(
        sum(2 * (1 - chances(of)["B"]) ** 2 for of in losses.values()) / 4
    )
    assert score["manifest"]["decoding"] == {"by_likelihood": True}
    assert set(score["manifest"]["code"]) >= {"sha256"}
    page = (base / "run/report.html").read_text()
    assert "Calibration" in page and f"{score['calibration']['brier']:.3f}" in page


def test_the_protocol_gives_a_share_for_each_dataset(base):
    assert (
        "calibration: expected error"
        in gmai_eval(base, "score", "--protocol", "omnimedvqa-prefix", "--json", base / "prefix.json").stdout
    )
    score = json.loads((base / "prefix.json").read_text())
    losses = read_losses(base / "run/predictions.jsonl")
    shares = [
        np.mean([of["B"] < of["A"] for id, of in losses.items() if dataset in id]) for dataset in ("ACRIMA", "BRSET")
    ]
    assert (score["protocol"], score["macro"]) == ("omnimedvqa-prefix", pytest.approx(np.mean(shares)))


def test_what_was_written_is_not_scored_by_losses(base, tmp_path):
    lines = [json.loads(line) for line in (base / "run/predictions.jsonl").read_text().splitlines()]
    (base / "written").mkdir()
    (base / "written/predictions.jsonl").write_text(
        "".join(json.dumps({"id": line["id"], "response": line["response"]}) + "\n" for line in lines)
    )
    with pytest.raises(UserError, match=r"4 questions have no losses.*run with --by-likelihood"):
        gmai_eval(base, "score", "--protocol", "omnimedvqa-prefix", out="written")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--prompt", BY_LIKELIHOOD), "shows no options to choose from; add --by-likelihood"),
        (("--by-likelihood", "--max-new-tokens", "3"), "nothing is written with --by-likelihood"),
        (
            ("--by-likelihood", "--model", "openai:http://127.0.0.1:9#m"),
            "m tells no losses; give the folder of a checkpoint",
        ),
    ],
)
def test_what_does_not_go_together_is_told(base, tmp_path, more, message):
    with pytest.raises(UserError, match=message):
        gmai_eval(base, "run", *more, out="none")
    assert not (base / "none").exists()


def test_losses_and_writing_do_not_share_a_folder(base):
    with pytest.raises(UserError, match="holds a run with another by"):
        gmai_eval(base, "run", "--prompt", "direct")
