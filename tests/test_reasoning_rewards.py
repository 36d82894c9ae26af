"""Rewards of single responses: the tables of their modules, row by row, and what must never be rewarded."""

import time

import numpy as np
import pytest
from evaluation_samples import grounding, question
from pydantic import ValidationError

from gmai_vl.evaluation import judge
from gmai_vl.foundation import UserError
from gmai_vl.reasoning import rewards
from gmai_vl.reasoning.rewards import (
    Weights,
    accuracy_reward,
    combine,
    count_hacks,
    facts_reward,
    format_reward,
    grounding_reward,
    length_reward,
    parts_of,
    reward,
)
from gmai_vl.reasoning.rewards.hacking import HACKS
from gmai_vl.records import Case, Finding, ImageRef, Turn
from gmai_vl.vocabulary import term
from gmai_vl.writing import measured

ASKED = "Is this scan CT or MRI?\nA. CT\nB. MRI"
SCAN = question(1, turns=(Turn("user", (ImageRef(0), ASKED)),), options={"A": "CT", "B": "MRI"}, answer="B")
EVERYTHING = Weights(format=1, accuracy=1, grounding=1, facts=1, length=1)


def thinking(thought, answer="B"):
    return f"<think>{thought}</think><answer>{answer}</answer>"


def about(words, answer, **changes):
    return question(2, **{"turns": (Turn("user", (ImageRef(0), words)),), "options": None, "answer": answer} | changes)


def xray():
    """Return a chest X-ray with a pneumothorax on its left, where an effusion and a nodule were looked for."""
    box = (10, 10, 30, 30)
    found = Finding(label=term("pneumothorax"), source_label="pneumothorax", box=box, area_share=0.04, side="left")
    return Case(
        source="s",
        item="a.png",
        pixels=np.zeros((100, 100), np.uint8),
        modality="X-Ray",
        task="det",
        findings=(found,),
        label_set=tuple(term(name) for name in ("pneumothorax", "pleural effusion", "lung nodule")),
        body_part=term("chest"),
    )


FORMS = {
    "<think>t</think><answer>B</answer>": (1, ("t", "B")),
    "\n <think>\nt\n</think>\n\n<answer> B </answer>\n": (1, ("t", "B")),
    "<think>t</think>So: <answer>B</answer>.": (0, ("t\nSo:", "B")),
    "Well. <think>t</think><answer>B</answer>": (0, ("Well. \nt", "B")),
    "t</think><answer>B</answer>": (0, ("t", "B")),
    "<THINK>t</THINK><Answer>B</ANSWER>": (0, ("t", "B")),
    "<thinking>t</thinking><answer>B</answer>": (0, ("t", "B")),
    "<think> </think><answer>B</answer>": (0, ("", "B")),
    "<think>\u200b\x00\ud800</think><answer>B</answer>": (0, ("\u200b\x00\ud800", "B")),
    "<answer>B</answer>": (0, ("", "B")),
    "<answer>B</answer><think>t</think>": (0, ("", "B")),
    "<think>t</think><answer> </answer>": (0, ("t", "")),
    "<think>t</think><think>u</think><answer>B</answer>": (0, ("t\n\nu", "B")),
    "<think>t</think><answer>A</answer><answer>B</answer>": (0, None),
    "<think>t<answer>A</answer></think><answer>B</answer>": (0, None),
    "<think>t<answer>B</answer></think>": (0, None),
    "<think>t<answer>B</answer>": (0, None),
    "<answer>B</answer>t</think>": (0, None),
    "<think>t</think><answer>B": (0, None),
    "<think>t</think>B</answer>": (0, None),
    "<think>t</think></answer>B<answer>": (0, None),
    "<think>t</think><answer><think>u</think>B</answer>": (0, None),
    "<answer><answer>B</answer></answer>": (0, None),
    "<think>t</think><an\u017fwer>B</answer>": (0, None),
    "B": (0, None),
    "": (0, None),
}


@pytest.mark.parametrize(("response", "expected"), FORMS.items())
def test_form_and_parts(response, expected):
    assert (format_reward(SCAN, response), parts_of(response)) == expected


MCQ = {
    **dict.fromkeys(("B", "b", "(B)", "**B.**", "Ｂ。", " B\n", "MRI", "mri.", "B. MRI", "(B) MRI", "Ｂ：MRI"), 1),
    **dict.fromkeys(
        (
            "A",
            "CT",
            "B. CT",
            "A. MRI",
            "A, B",
            "A or B",
            "AB",
            "A B",
            "A MRI",
            "a B",
            "the B",
            "B~~A~~",
            "B B B",
            "BB",
            "CT MRI",
            "C",
        ),
        0,
    ),
    **dict.fromkeys(("The answer is B.", "B, as the fat is bright", "\\boxed{B}", '{"answer": "B"}', "选B"), 0),
    **dict.fromkeys(("", " ", "*", "not B", "B?!A", "~~A~~", "＜think＞A＜/think＞B", "＜answer＞B＜/answer＞"), 0),
    **dict.fromkeys(("A. CT\nB. MRI", "B\nA", "B" * 3000, "B" + " " * 3000 + "A"), 0),
}


@pytest.mark.parametrize(("answer", "expected"), MCQ.items())
def test_accuracy_of_multiple_choice(answer, expected):
    assert accuracy_reward(SCAN, thinking("t", answer)) == expected


def test_accuracy_reads_nothing_but_the_answer_part():
    assert accuracy_reward(SCAN, thinking("The answer is B. Final answer: B", "A")) == 0
    assert accuracy_reward(SCAN, thinking("The answer is A. \\boxed{A}", "B")) == 1
    for response in ("B", "The answer is B", "<think>B</think>", "<think>t<answer>B</answer></think>", ""):
        assert accuracy_reward(SCAN, response) == 0
    assert accuracy_reward(SCAN, "<answer>B</answer>") == 1  # whether it thought is not asked here


def test_an_article_is_no_letter_and_a_letter_no_article():
    asked = question(1, options={"A": "a mass", "B": "a cyst"}, answer="B")
    said = ("a cyst", "A cyst.", "B. a cyst", "cyst", "A. a cyst", "A B")
    assert [accuracy_reward(asked, thinking("t", each)) for each in said] == [1, 1, 1, 0, 0, 0]
    asked = question(1, options={"A": "mass", "B": "cyst"}, answer="A")
    assert [accuracy_reward(asked, thinking("t", each)) for each in ("A", "A A", "A A A", "A mass")] == [1, 0, 0, 1]


def test_signs_of_an_option_count():
    asked = question(1, options={"A": "<5 %", "B": ">5 %", "C": "5"}, answer="B")
    assert [accuracy_reward(asked, thinking("t", said)) for said in (">5 %", "<5 %", "5 %", "5")] == [1, 0, 0, 0]


def test_an_option_of_signs_alone_is_not_met_by_other_signs():
    asked = question(1, options={"A": "+", "B": "±", "C": "?"}, answer="B")
    assert [accuracy_reward(asked, thinking("t", said)) for said in ("B", "?", "!", "+")] == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [
        (about("Is there a fracture?", "yes", kind="closed"), "Yes.", 1),
        (about("Is there a fracture?", "yes", kind="closed"), "There is a fracture.", 1),
        (about("Is there a fracture?", "yes", kind="closed"), "No", 0),
        (about("Is there a fracture?", "yes", kind="closed"), "yes and no", 0),
        (about("是否有骨折？", "否", kind="closed", language="zh"), "没有", 1),
        (about("What is shown?", "pleural effusion", kind="open"), "Pleural effusion.", 1),
        (about("What is shown?", "pleural effusion", kind="open", alternatives=("effusion",)), "an effusion", 1),
        (about("What is shown?", "pleural effusion", kind="open"), "effusion", 0),
        (about("What is shown?", "effusion", kind="open"), "a mass <Answer>effusion</Answer>", 0),
        (about("What is shown?", "effusion", kind="open"), "a mass ＜answer＞effusion＜/answer＞", 0),
        (about("What is shown?", "effusion", kind="open"), "effusion" + " " * 2000 + "!", 0),
    ],
)
def test_accuracy_of_other_kinds(asked, answer, expected):
    assert accuracy_reward(asked, thinking("It may be a mass, yes.", answer)) == expected


def test_a_withheld_answer_is_an_error_and_not_a_wrong_answer():
    with pytest.raises(UserError, match="withhold"):
        accuracy_reward(about("What?", None, kind="open"), thinking("t"))


ONE, TWO = ((10, 10, 30, 30),), ((10, 10, 30, 30), (50, 25, 100, 50))
EXACT, HALF, OTHER = "[0.10, 0.20, 0.30, 0.60]", "[0.10, 0.20, 0.30, 0.40]", "[0.60, 0.60, 0.90, 0.90]"


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
    ],
)
def test_length(thought, expected):
    assert length_reward(SCAN, thinking(thought), usual=4, longest=8) == expected


def test_length_needs_an_answer_and_sane_limits():
    assert length_reward(SCAN, "<think>one two</think>") == 0
    for usual, longest in ((0, 8), (8, 8), (9, 8), (-2, -1)):
        with pytest.raises(ValueError, match="longest"):
            length_reward(SCAN, thinking("t"), usual, longest)


@pytest.mark.parametrize(
    ("weights", "response", "total"),
    [
        (Weights(), thinking("t", "B"), 1.5),
        (Weights(), thinking("t", "A"), 0.5),
        (Weights(), "t <answer>B</answer>", 1),
        (Weights(), "B", 0),
        (Weights(accuracy=2, format=0), thinking("t", "B"), 2),
        (Weights(accuracy=0, format=0, facts=0.25), thinking("There is a pneumothorax."), 0.25),
        (EVERYTHING, thinking("There is a pneumothorax. There is a lung nodule."), 3.5),
    ],
)
def test_the_reward_is_the_weighted_sum(weights, response, total):
    earned = reward(SCAN, response, weights, xray())
    assert (earned.total, earned.faults) == (pytest.approx(total), ())
    assert set(earned.parts) == {name for name, weight in weights.model_dump().items() if weight}


def test_the_limits_of_the_length_reach_it():
    alone = Weights(format=0, accuracy=0, length=1)
    assert reward(SCAN, thinking("one two three"), alone, usual=2, longest=4).total == 0.5


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError, ZeroDivisionError])
def test_a_part_that_fails_counts_as_nothing_and_shows(monkeypatch, error):
    def fails(question, response):
        raise error("hostile text")

    monkeypatch.setattr(combine, "accuracy_reward", fails)
    earned = reward(SCAN, thinking("t"), Weights())
    assert earned.faults == (f"accuracy: {error.__name__}",)
    assert (dict(earned.parts), earned.total) == ({"format": 1.0, "accuracy": 0.0}, 0.5)


def test_an_interrupt_is_no_fault(monkeypatch):
    def interrupted(question, response):
        raise KeyboardInterrupt

    monkeypatch.setattr(combine, "accuracy_reward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reward(SCAN, thinking("t"), Weights())


def test_facts_without_a_case_and_answers_withheld_are_faults():
    earned = reward(SCAN, thinking("t"), Weights(facts=1))
    assert (earned.faults, earned.total) == (("facts: ValueError",), 1.5)
    assert reward(about("What?", None, kind="open"), thinking("t"), Weights()).faults == ("accuracy: UserError",)
    assert reward(grounding(1), thinking("t", f"<box>[{EXACT}]</box>"), EVERYTHING, xray()).faults == (
        "accuracy: ValueError",
        "grounding: ValueError",
    )


@pytest.mark.parametrize(
    "values",
    [
        {"format": -1},
        {"accuracy": float("nan")},
        {"accuracy": float("inf")},
        {"accuracy": 1e308, "facts": 1e308},
        {"format": 0, "accuracy": 0},
        {"style": 1},
    ],
)
def test_weights_that_are_refused(values):
    with pytest.raises(ValidationError):
        Weights(**values)


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


def test_what_is_rewarded_the_evaluation_counts_as_right():
    for answer, right in [(answer, right) for answer, right in MCQ.items() if len(answer) < 100]:
        (judged,) = judge([SCAN], {SCAN.id: thinking("t", answer)})
        assert judged.correct or not right


def test_public_names_are_there():
    assert all(hasattr(rewards, name) for name in rewards.__all__)
