"""GRPO on our checkpoints: what learns, what is left out, runs that are killed, and what is told of them."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reasoning_runs import STEPS, log, recipe, rewards_by_letters, weights, write_base

from gmai_vl.evaluation import checkpoint_sha256
from gmai_vl.evaluation.benchmarks.own import read_own
from gmai_vl.evaluation.contamination import contamination
from gmai_vl.foundation import UserError
from gmai_vl.model import (
    Request,
    encode_prompt,
    load_model,
    prepare_image,
    respond,
)
from gmai_vl.reasoning.grpo import grpo, read_grpo_recipe
from gmai_vl.reasoning.grpo.data import dataset_of, of_difficulty, with_shuffled_labels
from gmai_vl.reasoning.grpo.telemetry import last_state
from gmai_vl.reasoning.grpo.trainer import RewardedAnswers, settled
from gmai_vl.reasoning.items import Difficulty, read_items
from gmai_vl.reasoning.rewards import Weights, reward


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with questions and a tiny checkpoint."""
    return write_base(tmp_path_factory.mktemp("grpo"))


@pytest.fixture
def rewarded_by_letters(monkeypatch):
    monkeypatch.setattr("gmai_vl.reasoning.grpo.run._judged", lambda recipe, cases, *asked: rewards_by_letters(*asked))


def test_what_is_asked_are_the_very_tokens_and_pixels_of_ours(base):
    items = read_items(base / "questions", "train")
    processor = load_model(base / "model").processor
    row = dataset_of(items.questions, items.image, processor)[3]
    question = items.questions[row["place"]]
    seen = processor.apply_chat_template([row["prompt"]], add_generation_prompt=True, tokenize=True, return_dict=True)
    assert list(seen["input_ids"][0]) == encode_prompt(processor, question.turns).input_ids
    pixels = prepare_image(processor, items.image(question.images[0]))
    assert torch.equal(torch.as_tensor(seen["pixel_values"])[0], pixels)


def test_parts_that_learn_change_and_the_others_stay_to_the_bit(base, rewarded_by_letters):
    final = grpo(recipe(out="parts", validation={"every": 2, "questions": 4}), base=base)
    before, after = weights(base / "model"), weights(final)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"multi_modal_projector", "language_model"}
    rows = log(base / "parts")
    assert [(row["event"], row["step"]) for row in rows] == [
        ("validation", 0),
        ("step", 1),
        ("step", 2),
        ("validation", 2),
        ("step", 3),
        ("step", 4),
        ("validation", 4),
    ]
    assert all({"reward", "entropy", "tokens", "settled_groups", "memory_mib"} <= row.keys() for row in rows[1:3])
    assert not (base / "parts/state").exists()
    load_model(final)


def test_answers_are_those_of_the_model(base, monkeypatch):
    heard = []

    def judged(recipe, cases, question, response):
        heard.append((question.id, response))
        return rewards_by_letters(question, response)

    monkeypatch.setattr("gmai_vl.reasoning.grpo.run._judged", judged)
    asked = recipe(out="cold", temperature=1e-6, max_steps=1, precision="fp32")
    grpo(asked, base=base)
    items, vlm = read_items(base / "questions", "train"), load_model(base / "model")
    by_id = {question.id: question for question in items.questions}
    requests = [Request(by_id[id].turns, tuple(map(items.image, by_id[id].images))) for id, _ in heard]
    said = respond(vlm, requests, max_new_tokens=asked.max_new_tokens, batch_size=1)
    assert len(heard) == asked.answers_per_step and len({id for id, _ in heard}) == asked.questions_per_step
    assert [response.strip() for _, response in heard] == [answer.text for answer in said]


def test_adapters_learn_and_are_merged(base, rewarded_by_letters):
    final = grpo(recipe(out="lora", train=["language"], lora={"parts": ["language"], "rank": 4}), base=base)
    before, after = weights(base / "model"), weights(final)
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed and all("language_model.model.layers" in name and "proj" in name for name in changed)


def test_the_divergence_from_the_base_is_told_and_holds_the_model_back(base, rewarded_by_letters):
    free, held = (grpo(recipe(out=f"kl{kl}", kl=kl, max_steps=6), base=base) for kl in (0.0, 50.0))
    assert all(row["kl"] >= 0 for row in log(base / "kl50.0")) and "kl" not in log(base / "kl0.0")[0]
    start = weights(base / "model")

    def moved(folder):
        return sum((weight - start[name]).pow(2).sum().item() for name, weight in weights(folder).items())

    assert moved(held) < moved(free)


RUN = f"""
import os, signal, sys
from pathlib import Path
import pytest
import reasoning_runs as tests
from gmai_vl.reasoning.grpo import grpo
import gmai_vl.reasoning.grpo.run as run

class Deadly(run.Log):
    def on_log(self, args, state, control, logs=None, **more):
        super().on_log(args, state, control, logs, **more)
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

run.Log = Deadly
run._judged = lambda recipe, cases, *asked: tests.rewards_by_letters(*asked)
grpo(tests.recipe(out="killed", state={{"every": 2}}, max_steps={STEPS}), base=Path(sys.argv[1]))
"""


def test_a_killed_run_goes_on_from_its_last_state(base, rewarded_by_letters):
    environment = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    run = subprocess.run([sys.executable, "-c", RUN, str(base)], env=environment, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert [row["step"] for row in log(base / "killed")] == [1, 2, 3]
    torn = base / "killed/state/checkpoint-3"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_st')
    with pytest.raises(UserError, match="holds an earlier training; go on with --resume"):
        grpo(recipe(out="killed", state={"every": 2}), base=base)
    final = grpo(recipe(out="killed", state={"every": 2}), base=base, resume=True)
    assert [row["step"] for row in log(base / "killed")] == [1, 2, 3, 4]
    whole = grpo(recipe(out="whole", state={"every": 2}), base=base)
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(final)[name]), name
    assert grpo(recipe(out="killed", state={"every": 2}), base=base, resume=True) == final  # nothing is left to do


def test_a_run_of_something_else_is_not_gone_on_with(base, rewarded_by_letters):
    grpo(recipe(out="mine", max_steps=1), base=base)
    with pytest.raises(UserError, match="was begun with another recipe"):
        grpo(recipe(out="mine", max_steps=1, seed=1), base=base, resume=True)
    (base / "theirs").mkdir()
    (base / "theirs/notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"theirs: holds notes\.txt, which no training wrote"):
        grpo(recipe(out="theirs"), base=base)


def test_half_written_states_are_removed(tmp_path):
    for step, content in ((2, "{}"), (10, "{}"), (12, "{"), (14, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if content:
            (tmp_path / f"checkpoint-{step}/trainer_state.json").write_text(content)
    assert last_state(tmp_path) == tmp_path / "checkpoint-10"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2", "checkpoint-10"}
    assert last_state(tmp_path / "none") is None


def test_groups_all_right_or_all_wrong_are_settled():
    given = [1, 1, 1, 0, 0, 0, 0, 1, 0]
    assert settled([(accuracy,) for accuracy in given], 3).tolist() == [True] * 6 + [False] * 3
    both = [(1.0, 0.5), (1.0, 0.5), (1.0, 0.5), (1.0, 0.25), (0.0, 1.0), (1.0, 1.0)]
    assert settled(both, 2).tolist() == [True, True, False, False, False, False]


def test_settled_groups_teach_nothing(base):
    """A tiny model has nothing right, so that every group is settled, however its form and length differ."""
    weighed = {"accuracy": 1.0, "format": 0.0, "length": 1.0}
    final = grpo(recipe(out="settled", drop_settled=True, rewards=weighed), base=base)
    assert {row["settled_groups"] for row in log(base / "settled")} == {1.0}
    before, after = weights(base / "model"), weights(final)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_reward_that_raises_is_counted_and_the_run_goes_on(base, monkeypatch):
    def at_a_loss(question, response):
        raise ValueError

    monkeypatch.setattr("gmai_vl.reasoning.rewards.combine.accuracy_reward", at_a_loss)
    final = grpo(recipe(out="faults", max_steps=1), base=base)
    (row,) = log(base / "faults")
    assert row["faults"] == 8 and row["reward_accuracy"] == 0
    assert json.loads((final / "provenance.json").read_text())["faults"] == {"accuracy: ValueError": 8}


def test_parts_and_signs_of_rewards_are_logged():
    questions = [question_of("A"), question_of("B")]
    told = {}
    rewarded = RewardedAnswers(questions, lambda question, text: reward(question, text, Weights()))
    said = ["<think>t</think><answer>A</answer>", "<answer>A B</answer>"]
    completions = [[{"role": "assistant", "content": text}] for text in said]
    assert rewarded(completions=completions, place=[0, 1], log_metric=told.__setitem__) == [1.5, 0.0]
    assert (told["reward_format"], told["reward_accuracy"], told["faults"]) == (0.5, 0.5, 0)
    assert told["hack_empty_thinking"] == 0.5


def question_of(answer):
    from evaluation_samples import question

    return question(0, options={"A": "CT", "B": "MRI"}, answer=answer)


def test_shuffled_labels_mean_nothing_and_stay_the_same_for_a_seed(base):
    questions = [replace(question_of("A"), id=f"q{number}") for number in range(400)]
    shuffled = with_shuffled_labels(questions, 3)
    assert 150 < sum(question.answer == "A" for question in shuffled) < 250
    assert shuffled == with_shuffled_labels(questions, 3) != with_shuffled_labels(questions, 4)


def test_only_questions_of_some_difficulty(base):
    items = read_items(base / "questions", "train")
    sha256 = checkpoint_sha256(base / "model")
    about = {
        question.id: items.about[question.id].model_copy(
            update={"difficulty": Difficulty(model_sha256=sha256, samples=10, right=number % 11)}
        )
        for number, question in enumerate(items.questions)
    }
    kept = of_difficulty(items.questions, about, (0.1, 0.9), sha256)
    assert len(kept) == sum(number % 11 in range(1, 10) for number in range(24))
    assert of_difficulty(items.questions, items.about, None, sha256) == list(items.questions)
    for estimates, of_model in ((items.about, sha256), (about, "another")):
        with pytest.raises(UserError, match="has no estimate by the model that the training begins with"):
            of_difficulty(items.questions, estimates, (0.1, 0.9), of_model)
    with pytest.raises(UserError, match="none of 24 questions lies within"):
        of_difficulty(items.questions, about, (0.95, 0.99), sha256)


def test_questions_that_were_learnt_by_rewards_leak(base, rewarded_by_letters):
    (base / "questions/manifest.json").write_text(json.dumps({"fingerprint": "f" * 64}))
    try:
        final = grpo(recipe(out="leaks", max_steps=1), base=base)
    finally:
        (base / "questions/manifest.json").unlink()
    train, test = (read_own(base / f"questions/{side}.jsonl") for side in ("train", "test"))
    assert contamination(final, train, []).status == "unknown"
    (base / "questions/manifest.json").write_text(json.dumps({"fingerprint": "f" * 64}))
    try:
        assert contamination(final, train, []).leaked == {question.id for question in train.questions}
        assert contamination(final, test, []).status == "clean"
    finally:
        (base / "questions/manifest.json").unlink()


def test_a_recipe_in_yaml_and_what_is_wrong_with_it(base):
    file = base / "r.yaml"
    file.write_text("name: r\nout: o\nmodel: {init: m}\nquestions: q\nmax_steps: 3\n")
    read = read_grpo_recipe(file, ["group=4", "rewards.format=0.1"])
    assert (read.group, read.rewards.format, read.kl, read.temperature) == (4, 0.1, 0.0, 1.0)
    for override, message in (
        ("prompt=thinking", "no prompt of that name to answer by"),
        ("difficulty=[0.9, 0.1]", "the smaller first"),
        ("lora={parts: [vision]}", "names a part that does not learn"),
        ("grup=3", "unknown key"),
        ("clip=0.2", "clip: unknown key"),  # each answer is learnt from once: nothing to clip
    ):
        with pytest.raises(UserError, match=f"r.yaml.*{message}"):
            read_grpo_recipe(file, [override])
    with pytest.raises(UserError, match=r"questions_per_step: 50 of 24 questions; lower it"):
        grpo(recipe(out="many", questions_per_step=50), base=base)


@pytest.mark.long
def test_memory_stays_flat_over_200_steps(base, rewarded_by_letters):
    grpo(recipe(out="memory", max_steps=200), base=base)
    memory = [row["memory_mib"] for row in log(base / "memory")]
    assert memory[199] - memory[49] < 40
