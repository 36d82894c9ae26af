"""GMAI-MMBench: VAL and TEST in TSV files as downloaded, and the workbook that TEST is scored by."""

import base64
import csv
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from benchmark_files import base64_png, picture, write_tsv
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gmai_vl.evaluation import judge, score
from gmai_vl.evaluation.benchmarks.gmai_mmbench import read_gmai_mmbench, read_gmai_mmbench_test, write_submission
from gmai_vl.evaluation.benchmarks.tsv import rows_of_tsv
from gmai_vl.foundation import BadItem, UserError
from gmai_vl.records import ImageRef


def row(index, number, answer="A", **changed):
    """Return a row with all columns of the official file."""
    return {
        "index": index,
        "image": base64_png(number),
        "question": "Which is it?",
        "A": "polyp",
        "B": "ulcer",
        "C": "tumour",
        "D": "normal",
        "E": "",
        "answer": answer,
        "category": "polyp",
        "original task": "CLS_2D",
        "modality": "Endoscopy",
        "clinical VQA task": "Disease Diagnosis",
        "department": "Gastroenterology and Hepatology",
        "perceptual granularity": "Image level",
        **changed,
    }


def withheld(row):
    return {column: value for column, value in row.items() if column != "answer"}


def read(tmp_path, *rows):
    write_tsv(tmp_path / "GMAI_mm_bench_VAL.tsv", list(rows))
    return read_gmai_mmbench(tmp_path)


def test_val_as_downloaded(tmp_path):
    benchmark = read(tmp_path, row(7, 0), row(8, 1, "E", E="bleeding", question='A "quoted"\nquestion?'), row(9, 2))
    first, second, _ = benchmark.questions
    assert (first.id, first.kind, first.answer) == ("gmai-mmbench-7", "mcq", "A")
    assert first.options == {"A": "polyp", "B": "ulcer", "C": "tumour", "D": "normal"}
    assert (first.clinical_task, first.department) == ("Disease Diagnosis", "Gastroenterology and Hepatology")
    assert (first.modality, first.source) == ("Endoscopy", "gmai-mmbench")
    assert first.labels == {"granularity": "Image level", "original task": "CLS_2D"}
    assert first.turns[0].content == (
        ImageRef(0),
        "Question: Which is it?\nOptions:\nA. polyp\nB. ulcer\nC. tumour\nD. normal\n"
        "Please select the correct answer from the options above.",
    )
    assert (second.answer, second.options["E"], second.stem) == ("E", "bleeding", 'A "quoted"\nquestion?')
    assert first.images == (f"{tmp_path}/GMAI_mm_bench_VAL.tsv#1",)
    for number, question in enumerate(benchmark.questions):
        assert np.array_equal(benchmark.image(question.images[0]), picture(number))
    assert benchmark.variant == "unknown (3)"
    assert benchmark.notes == ("gmai-mmbench: has 3 questions; the published forms have 4,550 (val)",)


def test_the_copy_for_vlmevalkit_has_another_name_and_a_known_count(tmp_path):
    one = row(0, 0)
    write_tsv(tmp_path / "GMAI-MMBench_VAL.tsv", [one | {"index": number} for number in range(4_550)])
    benchmark = read_gmai_mmbench(tmp_path)
    assert (benchmark.variant, benchmark.notes) == ("val", ())
    assert read_gmai_mmbench(tmp_path / "GMAI-MMBench_VAL.tsv").sha256 == benchmark.sha256


def test_none_is_an_option_and_nan_is_none(tmp_path):
    cells = {"B": "None", "C": "NA", "D": "NaN", "E": "nan"}
    question = read(tmp_path, row(1, 0, "B", **cells)).questions[0]
    assert question.options == {"A": "polyp", "B": "None", "C": "NA", "D": "NaN"}
    assert question.answer == "B"


def test_an_option_in_the_middle_may_be_absent(tmp_path):
    question = read(tmp_path, row(1, 0, "D", C="")).questions[0]
    assert list(question.options) == ["A", "B", "D"]


@pytest.mark.parametrize("blank", ["", " ", "nan"])
def test_a_blank_department_is_none(tmp_path, blank):
    assert read(tmp_path, row(1, 0, department=blank)).questions[0].department is None


@pytest.mark.parametrize("answer", ["E", "a", "", "AB", "polyp"])
def test_a_letter_that_is_no_option_is_an_error(tmp_path, answer):
    with pytest.raises(UserError, match=r"VAL\.tsv: row 2: `answer` is '.*', which is none of A, B, C, D"):
        read(tmp_path, row(1, 0), row(2, 1, answer))


def test_equal_option_texts_stay_apart(tmp_path):
    question = read(tmp_path, row(1, 0, "B", A="same", B="same")).questions[0]
    assert (question.options["A"], question.options["B"], question.answer) == ("same", "same", "B")


def test_one_option_is_too_few(tmp_path):
    with pytest.raises(UserError, match=r"row 1: has 1 options"):
        read(tmp_path, row(1, 0, B="", C="", D="nan"))


def test_an_index_stands_once(tmp_path):
    with pytest.raises(UserError, match=r"row 3: has the index 7 of row 1"):
        read(tmp_path, row(7, 0), row(8, 1), row("7", 2))


def test_base64_above_the_limits_of_csv_and_of_tables(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1800, 2400, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG", compress_level=0)
    image = base64.b64encode(written.getvalue()).decode()
    assert len(image) > 2**24 > 131_072
    benchmark = read(tmp_path, row(1, 0), row(2, 1, image=image), row(3, 2))
    assert np.array_equal(benchmark.image(benchmark.questions[1].images[0]), pixels)
    assert np.array_equal(benchmark.image(benchmark.questions[2].images[0]), picture(2))


def test_an_image_may_stand_in_the_row_of_another_index(tmp_path):
    benchmark = read(tmp_path, row(1, 0, image="3"), row(2, 1), row(3, 2))
    first, _, third = benchmark.questions
    assert first.images == third.images
    assert np.array_equal(benchmark.image(first.images[0]), picture(2))
    with pytest.raises(UserError, match=r"row 1: `image` is '4', neither base64 nor the index of a row"):
        read(tmp_path, row(1, 0, image="4"), row(2, 1))
    with pytest.raises(UserError, match=r"row 2: `image` is ''"):
        read(tmp_path, row(1, 0), row(2, 1, image=""))


cells = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0\ufeff"), max_size=6)


@given(rows=st.lists(st.tuples(cells, st.sampled_from(["\t", '"', "\n", "x"]), cells), min_size=1, max_size=5))
def test_every_text_comes_back_from_a_tsv_and_every_place_is_a_beginning(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.tsv"
        write_tsv(path, [dict(zip("abc", row, strict=True)) for row in rows])
        read = list(rows_of_tsv(path))
        assert [tuple(row.values.values()) for row, _ in read] == rows
        content = path.read_bytes()
    for (_, start), row in zip(read, rows, strict=True):
        assert next(csv.reader(io.StringIO(content[start:].decode(), newline=""), delimiter="\t")) == list(row)


def test_answers_about_equal_images_are_not_independent(tmp_path):
    first, second, third = read(tmp_path, row(1, 5), row(2, 6), row(3, 5)).questions
    assert first.patient == third.patient != second.patient


def test_a_damaged_image_is_a_bad_item(tmp_path):
    cut = base64_png(1)[:200]
    benchmark = read(tmp_path, row(1, 0), row(2, 1, image=cut), row(3, 2, image="ä" + base64_png(2)))
    for question in benchmark.questions[1:]:
        with pytest.raises(BadItem, match=r"VAL\.tsv#"):
            benchmark.image(question.images[0])


def test_an_image_of_hostile_size_is_not_decoded(tmp_path):
    written = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(written, "PNG")
    benchmark = read(tmp_path, row(1, 0, image=base64.b64encode(written.getvalue()).decode()))
    with pytest.raises(BadItem, match=r"9000 x 9000 pixels are more than the limit"):
        benchmark.image(benchmark.questions[0].images[0])


def test_what_is_missing_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"has no GMAI_mm_bench_VAL\.tsv; download it"):
        read_gmai_mmbench(tmp_path)
    with pytest.raises(UserError, match=r"has no GMAI_mm_bench_TEST_part"):
        read_gmai_mmbench_test(tmp_path)
    with pytest.raises(UserError, match=r"has no column `answer`"):
        read(tmp_path, withheld(row(1, 0)))
    (tmp_path / "GMAI_mm_bench_VAL.tsv").write_bytes(b"index\timage\n1\t\xff\n")
    with pytest.raises(UserError, match=r"is no readable TSV"):
        read_gmai_mmbench(tmp_path)


def parts(tmp_path, *numbers):
    for number in numbers:
        write_tsv(tmp_path / f"GMAI_mm_bench_TEST_part_{number}.tsv", [withheld(row(1, number)), withheld(row(2, 90))])


def test_the_parts_of_test_stand_by_number_and_answers_are_withheld(tmp_path):
    parts(tmp_path, 10, 2)
    (tmp_path / "GMAI_mm_bench_TEST_part_2_local.tsv").write_text("index\timage_path\n1\tx.jpg\n")
    benchmark = read_gmai_mmbench_test(tmp_path)
    assert [question.id for question in benchmark.questions] == [
        f"gmai-mmbench-test-{part}-{index}" for part in (2, 10) for index in (1, 2)
    ]
    assert {question.answer for question in benchmark.questions} == {None}
    assert (benchmark.name, benchmark.variant) == ("gmai-mmbench-test", "test, 2 of 11 parts")
    assert benchmark.notes == ("gmai-mmbench-test: parts 1, 3, 4, 5, 6, 7, 8, 9, 11 are not there",)
    assert np.array_equal(benchmark.image(benchmark.questions[2].images[0]), picture(10))


def test_all_parts_need_no_note(tmp_path):
    parts(tmp_path, *range(1, 12))
    benchmark = read_gmai_mmbench_test(tmp_path)
    assert (benchmark.variant, benchmark.notes) == ("test, 11 of 11 parts", ())


def submitted(tmp_path, responses, letters=None):
    parts(tmp_path, 1, 2)
    benchmark = read_gmai_mmbench_test(tmp_path)
    ids = [question.id for question in benchmark.questions]
    by_id = dict(zip(ids, responses, strict=False))
    write_submission(benchmark, by_id, dict(zip(ids, letters or [], strict=False)), tmp_path / "out" / "sent.xlsx")
    return tmp_path / "out" / "sent.xlsx"


def test_the_submission_has_the_columns_of_the_files_and_the_letters(tmp_path):
    path = submitted(tmp_path, ["It is (B).", "C", "no idea", "D, surely"], ["B", "C", None, "D"])
    head, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
    assert head == (*(column for column in withheld(row(1, 0)) if column != "image"), "prediction")
    assert [line[-1] for line in rows] == ["B", "C", "no idea", "D"]
    assert [line[0] for line in rows] == [1, 2, 1, 2]  # a number: VLMEvalKit joins by it
    assert rows[0][1:7] == ("Which is it?", "polyp", "ulcer", "tumour", "normal", None)


def test_formulas_in_responses_stay_text(tmp_path):
    responses = ["=1+1", '=HYPERLINK("http://x","A")', "#N/A", "bell \x07 rings"]
    path = submitted(tmp_path, responses)
    rows = list(openpyxl.load_workbook(path).active.iter_rows(min_row=2))
    assert [line[-1].value for line in rows] == [*responses[:3], "bell   rings"]
    assert {line[-1].data_type for line in rows} == {"s"}
    with zipfile.ZipFile(path) as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")


def test_a_submission_is_whole_or_absent(tmp_path):
    path = submitted(tmp_path, ["A"] * 4)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"sent\.xlsx: 1 questions have no response, the first is .*-2-2; ask them"):
        submitted(tmp_path, ["A"] * 3)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["sent.xlsx"]


def test_a_submission_needs_the_files_it_was_read_from(tmp_path):
    parts(tmp_path, 1, 2)
    benchmark = read_gmai_mmbench_test(tmp_path)
    responses = {question.id: "A" for question in benchmark.questions}
    (tmp_path / "GMAI_mm_bench_TEST_part_2.tsv").write_text("index\timage\n")
    with pytest.raises(UserError, match=r"2 questions are in their file no more, the first is gmai-mmbench-test-2-1"):
        write_submission(benchmark, responses, {}, tmp_path / "sent.xlsx")
    assert not (tmp_path / "sent.xlsx").exists()


def test_the_text_of_the_right_option_is_nowhere_but_among_the_options(tmp_path):
    question = read(tmp_path, row(1, 0, category="the secret")).questions[0]
    shown = [part for turn in question.turns for part in turn.content]
    assert "the secret" not in str([shown, question.stem, question.options, dict(question.labels)])


def test_a_department_that_is_called_none_is_a_group_and_a_blank_one_is_not(tmp_path):
    questions = read(tmp_path, row(1, 0, department="None"), row(2, 1, department=""), row(3, 2)).questions
    result = score(judge(questions, {one.id: "A" for one in questions}), benchmark="gmai-mmbench", variant="val")
    told = {name: group["n"] for name, group in result["groups"]["department"].items()}
    assert told == {"None": 1, "Gastroenterology and Hepatology": 1}
