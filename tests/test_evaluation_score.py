"""Scores add up, count what was not understood, and refuse what is incomplete."""

import json

import pytest
from evaluation_samples import grounding, question
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.evaluation import clustered, judge, parse_file, read_predictions, score, wilson
from gmai_vl.evaluation.score import FIELDS
from gmai_vl.foundation import UserError

CLOSED = {"kind": "closed", "options": None, "form": "presence", "answer": "no"}


@st.composite
def answered(draw):
    questions, responses = [], {}
    for number in range(draw(st.integers(1, 40))):
        changes = draw(st.sampled_from([{}, CLOSED, {"source": "t", "department": "Radiology"}, {"modality": "MR"}]))
        questions.append(question(number, **changes))
        responses[f"q{number:03}"] = draw(st.sampled_from(["A", "B", "no", "yes", "", "It is blurred"]))
    return questions, responses


@given(answered())
def test_groups_add_up_to_the_whole(case):
    questions, responses = case
    result = score(judge(questions, responses), benchmark="b", variant="v")
    right = round(result["micro"] * result["n"])
    assert result["n"] == len(questions)
    assert set(result["groups"]) == set(FIELDS)
    for name in ("modality", "task", "language", "form", "kind", "source"):
        group = result["groups"][name].values()
        assert sum(entry["n"] for entry in group) == len(questions)
        assert sum(entry["correct"] for entry in group) == right
        assert sum(entry["n_unparsed"] for entry in group) == result["n_unparsed"]
        assert all(entry["accuracy"] == entry["correct"] / entry["n"] for entry in group)
        assert all(entry["interval"][0] <= entry["accuracy"] <= entry["interval"][1] for entry in group)
    named = sum(entry.department is not None for entry in questions)
    assert sum(entry["n"] for entry in result["groups"]["department"].values()) == named
    assert result["groups"]["clinical_task"] == {}
    json.dumps(result, allow_nan=False)


def test_score_of_five_answers_by_hand():
    questions = [
        question(0, source="s"),
        question(1, source="s"),
        question(2, source="s", **CLOSED),
        question(3, source="s"),
        question(4, source="t"),
    ]
    responses = {"q000": "A", "q001": "CT", "q002": "No.", "q003": "A or B", "q004": "MRI"}
    result = score(judge(questions, responses), benchmark="b", variant="v")
    assert (result["benchmark"], result["variant"], result["protocol"]) == ("b", "v", "default")
    assert (result["n"], result["n_unparsed"], result["micro"], result["macro"]) == (5, 1, 0.6, (0.75 + 0) / 2)
    assert result["intervals"]["wilson"] == list(wilson(3, 5))
    patients = [("s", "p0"), ("s", "p0"), ("s", "p1"), ("s", "p1"), ("t", "p2")]
    expected = list(clustered([True, True, True, False, False], patients))
    assert result["interval"] == result["intervals"]["clustered"] == expected
    assert result["groups"]["kind"]["closed"]["n"] == 1
    assert "mean_iou" not in result


def test_grounding_brings_its_mean_overlap():
    questions = [grounding(0, (0, 0, 50, 50)), grounding(1, (0, 0, 50, 50)), question(2)]
    responses = {"q000": "<box>[[0.00, 0.00, 0.50, 0.60]]</box>", "q001": "there", "q002": "A"}
    result = score(judge(questions, responses), benchmark="b", variant="v")
    assert result["mean_iou"] == pytest.approx((0.6 + 0) / 2)
    assert result["groups"]["kind"]["grounding"]["correct"] == 1
    assert result["n_unparsed"] == 1


def test_an_unanswered_question_is_an_error_not_a_smaller_n():
    with pytest.raises(UserError, match=r"1 of 2 questions.*`q001`"):
        judge([question(0), question(1)], {"q000": "A"})


def test_nothing_to_score_is_an_error():
    with pytest.raises(UserError, match="no questions"):
        score([], benchmark="b", variant="v")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "a list"),
        ('{"id": "a"}', "response: is missing"),
        ('{"id": "a", "response": null}', "response"),
        ('{"id": 1, "response": ""}', "id"),
        ('{"id": "a", "response": "\\ud800"}', "not JSON"),
        ('{"id": "q", "response": "B"}', "stands twice"),
    ],
)
def test_a_bad_prediction_is_named_with_its_line(tmp_path, line, fault):
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "q", "response": "A"}\n\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"p.jsonl:3: .*{fault}"):
        read_predictions(path)


def test_predictions_that_are_no_text_or_absent(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(tmp_path / "p.jsonl")
    with pytest.raises(UserError, match="no such file"):
        read_predictions(tmp_path / "q.jsonl")


def test_parse_writes_a_line_for_every_case(tmp_path):
    sides, question = {"A": "左", "B": "右"}, {"lang": "en", "question": "Is it?"}
    cases = [
        {
            "id": 1,
            "kind": "mcq",
            "lang": "zh",
            "question": "?",
            "options": sides,
            "response": "答案是Ｂ",
            "answer": "右",
        },
        {"id": "c", "kind": "closed", **question, "options": None, "response": "No.", "answer": "否", "note": 7},
        {"id": "o", "kind": "open", **question, "response": "The left lung"},
        {"id": "e", "kind": "mcq", **question, "options": {"A": "None", "B": "x"}, "response": "", "answer": "A"},
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(json.dumps(case, ensure_ascii=False) for case in cases), encoding="utf-8")
    assert parse_file(source, target) == {"cases": 4, "unparsed": 1}
    assert [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()] == [
        {"id": 1, "choice": "B", "text": "右", "unparsed": False, "correct": True},
        {"id": "c", "choice": "no", "text": "no", "unparsed": False, "correct": True},
        {"id": "o", "choice": None, "text": "left lung", "unparsed": False},
        {"id": "e", "choice": None, "text": "", "unparsed": True, "correct": False},
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"kind": "essay"}, "kind"),
        ({"lang": "fr"}, "lang"),
        ({"options": None}, "needs options"),
        ({"options": {"1": "x"}}, "letters A-Z"),
        ({"answer": "PET"}, "none of the options"),
    ],
)
def test_a_bad_case_is_named_with_its_line_and_leaves_no_output(tmp_path, changes, fault):
    case = {"id": "a", "kind": "mcq", "lang": "en", "question": "?", "options": {"A": "x", "B": "y"}, "response": "A"}
    (tmp_path / "in.jsonl").write_text(json.dumps(case | changes), encoding="utf-8")
    with pytest.raises(UserError, match=f"in.jsonl:1: .*{fault}"):
        parse_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
