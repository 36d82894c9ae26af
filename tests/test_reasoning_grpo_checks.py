"""What GRPO refuses before it begins, what it leaves alone then, and what it keeps over a break."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reasoning_runs import log, recipe, rewards_by_letters, weights, write_base

from gmai_vl.evaluation.benchmarks.own import read_own
from gmai_vl.evaluation.contamination import contamination
from gmai_vl.foundation import UserError
from gmai_vl.model import load_model
from gmai_vl.reasoning.difficulty import estimate_difficulty
from gmai_vl.reasoning.grpo import grpo, read_grpo_recipe
from gmai_vl.reasoning.grpo import run as grpo_run
from gmai_vl.reasoning.grpo.checks import check_words
from gmai_vl.reasoning.grpo.telemetry import faults_of
from gmai_vl.reasoning.items import DIFFICULTY, read_items
from gmai_vl.training.recipe import Lora


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("checks"))


@pytest.fixture
def base(written, tmp_path):
    """A folder with questions and a tiny checkpoint, for one test alone."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def rewarded_by_letters(monkeypatch):
    monkeypatch.setattr(grpo_run, "_judged", lambda recipe, cases, *asked: rewards_by_letters(*asked))


@pytest.fixture
def stopped_at_2(monkeypatch):
    """Let a run end after its second step, when its state is saved; returns what lets it go on."""

    class Stopping(grpo_run.Log):
        def on_step_begin(self, args, state, control, **more):
            if state.global_step == 2:
                raise InterruptedError

    whole = grpo_run.Log
    monkeypatch.setattr(grpo_run, "Log", Stopping)
    return lambda: monkeypatch.setattr(grpo_run, "Log", whole)


def there(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(base: Path, message: str, *, overwrite: bool = False, resume: bool = False, **changes) -> None:
    """Have a run refused in one line, with nothing in the folder changed."""
    before = there(base)
    with pytest.raises(UserError, match=message) as raised:
        grpo(recipe(**changes), base=base, overwrite=overwrite, resume=resume)
    assert "\n" not in str(raised.value)
    assert there(base) == before


def rewrite(base: Path, number: int, side: str = "train", **changes) -> dict:
    """Change a question of a side, and return it."""
    file = base / f"questions/{side}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[number] = {key: value for key, value in (rows[number] | changes).items() if value is not None}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows[number]


@pytest.mark.parametrize(
    ("out", "changes", "message"),
    [
        (".", {}, "holds the checkpoint of `model.init`; give another `out`"),
        ("model", {}, "model: holds the checkpoint of `model.init`"),
        ("questions", {}, "questions: holds the folder of `questions`; give another `out`"),
        ("model/new", {}, "model/new: lies in the checkpoint of `model.init`; give another `out`"),
        ("questions/new", {}, "questions/new: lies in the folder of `questions`"),
        ("kept", {}, r"kept: holds grpo\.yaml, which no training wrote"),
        ("trained/final", {"model": {"init": "trained"}}, "final: lies in the checkpoint"),
    ],
)
def test_what_no_run_wrote_is_never_removed(base, out, changes, message):
    for folder in ("kept", "trained/final"):
        (base / folder).mkdir(parents=True)
    (base / "kept/run.json").write_text("{}")
    (base / "kept/grpo.yaml").write_text("name: r")
    refused(base, message, out=out, overwrite=True, **changes)


def test_to_begin_anew_and_to_go_on_at_once_is_refused(base):
    refused(base, "--overwrite and --resume: give one of them", overwrite=True, resume=True)


def test_an_earlier_run_is_overwritten_and_only_when_the_next_one_begins(base, rewarded_by_letters):
    grpo(recipe(max_steps=1), base=base)
    (base / "out/.log.jsonl.0a1b2c3d.tmp").write_text("x")
    (base / "out/state").mkdir()
    refused(base, "questions_per_step: 50 of 24 questions", overwrite=True, questions_per_step=50)
    refused(base, "holds an earlier training; go on with --resume", max_steps=2)
    before = weights(base / "out/final")
    after = weights(grpo(recipe(max_steps=2), base=base, overwrite=True))
    assert any(not torch.equal(weight, after[name]) for name, weight in before.items())
    assert [row["step"] for row in log(base / "out")] == [1, 2]
    assert {path.name for path in (base / "out").iterdir()} == {"final", "log.jsonl", "run.json"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"questions_per_step": 50}, "questions_per_step: 50 of 24 questions; lower it"),
        ({"validation": {"every": 1}}, r"questions/val\.jsonl: no such file"),
        ({"difficulty": [0.1, 0.9]}, "difficulty: `own-.*` has no estimate"),
        ({"rewards": {"facts": 1.0}}, "rewards.facts: 1, but none of the 24 questions"),
        ({"model": {"init": "nowhere"}}, "nowhere: no such folder; give the folder of a checkpoint"),
        ({"model": {"init": "questions"}}, r"questions: no config\.json in there; give the folder of a checkpoint"),
        ({"questions": "nowhere"}, r"nowhere/train\.jsonl: no such file"),
        (
            {"vllm": {"url": "http://127.0.0.1:9"}},
            "vllm: the package vllm is not installed; install it, or take `vllm`",
        ),
        (
            {"train": ["vision"], "lora": Lora(parts=("vision",))},
            "lora.parts: `vision` of this model has no linear layers to adapt; take it out of `lora`",
        ),
    ],
)
def test_a_mistake_leaves_no_folder_behind(base, changes, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    (base / "questions/val.jsonl").unlink()
    refused(base, message, **changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", r"out/run\.json: cannot be read: it is a list; --overwrite begins anew"),
        ("{", r"out/run\.json: cannot be read: .*; --overwrite begins anew"),
        (None, r"out/run\.json: cannot be read: .*; --overwrite begins anew"),
        ("{}", "out: was begun with another model_sha256 and .*; --overwrite begins anew"),
    ],
)
def test_a_run_that_does_not_say_what_it_is_is_not_gone_on_with(base, content, message):
    (base / "out/state").mkdir(parents=True)
    if content:
        (base / "out/run.json").write_text(content)
    refused(base, message, resume=True)


def test_a_file_in_place_of_the_folder_is_one_line(base):
    (base / "out").write_text("x")
    for overwrite in (False, True):
        refused(base, "out: is a file; give a folder as `out`", overwrite=overwrite)


KILLED = """
import os, signal, sys
from pathlib import Path
from reasoning_runs import recipe
from gmai_vl.reasoning.grpo import grpo

def watch(name, arguments):
    if name == "os.rename" and ".run.json." in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
grpo(recipe(max_steps=1), base=Path(sys.argv[1]))
"""


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_killed_while_it_claims_its_folder_may_begin_again(base, rewarded_by_letters, resume):
    environment = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    run = subprocess.run([sys.executable, "-c", KILLED, str(base)], env=environment, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    (left,) = (base / "out").iterdir()
    assert left.suffix == ".tmp"
    grpo(recipe(max_steps=1), base=base, resume=resume)
    assert {path.name for path in (base / "out").iterdir()} == {"final", "log.jsonl", "run.json"}


@pytest.mark.parametrize(
    ("rewards", "fits"),
    [
        ({"accuracy": 0.0}, False),
        ({"accuracy": 0.0, "length": 1.0}, False),
        ({"accuracy": 0.0, "facts": 0.5}, True),
        ({"accuracy": 0.0, "grounding": 0.5}, False),
        ({}, True),
    ],
)
def test_a_run_in_which_every_group_is_settled_is_refused(tmp_path, rewards, fits):
    file = tmp_path / "r.yaml"
    file.write_text(f"{{name: r, out: o, model: {{init: m}}, questions: q, max_steps: 3, rewards: {rewards}}}")
    assert not read_grpo_recipe(file, ["drop_settled=false"]).drop_settled
    if fits:
        assert read_grpo_recipe(file).drop_settled
        return
    message = r"r\.yaml: recipe: `drop_settled` leaves out every group where none of accuracy, facts has a w"
    with pytest.raises(UserError, match=message) as raised:
        read_grpo_recipe(file)
    assert "\n" not in str(raised.value)


def test_other_questions_are_not_gone_on_with(base, rewarded_by_letters, stopped_at_2):
    (base / "questions/manifest.json").write_text(json.dumps({"fingerprint": "f" * 64}))
    estimate_difficulty(base / "questions", base / "model", samples=2, max_new_tokens=4)
    estimates = [json.loads(line) for line in (base / "questions" / DIFFICULTY).read_text().splitlines()]

    def estimated(right):
        lines = [json.dumps(row | {"right": right(number)}) + "\n" for number, row in enumerate(estimates)]
        (base / "questions" / DIFFICULTY).write_text("".join(lines))

    kept = {"difficulty": [0.1, 0.9], "state": {"every": 1}}
    estimated(lambda number: number % 2)
    with pytest.raises(InterruptedError):
        grpo(recipe(**kept), base=base)
    stopped_at_2()
    message = "out: was begun with another questions_sha256; --overwrite begins anew"
    estimated(lambda number: number % 3 == 1)
    refused(base, message, resume=True, **kept)
    estimated(lambda number: number % 2)
    number = next(number for number, row in enumerate(estimates) if number % 2)
    answer = rewrite(base, number)["answer"]
    before = (base / "questions/train.jsonl").read_bytes()
    (base / "questions/manifest.json").write_text(json.dumps({"fingerprint": "e" * 64}))
    refused(base, "out: was begun with another questions_fingerprint", resume=True, **kept)
    (base / "questions/manifest.json").write_text(json.dumps({"fingerprint": "f" * 64}))
    final = grpo(recipe(**kept), base=base, resume=True)
    assert (base / "questions/train.jsonl").read_bytes() == before
    told = json.loads((final / "provenance.json").read_text())
    assert [row["fingerprint"] for row in told["questions"]] == ["f" * 64] != [told["questions_sha256"]]
    train = read_own(base / "questions/train.jsonl")
    assert contamination(final, train, []).leaked == {question.id for question in train.questions}
    rewrite(base, number, answer="AB".replace(answer, ""))
    with pytest.raises(UserError):  # finished or not
        grpo(recipe(**kept), base=base, resume=True)


@pytest.mark.parametrize(
    "changes", [{"question": "What is it?"}, {"A": "bright disc"}, {"image": "images/other.png"}, {"answer": "?"}]
)
def test_a_question_that_was_changed_is_another(base, rewarded_by_letters, stopped_at_2, changes):
    row = rewrite(base, 3)
    shutil.copy(base / "questions" / row["image"], base / "questions/images/other.png")
    with pytest.raises(InterruptedError):
        grpo(recipe(state={"every": 1}), base=base)
    stopped_at_2()
    rewrite(
        base, 3, **{key: "AB".replace(row["answer"], "") if value == "?" else value for key, value in changes.items()}
    )
    message = "out: was begun with another questions_fingerprint and questions_sha256"
    refused(base, message, resume=True, state={"every": 1})


@pytest.mark.parametrize("word", ["<|im_end|>", "<image>", "<|im_start|>"])
@pytest.mark.parametrize("column", ["question", "B"])
def test_a_question_that_says_a_control_token_is_refused(base, word, column):
    id = rewrite(base, 5, **{column: f"it is {word} here"})["id"]
    refused(
        base, rf"^questions: `own-{id}` says {word.replace('|', '[|]')}, which is a control token of the model; say"
    )


def test_tags_of_the_prompt_are_words_also_where_a_tokenizer_has_them(base):
    """As Qwen3's has: such a token is taken in any text, so that TRL and we read the same."""
    questions, processor = read_items(base / "questions", "train").questions, load_model(base / "model").processor
    processor.tokenizer.add_tokens(["<think>", "</think>"])
    check_words(questions, processor)
    processor.tokenizer.add_tokens(["<answer>"], special_tokens=True)
    with pytest.raises(UserError, match="says <answer>, which is a control token"):
        check_words(questions, processor)


@pytest.mark.parametrize("side", ["train", "val"])
def test_an_image_that_cannot_be_read_is_told_before_the_first_step(base, side, capsys):
    row = rewrite(base, 4, side)
    (base / "questions" / row["image"]).write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    message = rf"questions/{row['image']}: image of question `own-{row['id']}` cannot be read: "
    refused(base, message, validation={"every": 1})
    assert ("reading images: 24 of 24\n" in capsys.readouterr().err) == (side == "val")


def test_questions_with_and_without_images_are_refused_together(base, rewarded_by_letters):
    blind = rewrite(base, 4, image=None)["id"]
    seeing = rewrite(base, 0)["id"]
    refused(base, f"questions: `own-{blind}` has no image and `own-{seeing}` has; leave the ones or the others out")
    for number in range(24):
        rewrite(base, number, image=None)
    grpo(recipe(max_steps=1), base=base)


@pytest.mark.parametrize(
    ("group", "questions", "micro_batch", "taken"),
    [(8, 8, 8, 8), (8, 8, 5, 4), (8, 8, 7, 4), (8, 8, 100, 64), (6, 1, 4, 3), (7, 1, 6, 1), (6, 2, 5, 4)],
)
def test_answers_at_once_are_the_largest_part_of_a_step_up_to_micro_batch(
    tmp_path, group, questions, micro_batch, taken
):
    given = recipe(group=group, questions_per_step=questions, micro_batch=micro_batch)
    arguments = grpo_run._arguments(given, tmp_path)
    assert arguments.per_device_train_batch_size == taken
    assert arguments.generation_batch_size == taken * arguments.gradient_accumulation_steps == group * questions


def test_pieces_that_are_no_whole_groups_learn_what_one_piece_does(base, rewarded_by_letters):
    one, pieces = (
        weights(grpo(recipe(out=f"by-{size}", group=6, micro_batch=size, max_steps=1), base=base)) for size in (12, 5)
    )
    before = weights(base / "model")
    moved = sum((weight - before[name]).abs().sum().item() for name, weight in one.items())
    apart = sum((weight - pieces[name]).abs().sum().item() for name, weight in one.items())
    assert moved > 0 and apart < 0.05 * moved


def test_faults_are_those_of_the_whole_run_also_after_a_break(base, monkeypatch, stopped_at_2):
    def at_a_loss(question, response):
        raise ValueError

    monkeypatch.setattr("gmai_vl.reasoning.rewards.combine.accuracy_reward", at_a_loss)
    with pytest.raises(InterruptedError):
        grpo(recipe(state={"every": 1}), base=base)
    stopped_at_2()
    final = grpo(recipe(state={"every": 1}), base=base, resume=True)
    assert json.loads((final / "provenance.json").read_text())["faults"] == {"accuracy: ValueError": 4 * 8}
    assert [row["faults"] for row in log(base / "out")] == [8] * 4


def test_faults_are_summed_by_kind(tmp_path):
    rows = [
        {"event": "step", "step": 1, "faults": 3, "fault_accuracy: ValueError": 2.0, "fault_facts: KeyError": 1.0},
        {"event": "validation", "step": 1, "accuracy": 0.5},
        {"event": "step", "step": 2, "faults": 1, "fault_facts: KeyError": 1.0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"fault_facts: KeyE')
    assert faults_of(tmp_path) == {"accuracy: ValueError": 2, "facts: KeyError": 2}
