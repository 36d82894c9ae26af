"""Rewards of boxes, of what a thought says of its image, and of its length, row by row."""

import numpy as np
import pytest
from evaluation_samples import grounding, question
from reasoning_responses import EXACT, SCAN, thinking, xray

from gmai_vl.reasoning.rewards import accuracy_reward, facts_reward, grounding_reward, length_reward
from gmai_vl.records import Case
from gmai_vl.vocabulary import term
from gmai_vl.writing import measured

ONE, TWO = ((10, 10, 30, 30),), ((10, 10, 30, 30), (50, 25, 100, 50))
HALF, OTHER = "[0.10, 0.20, 0.30, 0.40]", "[0.60, 0.60, 0.90, 0.90]"


@pytest.mark.parametrize(
    ("boxes", "answer", "expected"),
    [
        (ONE, f"<box>[{EXACT}]</box>", 1),
        (ONE, f"<ref>mass</ref><box>[{HALF}]</box>", 0.5),
        (ONE, f"<box>[{EXACT}, {OTHER}]</box>", 0.5),
        (ONE, f"<box>[{EXACT}, {EXACT}]</box>", 1),
        (TWO, f"<box>[{EXACT}]</box>", 0.5),
        (TWO, f"<box>[[0.5, 0.5, 1, 1], {EXACT}]</box>", 1),
        (ONE, "in the upper left", 0),
        (ONE, "<box>[[0.30, 0.20, 0.10, 0.60]]</box>", 0),
        (ONE, f"<box>[{EXACT}]</box>" + " " * 2000 + "!", 0),
        (ONE, "", 0),
    ],
)
def test_grounding(boxes, answer, expected):
    assert grounding_reward(grounding(1, *boxes), thinking("t", answer)) == pytest.approx(expected)


def test_grounding_counts_no_box_of_the_thought_and_no_other_kind():
    drawn = f"<box>[{EXACT}]</box>"
    assert grounding_reward(grounding(1, *ONE), thinking(drawn, "there")) == 0
    assert grounding_reward(grounding(1, *ONE), drawn) == 0
    assert grounding_reward(SCAN, thinking("t", drawn)) == 0
    assert accuracy_reward(grounding(1, *ONE), thinking("t", drawn)) == 1  # IoU of 0.5 and more
    with pytest.raises(ValueError, match="no box"):
        grounding_reward(grounding(1), thinking("t", drawn))


FACTS = {
    "There is a pneumothorax.": 1,
    "This chest X-ray shows a pneumothorax. There is no pleural effusion.": 1,
    "1. There is a pneumothorax.\n2. There is no lung nodule.": 1,
    "There is a pneumothorax. It lies in the upper left of the image.": 1,
    "There is a pneumothorax. There is a pleural effusion.": 0.5,
    "There is a pneumothorax. There is a pneumothorax. There is a pleural effusion.": 0.5,
    "There is a pneumothorax. There is no pleural effusion. There is a lung nodule. There is a fracture.": 0.5,
    "There is a pneumothorax in the lower right of the image.": 0,
    "There is no pneumothorax.": 0,
    "There is a pleural effusion.": 0,
    "This is a CT scan.": 0,
    "Everything is normal.": 0,
    "Let me think step by step.": 0,
    "Is there a pneumothorax?": 0,
    "There may be a pneumothorax.": 0,
    "There may be a pleural effusion.": 0,
    "There may be a pleural effusion. There is a pneumothorax.": 1,
    "The patient has a history of pneumothorax.": 0,
    "There is no fracture.": 0,  # nobody looked for one
    "": 0,
    "There is a pneumothorax. " * 300: 0,
}


@pytest.mark.parametrize(("thought", "expected"), FACTS.items())
def test_facts(thought, expected):
    assert facts_reward(SCAN, thinking(thought), xray()) == expected
    assert facts_reward(SCAN, thinking(thought), measured(xray())) == expected


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        ("可见气胸。未见胸腔积液。", 1),
        ("可见气胸。可见胸腔积液。", 0.5),
        ("未见气胸。", 0),
        ("有气胸吗？", 0),
        ("可能为气胸。", 0),
    ],
)
def test_facts_in_chinese(thought, expected):
    asked = question(1, language="zh")
    assert facts_reward(asked, thinking(thought), xray()) == expected


def test_facts_of_an_image_without_findings():
    healthy = Case(
        source="s",
        item="b.png",
        pixels=np.zeros((9, 9), np.uint8),
        modality="X-Ray",
        task="cls",
        negative=term("no finding"),
        label_set=(term("pneumothorax"),),
    )
    said = ("Everything is normal.", "There is no pneumothorax.", "There is a pneumothorax.", "There is a lesion.")
    assert [facts_reward(SCAN, thinking(thought), healthy) for thought in said] == [1, 1, 0, 0]


def test_facts_of_a_thought_without_an_answer_are_not_paid():
    assert facts_reward(SCAN, "<think>There is a pneumothorax.</think>", xray()) == 0


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        ("one", 1),
        ("one two three four", 1),
        ("右肺可见", 1),
        ("one two three four five six", 0.5),
        ("右肺可见气胸", 0.5),
        ("右肺 shows 气胸 here", 0.5),
        ("one two three four five six seven eight", 0),
        ("右肺可见气胸一处，另见积液", 0),
        ("a" * 8 * 30, 0),
        ("one" + "." * 80, 0),
        ("", 0),
        (" \n", 0),
        ("...", 0),
        ("." * 10, 0),
        ("_" * 10, 0),
        ("\x00" * 10, 0),
        ("— " * 10, 0),
    ],
)
def test_length(thought, expected):
    assert length_reward(SCAN, thinking(thought), usual=4, longest=8) == expected


def test_length_needs_an_answer_and_sane_limits():
    assert length_reward(SCAN, "<think>one two</think>") == 0
    for usual, longest in ((0, 8), (8, 8), (9, 8), (-2, -1)):
        with pytest.raises(ValueError, match="longest"):
            length_reward(SCAN, thinking("t"), usual, longest)
