"""Rounds by their command: which model each step begins with, runs that are killed, and what is told of them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from reasoning_items import write_side
from reasoning_models import save_taught
from safetensors.torch import load_file
from typer.testing import CliRunner

from gmai_vl.cli import main
from gmai_vl.cli.reason import app
from gmai_vl.evaluation import checkpoint_sha256
from gmai_vl.evaluation.benchmarks.own import read_own
from gmai_vl.evaluation.contamination import contamination
from gmai_vl.foundation import UserError
from gmai_vl.reasoning.items import read_items
from gmai_vl.reasoning.rounds import course, laid_out, read_rounds_recipe

QUESTIONS, STEPS = 12, 2

RECIPE = {
    "name": "r",
    "out": "out",
    "seed": 5,
    "model": {"init": "model"},
    "questions": "questions",
    "rounds": 2,
    "synthesis": {"tries": 3, "max_new_tokens": 48, "checks": {"min_words": 1, "most_alike": 100}},
    "sft": {"max_steps": STEPS, "global_batch": 4, "learning_rate": 1e-4, "precision": "fp32"},
    "difficulty": {"samples": 4, "max_new_tokens": 48},
    "grpo": {
        "group": 4,
        "questions_per_step": 2,
        "max_new_tokens": 48,
        "max_steps": STEPS,
        "micro_batch": 4,
        "learning_rate": 1e-4,
        "precision": "fp32",
        "validation": {"every": STEPS, "questions": 4},
        "state": {"every": 1},
    },
}
ONLY_GRPO = {key: value for key, value in RECIPE.items() if key not in ("synthesis", "sft", "difficulty")}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with questions and a tiny checkpoint that says A or B in the right form, each as likely."""
    folder = tmp_path_factory.mktemp("rounds")
    for seed, (side, count) in enumerate((("train", QUESTIONS), ("val", 4))):
        write_side(folder / "questions", side, count, seed)
    (folder / "questions/manifest.json").write_text(json.dumps({"fingerprint": "f" * 64}))
    save_taught(folder / "questions", folder / "model", "AB", "grey noise", steps=120)
    return folder


def written(base, name, recipe=RECIPE, **changes):
    (base / f"{name}.yaml").write_text(yaml.safe_dump(recipe | {"out": name} | changes))
    return base / f"{name}.yaml"


def reason(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def told(file):
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def whole(base):
    """Two rounds without a break; what was printed, and where."""
    shown = reason("rounds", written(base, "whole"), "--json", base / "whole.json").stdout
    return shown, base / "whole"


def test_each_step_begins_with_the_model_of_the_one_before(base, whole):
    _, out = whole
    last = checkpoint_sha256(base / "model")
    for number, line in enumerate(lines(out / "summary.jsonl"), start=1):
        folder = out / f"round-{number}"
        learnt, gives = folder / "sft/run/final", folder / "grpo/final"
        asked = told(folder / "traces/run.json")
        assert (asked["teacher"], asked["seed"]) == (last, 5 + number - 1)
        assert told(learnt / "provenance.json")["origin"]["init"] == str(
            (base / "model" if number == 1 else out / "round-1/grpo/final").resolve()
        )
        begun = told(folder / "grpo/run.json")
        assert begun["model_sha256"] == checkpoint_sha256(learnt) != last
        assert begun["recipe"]["difficulty"] == [0.1, 0.9]
        steps = [row["step"] for row in lines(folder / "grpo/log.jsonl") if row["event"] == "step"]
        assert steps == [1, 2]
        sha256 = checkpoint_sha256(gives)
        assert [line[key]["sha256"] for key in ("begins_with", "sft", "gives")] == [last, begun["model_sha256"], sha256]
        last = sha256
    about = read_items(base / "questions", "train").about.values()
    assert {one.difficulty.model_sha256 for one in about} == {checkpoint_sha256(out / "round-2/sft/run/final")}


def test_the_summary_counts_what_the_steps_wrote(base, whole):
    shown, out = whole
    summary = lines(out / "summary.jsonl")
    assert summary == told(base / "whole.json") and len(summary) == 2
    for number, line in enumerate(summary, start=1):
        folder = out / f"round-{number}"
        traced = {row["question"] for row in lines(folder / "traces/traces.jsonl")}
        assert 0 < line["synthesis"]["yield"] == len(traced) / QUESTIONS < 1
        log = lines(folder / "grpo/log.jsonl")
        rewards = [row["reward"] for row in log if row["event"] == "step"]
        assert list(line["grpo"]["reward"].values()) == rewards
        right = [row["accuracy"] for row in log if row["event"] == "validation"]
        assert line["grpo"]["accuracy"] == {"first": right[0], "last": right[-1], "questions": 4}
        assert sum(line["difficulty"].values()) == QUESTIONS
        assert f"{len(traced) / QUESTIONS:.1%}" in shown and f"{rewards[-1]:.3f}" in shown
    right = [one.difficulty.right for one in read_items(base / "questions", "train").about.values()]
    assert summary[1]["difficulty"]["sometimes right"] == sum(0 < number < 4 for number in right)
    assert shown.splitlines()[-1] == str(out / "round-2/grpo/final")


def test_all_that_was_learnt_in_all_rounds_leaks(base, whole):
    _, out = whole
    learnt = read_own(base / "questions/train.jsonl")
    found = contamination(out / "round-2/grpo/final", learnt, [])
    assert (found.status, len(found.leaked)) == ("leaked", QUESTIONS)
    assert found.why.count("reasoning-traces") == 2


def test_rewards_are_the_means_of_ten_steps_that_do_not_overlap():
    log = [{"event": "step", "reward": reward} for reward in range(1, 31)]
    assert course(log)["reward"] == {"first": 5.5, "last": 25.5}
    assert course(log[:5])["reward"] == {"first": 1.5, "last": 4.5}
    assert course(log[:1]) == {"reward": {"first": 1.0, "last": 1.0}}
    seen = [{"event": "validation", "accuracy": share, "questions": 8} for share in (0.25, 0.75, 0.5)]
    assert course(log + seen)["accuracy"] == {"first": 0.25, "last": 0.5, "questions": 8}


MOMENTS = [
    ("os.rename", "/.rounds.json."),
    ("os.rename", "round-1/traces/.report.json."),
    ("os.rename", "round-1/sft/run/.run.json."),
    ("os.rename", "round-1/sft/run/.reason."),
    ("os.rename", "/.difficulty.jsonl."),
    ("os.rename", "round-1/grpo/.run.json."),
    ("open", "round-1/grpo/state/checkpoint-2/trainer_state.json"),
    ("os.rename", "/.summary.jsonl."),
    ("open", "round-2/traces/raw.jsonl"),
    ("open", "round-2/grpo/state/checkpoint-1/trainer_state.json"),
]
"""Event and what the path in it holds, in the order of a run."""

KILLED = """
import os, signal, sys
event, part = sys.argv.pop(1), sys.argv.pop(1)

def watch(name, arguments):
    if name == event and part in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
from gmai_vl.cli import main
main()
"""


def killed(recipe, event, part):
    environment = {"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"], "GMAI_CACHE": os.environ["GMAI_CACHE"]}
    command = [sys.executable, "-c", KILLED, event, part, "reason", "rounds", str(recipe), "--resume"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, (event, part, run.stderr)


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param([MOMENTS[2], MOMENTS[-1]], id="two"),
        pytest.param(MOMENTS, id="all", marks=pytest.mark.long),
    ],
)
def test_a_run_that_is_killed_again_and_again_gives_the_same_model(base, whole, moments):
    name = f"killed-{len(moments)}"
    recipe = written(base, name)
    for event, part in moments:
        killed(recipe, event, part)
    before = {path: path.stat().st_mtime_ns for path in (base / name / "round-1").rglob("*") if path.is_file()}
    reason("rounds", recipe, "--resume")
    for path, changed in before.items():
        assert path.stat().st_mtime_ns == changed, path  # of a finished round nothing is done again
    for number in (1, 2):
        one, other = (folder / f"round-{number}" for folder in (whole[1], base / name))
        assert (one / "traces/traces.jsonl").read_bytes() == (other / "traces/traces.jsonl").read_bytes()
        weights, same = (load_file(folder / "grpo/final/model.safetensors") for folder in (one, other))
        assert all(torch.equal(weight, same[key]) for key, weight in weights.items())
    kept = [
        [{key: line[key] for key in ("synthesis", "difficulty", "grpo")} for line in lines(folder / "summary.jsonl")]
        for folder in (whole[1], base / name)
    ]
    assert kept[0] == kept[1]


def test_more_rounds_may_be_asked_for_later(base):
    recipe = written(base, "more", ONLY_GRPO, rounds=1)
    shown = reason("rounds", recipe).stdout
    assert "first reward" in shown and "trace" not in shown and "never right" not in shown
    first = (base / "more/summary.jsonl").read_text()
    reason("rounds", recipe, "--set", "rounds=2", "--set", "grpo.state={every: 5}", "--resume")
    assert (base / "more/summary.jsonl").read_text().startswith(first)
    assert told(base / "more/round-2/grpo/run.json")["model_sha256"] == checkpoint_sha256(
        base / "more/round-1/grpo/final"
    )
    assert told(base / "more/round-2/grpo/run.json")["recipe"]["difficulty"] is None


def test_rounds_of_traces_alone_end_with_what_learnt_them(base):
    recipe = written(base, "traces", {key: value for key, value in RECIPE.items() if key != "grpo"}, rounds=1)
    shown = reason("rounds", recipe, "--set", "difficulty=null").stdout
    final = base / "traces/round-1/sft/run/final"
    assert shown.splitlines()[-1] == str(final)
    (line,) = lines(base / "traces/summary.jsonl")
    assert line["gives"]["sha256"] == checkpoint_sha256(final) and not {"grpo", "difficulty"} & line.keys()


def test_rounds_without_a_teacher_of_their_own_are_laid_out_with_the_one_of_the_recipe(base):
    recipe = read_rounds_recipe(written(base, "laid"), ["synthesis.teacher=openai:http://127.0.0.1:9/v1#big"])
    assert [one.synthesis.teacher for one in laid_out(recipe)] == ["openai:http://127.0.0.1:9/v1#big"] * 2
    assert [one.begins_with for one in laid_out(recipe)] == ["model", "laid/round-1/grpo/final"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grpo.lerning_rate=1", r"grpo.lerning_rate: unknown key; did you mean `learning_rate`\?"),
        ("grpo.difficulty=[0.1, 0.9]", "grpo.difficulty: unknown key"),
        ("grpo.rewards.form=1", r"grpo.rewards.form: unknown key; did you mean `format`\?"),
        ("sft.traces=traces", "sft.traces: unknown key"),
        ("sft.epochs=1", "sft: give either `epochs` or `max_steps`"),
        ("synthesis.checks.min_words=900", "synthesis.checks: `min_words` 900 is more than `max_words` 600"),
        ("difficulty.keep=[0.9, 0.1]", "difficulty.keep: give two shares from 0 to 1, the smaller first"),
        ("synthesis=null", "recipe: `sft` learns what `synthesis` makes; give both or neither"),
        ("sft=null", "recipe: `sft` learns what `synthesis` makes; give both or neither"),
        ("rounds=0", "rounds: input should be greater than 0"),
        ("model.init=nowhere", "model.init: .*nowhere holds no checkpoint"),
        ("questions=nowhere", r"nowhere/train.jsonl: no such file"),
    ],
)
def test_what_is_wrong_in_any_step_is_told_before_the_first(base, override, message):
    recipe = written(base, "wrong")
    with pytest.raises(UserError, match=message) as raised:
        reason("rounds", recipe, "--set", override)
    assert "\n" not in str(raised.value)
    assert not (base / "wrong").exists()


def test_rounds_in_which_nothing_learns_are_refused(base):
    recipe = written(base, "nothing", {key: ONLY_GRPO[key] for key in ONLY_GRPO if key != "grpo"})
    with pytest.raises(
        UserError, match=r"nothing.yaml: recipe: no step teaches the model; give `sft` with `synthesis`"
    ):
        reason("rounds", recipe)


def test_the_folder_of_another_run_is_refused(base, whole):
    recipe = written(base, "whole")
    with pytest.raises(UserError, match="whole: holds rounds; --resume goes on with them, or give another `out`"):
        reason("rounds", recipe)
    with pytest.raises(UserError, match=r"whole: was begun with another `grpo.learning_rate`; go on with what rounds"):
        reason("rounds", recipe, "--set", "grpo.learning_rate=0.1", "--resume")
    (base / "theirs").mkdir()
    (base / "theirs/notes.txt").write_text("x")
    with pytest.raises(UserError, match="theirs: holds other things; give a new or an empty folder"):
        reason("rounds", written(base, "theirs"), "--resume")


def test_a_round_that_keeps_no_trace_ends_in_one_line(base, monkeypatch, capsys):
    recipe = written(base, "empty", synthesis=RECIPE["synthesis"] | {"checks": {"min_words": 500}})
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["gmai", "reason", "rounds", str(recipe), "--resume"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"gmai: {base / 'empty/round-1/traces'}: none of 36 answers is kept (")
        assert " for `length`" in line and line.endswith("more `tries`, and another `out`")
    assert not (base / "empty/round-1/sft").exists()


def test_the_recipe_of_the_project_loads():
    recipe = read_rounds_recipe(Path(__file__).parents[1] / "recipes/reason/rounds.yaml")
    assert recipe.name == "rounds" and recipe.synthesis and recipe.sft and recipe.difficulty and recipe.grpo
