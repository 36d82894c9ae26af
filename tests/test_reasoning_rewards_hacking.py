"""Signs that a response games its reward, and hostile texts: what must never be rewarded."""

import time

import pytest
from evaluation_samples import question
from reasoning_responses import EVERYTHING, SCAN, about, thinking, xray

from gmai_vl.reasoning.rewards import Weights, count_hacks, reward
from gmai_vl.reasoning.rewards.hacking import HACKS
from gmai_vl.writing import measured

SIGNS = {
    thinking("The fat is bright."): set(),
    thinking("The fat is bright.", "B. MRI"): set(),
    thinking("The fat is bright.", "A. CT B. MRI"): {"answer_stuffing", "several_answers"},
    thinking("The fat is bright.", "CT, MRI"): {"answer_stuffing"},
    thinking("The fat is bright.", "B B B"): {"answer_stuffing"},
    thinking("The fat is bright.", "BBBB"): {"answer_stuffing"},
    thinking("The fat is bright.", "A or B"): {"answer_stuffing", "several_answers"},
    thinking("The fat is bright.") + "<answer>B</answer>": {"several_answers"},
    thinking("The fat is bright.") + "<answer>B</answer>" * 2: {"several_answers", "answer_stuffing"},
    thinking("A. CT B. MRI"): {"copied_options"},
    thinking("Is this scan CT or MRI?"): {"copied_options"},
    thinking("CT or MRI?"): {"copied_options"},
    thinking("Is this scan CT or MRI? " * 9 + "Bright."): {"copied_options"},
    thinking("This scan is MRI, for the fat is bright and bone is dark."): set(),
    thinking(" \u200b"): {"empty_thinking"},
    "<answer>B</answer>": {"empty_thinking"},
    "": {"empty_thinking"},
    thinking("脂肪是亮的"): {"language_switching"},
    thinking("The fat is 亮的, as in 核磁"): {"language_switching"},
    "<think>The fat<answer>B</answer></think>": {"nested_tags"},
    "<think><think>The fat</think></think><answer>B</answer>": {"nested_tags"},
    "<answer>B</answer><think>The fat is bright.</think>": {"answer_before_thinking"},
    "<answer>B</answer> for the fat is bright": {"answer_before_thinking"},
    "B <think>The fat is bright.</think>": {"answer_before_thinking"},
    "So: <think>The fat is bright.</think><answer>B</answer>": set(),
    "The fat is bright.</think><answer>B</answer>": set(),
}


@pytest.mark.parametrize(("response", "signs"), SIGNS.items())
def test_signs_of_hacking(response, signs):
    assert {name for name, shows in HACKS.items() if shows(SCAN, response)} == signs


@pytest.mark.parametrize(
    ("thought", "switched"),
    [
        ("脂肪信号高，符合 MRI 表现。", False),
        ("The fat is bright.", True),
        ("脂肪信号高 because bright fat", True),
        ("看 magnetic", True),
    ],
)
def test_language_of_a_thought_in_chinese(thought, switched):
    asked = about("这是 CT 还是 MRI？", "B", kind="mcq", language="zh", options={"A": "CT", "B": "MRI"})
    assert HACKS["language_switching"](asked, thinking(thought)) == switched


def test_a_text_that_names_a_letter_is_not_several_answers():
    asked = question(1, options={"A": "hepatitis B", "B": "hepatitis A"}, answer="A")
    for answer in ("hepatitis B", "A. hepatitis B", "A"):
        assert not any(HACKS[name](asked, thinking("t", answer)) for name in ("several_answers", "answer_stuffing"))


def test_hacks_are_counted_over_a_batch():
    responses = list(SIGNS)
    counted = count_hacks([SCAN] * len(responses), responses)
    assert counted == {name: sum(name in signs for signs in SIGNS.values()) for name in HACKS}
    assert count_hacks([], []) == dict.fromkeys(HACKS, 0)
    with pytest.raises(ValueError, match="shorter"):
        count_hacks([SCAN], [])


def test_what_the_signs_show_is_not_rewarded_in_full():
    full = reward(SCAN, thinking("The fat is bright."), Weights()).total
    told = {"copied_options", "language_switching"}  # the form and the answer of these are as they should be
    for response, signs in SIGNS.items():
        if signs - told:
            assert reward(SCAN, response, Weights()).total < full, response


PIECES = ["<", "<think>", "</think>", "<answer>", "<think><answer>", "<answer>B</answer>", "</", "B, ", "not A "]
PIECES += ["肺", "没有", " ", "\ud800", "\x00", "\u0315\u0300", "\ufdfa", "~~", "[[", ". ", "，", "!", "x", "\n"]


@pytest.mark.parametrize("piece", PIECES)
def test_long_hostile_texts_are_read_quickly(piece):
    case, long = measured(xray()), piece * (100_000 // len(piece))
    start = time.perf_counter()
    for response in (long, thinking(long), thinking("t", long), "<think>" + long):
        assert reward(SCAN, response, EVERYTHING, case).faults == ()
        count_hacks([SCAN], [response])
    assert time.perf_counter() - start < 20  # half a second in all; a rule of squares would take hours


@pytest.mark.parametrize("piece", ["<", "<think>"])
def test_time_grows_with_the_length(piece):
    start = time.perf_counter()
    assert reward(SCAN, piece * 100_000, EVERYTHING, xray()).total == 0
    assert count_hacks([SCAN], [piece * 100_000])["nested_tags"] == (piece == "<think>")
    assert time.perf_counter() - start < 20
