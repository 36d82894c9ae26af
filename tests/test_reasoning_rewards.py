"""Rewards of single responses: form and accuracy, row by row, and how the parts are weighed and added."""

import pytest
from evaluation_samples import grounding, question
from pydantic import ValidationError
from reasoning_responses import EVERYTHING, EXACT, SCAN, about, thinking, xray

from gmai_vl.evaluation import judge
from gmai_vl.foundation import UserError
from gmai_vl.reasoning import rewards
from gmai_vl.reasoning.rewards import Weights, accuracy_reward, combine, format_reward, parts_of, reward

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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("≤5 mm", "≥5 mm"), {"≥5 mm": 1, "≥ 5 mm": 1, ">=5 mm": 1, "≤5 mm": 0, "B. ≤5 mm": 0, "5 mm": 0, ">5 mm": 0}),
        (("10 mm", "≥5 mm"), {"≥5 mm": 1, "≧5 mm": 1, "≤5 mm": 0, "5 mm": 0}),
        (("10 mm", "< 5 mm"), {"<5 mm": 1, "< 5 mm": 1, ">5 mm": 0, "≤5 mm": 0}),
        (("CD4+", "CD4−"), {"CD4−": 1, "CD4-": 1, "CD4+": 0, "CD4": 0}),
        (("TSH ↑", "TSH ↓"), {"TSH ↓": 1, "TSH ↑": 0, "TSH": 0}),
        (("5", "±5"), {"±5": 1, "± 5": 1, "5": 0}),
    ],
)
def test_signs_that_are_no_ascii_count_as_well(options, said):
    asked = question(1, options=dict(zip("AB", options, strict=True)), answer="B")
    assert {text: accuracy_reward(asked, thinking("t", text)) for text in said} == said
    for text, earned in said.items():
        (judged,) = judge([asked], {asked.id: text})
        assert judged.correct >= earned


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


def test_what_is_rewarded_the_evaluation_counts_as_right():
    for answer, right in [(answer, right) for answer, right in MCQ.items() if len(answer) < 100]:
        (judged,) = judge([SCAN], {SCAN.id: thinking("t", answer)})
        assert judged.correct or not right


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


def test_facts_without_a_case_earn_nothing_and_are_no_fault():
    earned = reward(SCAN, thinking("This is an MRI scan."), Weights(facts=1))
    assert (earned.faults, earned.parts["facts"], earned.total) == ((), 0.0, 1.5)


def test_answers_withheld_are_faults():
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


def test_public_names_are_there():
    assert all(hasattr(rewards, name) for name in rewards.__all__)
