"""Traps of adding up: what a guess is worth, what is left out of a denominator, which mean a number is."""

import json

import pytest
from benchmark_files import base64_png, write_json_lines, write_tsv
from evaluation_samples import question
from stub_server import Stub, answer
from typer.testing import CliRunner

from gmai_vl.cli.eval import app
from gmai_vl.evaluation import judge, read_predictions, score
from gmai_vl.evaluation.reports import paper_tables, run_of
from gmai_vl.foundation import UserError

SCANS = {"A": "CT", "B": "MRI", "C": "X-ray", "D": "ultrasound"}


def test_a_random_letter_is_counted_as_a_guess_and_ours_never_draws_one():
    asked = [question(number, options=SCANS, answer="ABCD"[number % 4]) for number in range(400)]
    blurred = {one.id: "It is blurred." for one in asked}
    ours = score(judge(asked, blurred), benchmark="b", variant="v")
    assert (ours["micro"], ours["n_unparsed"], ours["n_guessed"], ours["n"]) == (0, 400, 0, 400)
    for protocol in ("mmmu", "lmms-eval", "mmmu-pro", "medevalkit"):
        theirs = score(judge(asked, blurred, protocol), benchmark="b", variant="v", protocol=protocol)
        assert (theirs["n_unparsed"], theirs["n_guessed"]) == (400, 400)
        assert 0.15 < theirs["micro"] < 0.35  # what a random or forced letter is worth
    theirs = score(judge(asked, blurred, "vlmevalkit"), benchmark="b", variant="v", protocol="vlmevalkit")
    assert (theirs["micro"], theirs["n_unparsed"], theirs["n_guessed"]) == (0, 400, 0)  # Z hides nothing here


def test_reasoning_that_was_cut_off_shows_as_unparsed_in_each_group():
    asked = [question(number, form="long" if number < 3 else "short") for number in range(6)]
    responses = {one.id: "<think>Bones are dark, so (A)" if one.form == "long" else "A" for one in asked}
    result = score(judge(asked, responses), benchmark="b", variant="v")
    told = {
        name: (group["n"], group["n_unparsed"], group["accuracy"]) for name, group in result["groups"]["form"].items()
    }
    assert told == {"long": (3, 3, 0), "short": (3, 0, 1)}


def test_open_questions_are_refused_not_dropped_by_who_knows_options_only():
    asked = [question(1), question(2, kind="open", options=None, answer="liver")]
    for protocol in ("huatuo", "omnimedvqa-difflib", "mmmu-pro"):
        with pytest.raises(UserError, match="has no rules for open questions, only for mcq"):
            judge(asked, {"q001": "A", "q002": "liver"}, protocol)


def test_what_no_text_is_similar_to_stays_in_the_denominator():
    asked = [question(number, options=SCANS, answer="B") for number in range(4)]
    responses = {"q000": "MRI", "q001": "MRI", "q002": "??", "q003": ""}
    result = score(judge(asked, responses, "omnimedvqa-difflib"), benchmark="b", variant="v")
    assert (result["n"], result["micro"], result["n_unparsed"]) == (4, 0.5, 2)


@pytest.mark.parametrize("protocol", ["default", "medevalkit"])
def test_closed_hits_count_once(protocol):
    kinds = [("closed", "yes"), ("closed", "no"), ("open", "liver"), ("open", "heart")]
    asked = [
        question(number, kind=kind, options=None, answer=gold, source="slake", stem="Is there a mass?")
        for number, (kind, gold) in enumerate(kinds)
    ]
    responses = {"q000": "yes", "q001": "no", "q002": "liver", "q003": "spleen"}
    result = score(judge(asked, responses, protocol), benchmark="b", variant="v", protocol=protocol)
    told = {kind: (group["correct"], group["n"]) for kind, group in result["groups"]["kind"].items()}
    assert (told, result["micro"]) == ({"closed": (2, 2), "open": (1, 2)}, 0.75)


def test_micro_is_over_questions_and_macro_over_datasets_or_tasks():
    """Disease diagnosis is 47 of 100 questions: the two means are quite different numbers."""
    tasks = ["Disease Diagnosis"] * 47 + ["Bone"] * 33 + ["Counting"] * 20
    asked = [question(number, clinical_task=task, source="gmai-mmbench") for number, task in enumerate(tasks)]
    responses = {one.id: "B" if one.clinical_task == "Disease Diagnosis" else "A" for one in asked}
    result = score(judge(asked, responses), benchmark="gmai-mmbench", variant="val")
    assert result["micro"] == pytest.approx(0.53)
    assert {task: group["n"] for task, group in result["groups"]["clinical_task"].items()} == {
        "Bone": 33,
        "Counting": 20,
        "Disease Diagnosis": 47,
    }
    (cells,) = measured("gmai-mmbench", result)
    assert {name: (round(cell.value, 1), cell.n) for name, cell in cells.items()} == {
        "Validation": (53.0, 100),
        "Validation, mean over tasks": (66.7, None),
    }


def measured(table: str, *results: dict) -> list[dict]:
    """Return the cells of the measured rows of a table of the paper."""
    runs = [run_of(result | {"manifest": {"model": "ours"}}, str(number)) for number, result in enumerate(results)]
    (found,) = (each for each in paper_tables(runs) if each.name == table)
    return [dict(row.cells) for row in found.rows if row.status == "measured"]


def test_omnimedvqa_has_its_three_means_side_by_side():
    rows = (
        [("CT", "a", "Lesion Grading")] * 6
        + [("CT", "b", "Lesion Grading")] * 2
        + [("MR", "b", "Disease Diagnosis")] * 2
    )
    asked = [
        question(number, modality=modality, source=dataset, labels={"question type": of_type})
        for number, (modality, dataset, of_type) in enumerate(rows)
    ]
    responses = {one.id: "A" if number < 7 else "B" for number, one in enumerate(asked)}
    (cells,) = measured("omnimedvqa", score(judge(asked, responses), benchmark="omnimedvqa", variant="unknown (10)"))
    assert {name: round(cell.value, 2) for name, cell in cells.items()} == {
        "Lesion Grading": 87.5,
        "Disease Diagnosis": 0,
        "Overall": 70,
        "Mean over types": 43.75,
        "Mean over modalities": 43.75,
        "Mean over datasets": 62.5,
    }


def test_the_average_of_medical_vqa_is_over_datasets_not_questions():
    def result(name: str, n: int, right: int) -> dict:
        asked = [question(number, source=name) for number in range(n)]
        responses = {one.id: "A" if number < right else "B" for number, one in enumerate(asked)}
        return score(judge(asked, responses), benchmark=name, variant="test")

    (cells,) = measured("medical-vqa", result("vqa-rad", 2, 2), result("slake", 4, 2), result("pmc-vqa", 10, 3))
    assert round(cells["Average"].value, 2) == 60  # of 16 questions 7 are right: 43.75


def test_mmmu_is_told_over_all_questions_and_over_those_with_options():
    """Published rows differ in just this: 13 of 27 and 15 of 30 are both printed as accuracy of one subject."""
    given = {"A": "flu", "B": "cold"}
    asked = [
        question(
            number,
            kind="open" if number < 3 else "mcq",
            options=None if number < 3 else given,
            answer="2" if number < 3 else "A",
            labels={"subject": "Pharmacy", "question type": "open" if number < 3 else "multiple-choice"},
        )
        for number in range(30)
    ]
    responses = {one.id: "2" if number < 2 else "A" if number < 16 else "B" for number, one in enumerate(asked)}
    groups = score(judge(asked, responses), benchmark="mmmu-health", variant="validation")["groups"]
    told = {name: (group["correct"], group["n"]) for name, group in groups["question type"].items()}
    assert told == {"multiple-choice": (13, 27), "open": (2, 3)}
    assert (groups["subject"]["Pharmacy"]["correct"], groups["subject"]["Pharmacy"]["n"]) == (15, 30)


def test_groups_of_size_0_are_left_out_and_a_blank_department_is_in_no_group():
    departments = ["Urology", None, "Hematology", None]
    asked = [question(number, department=department) for number, department in enumerate(departments)]
    result = score(judge(asked, {one.id: "A" for one in asked}), benchmark="b", variant="v")
    assert {name: group["n"] for name, group in result["groups"]["department"].items()} == {
        "Hematology": 1,
        "Urology": 1,
    }
    assert result["groups"]["clinical_task"] == {}
    assert all(group["n"] for groups in result["groups"].values() for group in groups.values())
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    ("prompt", "tokens"), [("direct", 24), ("vlmevalkit", 512), ("reason", 1024)], ids=lambda each: str(each)
)
def test_a_prompt_that_asks_for_more_than_a_letter_leaves_room_for_it(tmp_path, prompt, tokens):
    write_json_lines(tmp_path / "questions.jsonl", [{"question": "Which?", "answer": "A", "A": "cyst", "B": "mass"}])
    asked = []
    with Stub(lambda now: (asked.append(now.body["max_tokens"]), answer("A"))[1]) as stub:
        command = [
            "run",
            "--model",
            f"openai:{stub.url}#m",
            "--benchmark",
            "own",
            "--data",
            tmp_path,
            "--prompt",
            prompt,
        ]
        assert CliRunner().invoke(app, [*map(str, command), "--out", str(tmp_path / "out")]).exit_code == 0
    assert asked == [tokens]
    assert json.loads((tmp_path / "out/score.json").read_text())["manifest"]["prompt"] == prompt


@pytest.mark.parametrize(
    ("response", "correct", "unparsed"),
    [("CT", True, False), ("C", True, False), ("A or C", False, True), ("MRI", False, False), ("dunno", False, True)],
)
def test_the_text_of_two_options_that_are_both_right_is_right(response, correct, unparsed):
    twice = question(0, options={"A": "CT", "B": "MRI", "C": "CT."}, answer="A", alternatives=("C",))
    (entry,) = judge([twice], {"q000": response})
    assert (entry.correct, entry.unparsed) == (correct, unparsed)


def test_an_old_score_is_never_taken_for_the_new_one(tmp_path):
    write_json_lines(tmp_path / "questions.jsonl", [{"question": "Which?", "answer": "A", "A": "cyst", "B": "mass"}])
    for said, accuracy in (("A", 1.0), ("B", 0.0)):
        write_json_lines(tmp_path / "p.jsonl", [{"id": "own-1", "response": said}])
        command = ["score", "--benchmark", "own", "--data", tmp_path, "--predictions", tmp_path / "p.jsonl"]
        assert CliRunner().invoke(app, [*map(str, command), "--out", str(tmp_path / "out")]).exit_code == 0
        kept = json.loads((tmp_path / "out" / "score.json").read_text())
        verdict = json.loads((tmp_path / "out" / "verdicts.jsonl").read_text())
        assert (kept["micro"], verdict["correct"]) == (accuracy, accuracy == 1)


def test_ids_that_are_numbers_are_not_matched_with_texts(tmp_path):
    write_json_lines(tmp_path / "p.jsonl", [{"id": 1, "response": "A"}])
    with pytest.raises(UserError, match=r"p\.jsonl:1: id: input should be a valid string"):
        read_predictions(tmp_path / "p.jsonl")


def test_withheld_answers_end_in_what_is_handed_in_not_in_an_error_after_the_last_question(tmp_path):
    row = {"index": 1, "image": base64_png(0), "question": "Which?", "A": "polyp", "B": "ulcer"}
    row |= {"modality": "CT", "clinical VQA task": "Bone", "department": "Urology"}
    write_tsv(tmp_path / "GMAI_mm_bench_TEST_part_1.tsv", [row])
    with Stub(lambda now: answer("B")) as stub:
        command = ["run", "--model", f"openai:{stub.url}#m", "--benchmark", "gmai-mmbench-test", "--data", tmp_path]
        result = CliRunner().invoke(app, [*map(str, command), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "submission.xlsx").is_file()
    assert not (tmp_path / "out" / "score.json").exists()
