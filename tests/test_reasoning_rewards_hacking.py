"""Signs that a response games its reward, and hostile texts: what must never be rewarded."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
from evaluation_samples import question
from reasoning_responses import EVERYTHING, SCAN, about, thinking, xray
from regex_ways import longest_match, patterns_compiled_by, reads_in_ever_more_ways

from gmai_vl.reasoning.rewards import Weights, count_hacks, reward
from gmai_vl.reasoning.rewards.accuracy import LONGEST_ANSWER
from gmai_vl.reasoning.rewards.hacking import HACKS
from gmai_vl.writing import measured
from gmai_vl.writing.claims.check import MOST_CHARACTERS

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
def test_long_hostile_texts_earn_what_short_ones_do(piece):
    case, in_form = measured(xray()), ">" not in piece and any(character.isprintable() for character in piece.strip())
    for length in (100_000, LONGEST_ANSWER, MOST_CHARACTERS):
        long = piece * (length // len(piece))
        thought, answered = thinking(long), thinking("t", long)
        earned = {text: reward(SCAN, text, EVERYTHING, case) for text in (long, "<think>" + long, thought, answered)}
        assert all(each.faults == () for each in earned.values())
        assert earned[long].total == earned["<think>" + long].total == 0
        assert (earned[thought].parts["format"], earned[answered].parts["format"]) == (in_form, in_form)
        assert earned[thought].parts["accuracy"] == ("<answer>" not in piece)
        assert earned[answered].parts["accuracy"] == earned[answered].parts["facts"] == 0


@pytest.mark.parametrize("piece", PIECES)
def test_twice_the_text_takes_twice_the_steps(piece):
    """Counts lines of Python; what `re` does within one is told by the tests of patterns."""

    def steps(times):
        lines = 0

        def count(frame, event, argument):
            nonlocal lines
            lines += event == "line"
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            for response in (piece * times, thinking(piece * times), thinking("t", piece * times)):
                assert reward(SCAN, response, EVERYTHING, xray()).faults == ()
                count_hacks([SCAN], [response])
        finally:
            sys.settrace(before)
        return lines

    steps(1)  # what is made once is made
    few = steps(MOST_CHARACTERS)
    assert few > 100 and steps(2 * MOST_CHARACTERS) < 2.1 * few


REWARDED = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from reasoning_responses import EVERYTHING, SCAN, thinking, xray
from gmai_vl.reasoning.rewards import count_hacks, reward
for response in (thinking("There is a pneumothorax of 3 mm on the left."), thinking("t", "[0.1, 0.2, 0.3, 0.4]"), "B"):
    reward(SCAN, response, EVERYTHING, xray())
    count_hacks([SCAN], [response])
"""


def test_no_pattern_reads_a_text_in_ever_more_ways():
    assert all(map(reads_in_ever_more_ways, (r"(\s*\w+\s*)+$", "(a+)+", "(a|a)*", "(a*)*", "(a{1,3})+", "b(?=(a+)+)")))
    assert not any(map(reads_in_ever_more_ways, ("a+a+", "(a|b)*", "(ab|a)*", "(,[^,]+)*", "a{1,9}", r"(\w+ )*\w+")))
    patterns = patterns_compiled_by(REWARDED)
    assert {"reasoning/rewards/format.py", "writing/claims/sizes.py"} <= {file for file, _, _ in patterns}
    assert [(file, pattern) for file, pattern, flags in patterns if reads_in_ever_more_ways(pattern, flags)] == []


@pytest.mark.parametrize("module", ["format", "length", "signs"])
def test_patterns_that_read_texts_of_any_length_match_few_characters(module):
    """A search through a text then takes, at each of its places, no more steps than a text of that length can give."""
    held = vars(import_module(f"gmai_vl.reasoning.rewards.{module}"))
    patterns = [each for each in held.values() if isinstance(each, re.Pattern)]
    assert patterns and longest_match(r"(\s*\w+\s*)+$") > 10**6
    assert all(longest_match(each.pattern, each.flags) <= 30 for each in patterns)
