"""MedXpertQA, the part with images."""

import numpy as np
import pytest
from benchmark_files import picture, write_json_lines, write_png, write_zip

from gmai_vl.evaluation.benchmarks.medxpertqa import read_medxpertqa
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef

OPTIONS = {"A": "Erythema", "B": "Larva  migrans", "C": "Cold agglutinins", "D": "Marmorata", "E": "None"}
REPEATED = "(A) Erythema (B) Larva migrans (C) Cold agglutinins (D) Marmorata (E) None"


def row(id, images, label="C", **changed):
    """Return a row with all fields of the card."""
    return {
        "id": id,
        "question": f"A patient has a rash. Answer Choices: see below. Which?\nAnswer Choices: {REPEATED}",
        "options": OPTIONS,
        "label": label,
        "images": images,
        "medical_task": "Diagnosis",
        "body_system": "Lymphatic",
        "question_type": "Reasoning",
        **changed,
    }


def read(tmp_path, *rows):
    write_json_lines(tmp_path / "MM" / "test.jsonl", list(rows))
    return read_medxpertqa(tmp_path)


def test_the_downloaded_folder_with_its_archive(tmp_path):
    write_zip(tmp_path / "images.zip", {"images/MM-1-a.jpeg": 1, "images/MM-2-a.jpeg": 2, "images/MM-2-b.png": 3})
    write_json_lines(tmp_path / "Text" / "test.jsonl", [{"id": "Text-1"}])
    benchmark = read(tmp_path, row("MM-1", ["MM-1-a.jpeg"]), row("MM-2", ["MM-2-a.jpeg", "MM-2-b.png"], "E"))
    first, second = benchmark.questions
    assert (first.id, first.kind, first.answer) == ("medxpertqa-mm-MM-1", "mcq", "C")
    assert first.options == OPTIONS
    assert first.labels == {"medical task": "Diagnosis", "body system": "Lymphatic", "question type": "Reasoning"}
    listed = "\n".join(f"{letter}. {text}" for letter, text in OPTIONS.items())
    assert first.turns[0].content == (
        ImageRef(0),
        f"A patient has a rash. Answer Choices: see below. Which?\n{listed}\n"
        "Answer with the option's letter from the given choices directly.",
    )
    assert second.turns[0].content[:2] == (ImageRef(0), ImageRef(1))
    assert np.array_equal(benchmark.image(second.images[1]), picture(3))
    assert benchmark.variant == "unknown (2)"


def test_unpacked_images_are_taken_where_both_are_there(tmp_path):
    write_zip(tmp_path / "images.zip", {"images/MM-1-a.jpeg": 1})
    write_png(tmp_path / "images" / "MM-1-a.jpeg", 2)
    benchmark = read(tmp_path, row("MM-1", ["MM-1-a.jpeg"]))
    assert np.array_equal(benchmark.image("MM-1-a.jpeg"), picture(2))
    assert read_medxpertqa(tmp_path / "MM" / "test.jsonl").sha256 == benchmark.sha256


def test_a_known_count_is_named(tmp_path):
    write_png(tmp_path / "images" / "a.jpeg", 0)
    plain = row("", ["a.jpeg"], question="Which?")
    benchmark = read(tmp_path, *(plain | {"id": f"MM-{number}"} for number in range(2_000)))
    assert (benchmark.variant, benchmark.notes) == ("MM, test", ())


def test_options_are_cut_off_only_where_they_are_its_own(tmp_path):
    write_png(tmp_path / "images" / "a.jpeg", 0)
    other = f"Which?\nAnswer Choices: {REPEATED.replace('Erythema', 'Eczema')}"
    benchmark = read(tmp_path, row("MM-1", ["a.jpeg"], question=other), row("MM-2", ["a.jpeg"], question="Which?"))
    assert [question.stem for question in benchmark.questions] == [other, "Which?"]
    assert benchmark.notes[-1] == (
        "medxpertqa-mm: 1 questions repeat options that are not theirs; they are asked with both"
    )


def test_equal_option_texts_stay_apart_and_ten_are_read(tmp_path):
    write_png(tmp_path / "images" / "a.jpeg", 0)
    ten = dict.fromkeys("JIHGFEDCBA", "same")
    question = read(tmp_path, row("MM-1", ["a.jpeg"], "J", options=ten)).questions[0]
    assert list(question.options.items()) == [(letter, "same") for letter in "ABCDEFGHIJ"]


@pytest.mark.parametrize("label", ["F", "", "c", "Erythema"])
def test_a_letter_that_is_no_option_is_an_error(tmp_path, label):
    with pytest.raises(UserError, match=r"test\.jsonl: row 2: `label` is '.*', which is none of A, B, C, D, E"):
        read(tmp_path, row("MM-1", ["a.jpeg"]), row("MM-2", ["a.jpeg"], label))


@pytest.mark.parametrize(
    "options", [None, ["a", "b"], {"A": "one"}, {"A": "one", "B": None}, {"A": "one", "BC": "two"}, {"": "x", "B": "y"}]
)
def test_options_that_are_no_letters_with_texts_are_an_error(tmp_path, options):
    with pytest.raises(UserError, match=r"row 1: `options` is .*needed"):
        read(tmp_path, row("MM-1", ["a.jpeg"], options=options))


def test_what_is_missing_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"has no MM/test\.jsonl; download TsinghuaC3I/MedXpertQA"):
        read_medxpertqa(tmp_path)
    with pytest.raises(UserError, match=r"1 images are missing, the first is a\.jpeg"):
        read(tmp_path, row("MM-1", ["a.jpeg"]))
    with pytest.raises(UserError, match=r"row 1: has no image"):
        read(tmp_path, row("MM-1", []))
    write_png(tmp_path / "images" / "a.jpeg", 0)
    with pytest.raises(UserError, match=r"2 questions have the id medxpertqa-mm-MM-1"):
        read(tmp_path, row("MM-1", ["a.jpeg"]), row("MM-1", ["a.jpeg"]))
