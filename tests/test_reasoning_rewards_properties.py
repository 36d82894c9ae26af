"""What holds of rewards whatever a model writes: bounds, no crash, and what may not raise them."""

import re
from dataclasses import replace

import pytest
from evaluation_samples import grounding, question
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from writing_cases import chest

from gmai_vl.evaluation import judge
from gmai_vl.reasoning.rewards import (
    Weights,
    accuracy_reward,
    count_hacks,
    facts_reward,
    format_reward,
    length_reward,
    parts_of,
    reward,
)
from gmai_vl.reasoning.rewards.hacking import HACKS
from gmai_vl.records import ImageRef, Turn
from gmai_vl.writing import measured

CHEST = measured(chest())
"""A lung nodule; a consolidation and an effusion were looked for."""

OPTIONS = {"A": "lung nodule", "B": "consolidation", "C": "pleural effusion"}
ASKED = "What does the image show?\nA. lung nodule\nB. consolidation\nC. pleural effusion"
CHOICE = question(1, turns=(Turn("user", (ImageRef(0), ASKED)),), options=OPTIONS)
QUESTIONS = (
    CHOICE,
    question(2, kind="closed", options=None, answer="是", language="zh", stem="有结节吗？"),
    question(3, kind="closed", options=None, answer="yes", stem="Is there a nodule?"),
    question(4, kind="open", options=None, answer="lung nodule", alternatives=("nodule",)),
    grounding(5, (10, 10, 30, 30)),
)
EVERYTHING = Weights(format=0.5, accuracy=1, grounding=1, facts=1, length=1)

TAGS = ["<think>", "</think>", "<answer>", "</answer>", "<Answer>", "<thinking>", "＜answer＞", "＜/think＞", "<"]
WORDS = ["A", "B", "lung nodule", "there is no effusion.", "yes", "是", "有结节。", "not", " ", "\n", "?", ". "]
ODD = ["\ud800", "\x00", "\u202e", "\u0315", "\ufdfa", "**", "~~", "\\boxed{A}", '{"answer": "A"}']
ODD += ["<box>[[0.1, 0.2, 0.3, 0.6]]</box>"]
ANY = st.text(st.characters(), max_size=8)  # of all unicode
ANY_WITH_HALVES = st.text(st.characters(categories=["Cs", "Lu", "Zs", "Mn"]), max_size=8)
RESPONSES = st.lists(st.sampled_from(TAGS + WORDS + ODD) | ANY | ANY_WITH_HALVES, max_size=14).map("".join)
"""Any order of tags, words and anything else."""

INSIDE = st.lists(st.sampled_from(WORDS + ODD) | ANY, max_size=6).map(
    lambda texts: re.sub("[<＜﹤]", "", "".join(texts))
)
"""What stands in a part: anything but a tag."""


@st.composite
def responses_with_an_answer(draw):
    """Draw a response of any form that holds at least one whole answer."""
    before, thought, answer, after = (
        draw(RESPONSES),
        draw(INSIDE),
        draw(INSIDE | st.sampled_from(WORDS)),
        draw(RESPONSES),
    )
    around = draw(st.sampled_from([("", ""), (before, ""), ("", after)]))
    return f"{around[0]}<think>{thought}</think><answer>{answer}</answer>{around[1]}"


@given(st.sampled_from(QUESTIONS), RESPONSES | responses_with_an_answer())
def test_every_part_is_between_0_and_1_and_none_fails(asked, response):
    earned = reward(asked, response, EVERYTHING, CHEST)
    assert earned.faults == ()
    assert set(earned.parts) == set(Weights.model_fields)
    assert all(0 <= part <= 1 for part in earned.parts.values())
    assert 0 <= earned.total <= 4.5
    assert reward(asked, response, EVERYTHING, CHEST) == earned


@given(st.lists(st.tuples(st.sampled_from(QUESTIONS), RESPONSES | responses_with_an_answer()), max_size=4))
def test_counts_of_a_batch_are_those_of_its_responses(batch):
    questions, responses = [asked for asked, _ in batch], [response for _, response in batch]
    alone = [count_hacks([asked], [response]) for asked, response in batch]
    assert count_hacks(questions, responses) == {name: sum(one[name] for one in alone) for name in HACKS}


@given(RESPONSES | responses_with_an_answer())
def test_the_form_is_that_of_a_plain_pattern(response):
    # Of short texts a pattern that goes back and forth is quick enough.
    matched = re.fullmatch(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", response, re.S)
    parts = matched.groups() if matched else ()
    tagged = any(re.search(r"</?(?:think|thinking|answer)>", part, re.I | re.A) for part in parts)
    full = [any(character.isprintable() and not character.isspace() for character in part) for part in parts]
    assert format_reward(CHOICE, response) == (full == [True, True] and not tagged)
    if full == [True, True] and not tagged:
        assert parts_of(response) == tuple(part.strip() for part in parts)


@given(st.sampled_from(QUESTIONS), INSIDE, INSIDE, INSIDE | st.sampled_from(["A", "yes", "是", "lung nodule"]))
def test_accuracy_does_not_depend_on_the_thought(asked, thought, other, answer):
    one, two = (accuracy_reward(asked, f"<think>{text}</think><answer>{answer}</answer>") for text in (thought, other))
    assert one == two == accuracy_reward(asked, f"<answer>{answer}</answer>")


@given(
    st.sampled_from(QUESTIONS),
    responses_with_an_answer(),
    st.sampled_from(["A", "B", "yes", "是", "nodule", "<box>[[0.1, 0.2, 0.3, 0.6]]</box>"]),
    st.sampled_from(["<answer>{}</answer>", "<Answer>{}</answer>", "<ANSWER>{}</ANSWER>"]),
    st.data(),
)
def test_a_second_answer_never_raises_the_reward(asked, response, answer, dress, data):
    place = data.draw(st.sampled_from([0, len(response)]) | st.integers(0, len(response)))
    twice = response[:place] + dress.format(answer) + response[place:]
    assert reward(asked, twice, EVERYTHING, CHEST).total <= reward(asked, response, EVERYTHING, CHEST).total


@given(
    st.sampled_from("ABC"), st.sampled_from(["{}", "({})", "{}.", "**{}**", " {} \n", "{}。"]), INSIDE, st.booleans()
)
def test_a_bare_letter_is_right_where_it_is_the_reference(letter, dress, thought, lower):
    said = dress.format(letter.lower() if lower else letter)
    assert accuracy_reward(CHOICE, f"<think>{thought}</think><answer>{said}</answer>") == (letter == "A")


@given(
    st.lists(st.sampled_from([*OPTIONS, *OPTIONS.values()]), min_size=2, max_size=5),
    st.sampled_from([" ", ", ", " or ", "\n"]),
)
def test_several_options_are_never_right(named, joint):
    letter_with_text = len(named) == 2 and OPTIONS.get(named[0]) == named[1]
    assume(not letter_with_text or joint == " or ")
    for letter in OPTIONS:
        assert accuracy_reward(replace(CHOICE, answer=letter), f"<answer>{joint.join(named)}</answer>") == 0


@given(
    st.text(st.sampled_from("abAB .,肺\n"), max_size=20), st.sampled_from(["A", "B", "lung nodule", "C. x", "A or B"])
)
def test_what_is_rewarded_in_full_the_evaluation_counts_as_right(thought, answer):
    response = f"<think>{thought}</think><answer>{answer}</answer>"
    assume(accuracy_reward(CHOICE, response) == 1)
    (judged,) = judge([CHOICE], {CHOICE.id: response})
    assert judged.correct


STATEMENTS = {
    "There is a lung nodule.": True,
    "There is no pleural effusion.": True,
    "This is an X-ray.": True,
    "There is a pleural effusion.": False,
    "There is no lung nodule.": False,
    "This is a CT scan.": False,
    "Let me think.": None,
    "Is there a consolidation?": None,
    "There may be a consolidation.": None,
}


@settings(max_examples=60)
@given(st.lists(st.sampled_from(list(STATEMENTS)), max_size=8), st.sampled_from([" ", "\n", "\n- ", "\n\n"]))
def test_facts_are_the_true_share_of_what_is_stated(said, joint):
    judged = {text: STATEMENTS[text] for text in said if STATEMENTS[text] is not None}
    expected = sum(judged.values()) / len(judged) if judged else 0.0
    earned = facts_reward(CHOICE, f"<think>{joint.join(said)}</think><answer>A</answer>", CHEST)
    assert earned == pytest.approx(expected)


@settings(max_examples=60)
@given(INSIDE)
def test_no_thought_earns_more_for_its_facts_than_a_true_one(thought):
    told = facts_reward(CHOICE, f"<think>{thought}</think><answer>A</answer>", CHEST)
    assert told <= facts_reward(CHOICE, "<think>There is a lung nodule.</think><answer>A</answer>", CHEST) == 1


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 20), st.sampled_from(["word ", "肺"]))
def test_length_falls_in_a_straight_line(count, usual, more, unit):
    longest = usual + more
    earned = length_reward(CHOICE, f"<think>{unit * count}</think><answer>A</answer>", usual, longest)
    expected = 0 if count == 0 or count >= longest else 1 if count <= usual else (longest - count) / more
    assert earned == pytest.approx(expected)


WEIGHT = st.floats(0, 10)


@given(WEIGHT, WEIGHT, WEIGHT, WEIGHT)
def test_parts_without_weight_change_nothing(form, accuracy, length, factor):
    assume(form + accuracy + length > 0)
    response = "<think>There is a lung nodule.</think><answer>B</answer>"
    weights = Weights(format=form, accuracy=accuracy, length=length)
    earned = reward(CHOICE, response, weights)
    assert earned.total == pytest.approx(form + length)
    assert earned.faults == ()
    assert set(earned.parts) == {name for name, weight in weights.model_dump().items() if weight}
