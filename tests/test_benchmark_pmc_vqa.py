"""PMC-VQA: two versions, whose columns of the same name mean different things."""

import numpy as np
import pytest
from benchmark_files import picture, write_csv, write_png, write_zip

from gmai_vl.evaluation.answers.extraction import extract
from gmai_vl.evaluation.benchmarks.pmc_vqa import read_pmc_vqa, read_pmc_vqa_2
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef

CHOICES = {"Choice A": " A: Green ", "Choice B": " B:Red", "Choice C": "C : None", "Choice D": "D. pneumoniae"}
FIRST = {
    "Figure_path": "PMC1_F1.jpg",
    "Question": " Which colour, in words? ",
    "Answer": "None",
    **CHOICES,
    "Answer_label": "C",
}
SECOND = {
    "index": 0,
    "Figure_path": "PMC2_Fig4_41.jpg",
    "Caption": 'A "stain", A: green,\nB: red.',
    "Question": "Which colour?",
    **CHOICES,
    "Answer": "B",
    "split": "test",
}


def write_first(folder, *rows):
    write_csv(folder / "test_clean.csv", list(rows) or [FIRST])


@pytest.fixture
def folder(tmp_path):
    write_first(tmp_path)
    write_csv(tmp_path / "test_2.csv", [SECOND, SECOND | {"index": 1, "Answer": "D"}])
    write_png(tmp_path / "images/PMC1_F1.jpg", 1)
    write_png(tmp_path / "figures/PMC2_Fig4_41.jpg", 2)
    return tmp_path


def test_version_1(folder):
    benchmark = read_pmc_vqa(folder)
    (question,) = benchmark.questions
    assert (question.id, question.kind, question.answer) == ("pmc-vqa-1", "mcq", "C")
    assert (question.source, question.language, question.patient_id) == ("pmc-vqa", "en", None)
    assert question.turns[0].content == (
        ImageRef(0),
        "Which colour, in words?\nA. Green\nB. Red\nC. None\nD. D. pneumoniae\n"
        "Answer with the option's letter from the given choices directly.",
    )
    assert np.array_equal(benchmark.image("PMC1_F1.jpg"), picture(1))
    assert benchmark.name == "pmc-vqa"


def test_version_2(folder):
    benchmark = read_pmc_vqa_2(folder)
    assert [(one.id, one.answer) for one in benchmark.questions] == [("pmc-vqa-2-1", "B"), ("pmc-vqa-2-2", "D")]
    assert np.array_equal(benchmark.image("PMC2_Fig4_41.jpg"), picture(2))
    assert (benchmark.name, benchmark.questions[0].source) == ("pmc-vqa-2", "pmc-vqa-2")
    assert benchmark.questions[0].patient == benchmark.questions[1].patient


def test_the_label_before_a_choice_is_taken_off_once(folder):
    write_first(folder, FIRST | {"Choice B": "B: B: cell", "Choice A": "B: other", "Choice C": "Call: none"})
    options = read_pmc_vqa(folder).questions[0].options
    assert options == {"A": "B: other", "B": "B: cell", "C": "Call: none", "D": "D. pneumoniae"}


@pytest.mark.parametrize("word", ["None", "NA", "N/A", "nan", "null"])
def test_none_is_an_option_like_any_other(folder, word):
    write_first(folder, FIRST | {"Choice C": f" C: {word} ", "Choice D": word, "Answer": word})
    benchmark = read_pmc_vqa(folder)
    assert (benchmark.questions[0].options["C"], benchmark.questions[0].options["D"]) == (word, word)
    assert not any("letter counts" in note for note in benchmark.notes)


def test_two_options_may_have_one_text(folder):
    write_first(folder, FIRST | {"Choice B": " B: None"})
    (question,) = read_pmc_vqa(folder).questions
    assert (question.options["B"], question.options["C"], question.answer) == ("None", "None", "C")


@pytest.mark.parametrize(
    ("answer", "differs"),
    [("None", False), (" NONE ", False), ("C: none", False), ("Green", True), ("C", True), ("no ne", True)],
)
def test_the_letter_counts_where_the_text_differs(folder, answer, differs):
    write_first(folder, FIRST | {"Answer": answer}, FIRST)
    benchmark = read_pmc_vqa(folder)
    said = "pmc-vqa: in 1 rows `Answer` is not the option that `Answer_label` names; the letter counts"
    assert (said in benchmark.notes) == differs
    assert benchmark.questions[0].answer == "C"


@pytest.mark.parametrize("letter", ["E", "", "c", "AB", "None", "Green"])
def test_a_letter_out_of_range_is_an_error(folder, letter):
    write_first(folder, FIRST, FIRST | {"Answer_label": letter})
    with pytest.raises(
        UserError, match=rf"test_clean\.csv: row 2: `Answer_label` is '{letter}', which is none of A, B, C, D"
    ):
        read_pmc_vqa(folder)
    write_csv(folder / "test_2.csv", [SECOND | {"Answer": letter}])
    with pytest.raises(UserError, match=rf"test_2\.csv: row 1: `Answer` is '{letter}', which is none of A, B, C, D"):
        read_pmc_vqa_2(folder)


def test_the_files_of_one_version_are_not_those_of_the_other(folder):
    (folder / "test_2.csv").rename(folder / "kept.csv")
    with pytest.raises(UserError, match=r"has no test_2\.csv"):
        read_pmc_vqa_2(folder)
    (folder / "kept.csv").rename(folder / "test_clean.csv")
    with pytest.raises(UserError, match=r"test_clean\.csv has no column `Answer_label`"):
        read_pmc_vqa(folder)


def test_images_in_a_zip(tmp_path):
    write_first(tmp_path)
    write_csv(tmp_path / "test_2.csv", [SECOND])
    write_zip(tmp_path / "images.zip", {"images/PMC1_F1.jpg": 1})
    write_zip(tmp_path / "images_2.zip", {"figures/PMC2_Fig4_41.jpg": 2})
    assert np.array_equal(read_pmc_vqa(tmp_path).image("PMC1_F1.jpg"), picture(1))
    assert np.array_equal(read_pmc_vqa_2(tmp_path).image("PMC2_Fig4_41.jpg"), picture(2))


def test_the_archive_may_stay_beside_the_unpacked_images(folder):
    write_zip(folder / "images.zip", {"images/PMC1_F1.jpg": 5})
    write_zip(folder / "images_2.zip", {"figures/PMC2_Fig4_41.jpg": 5})
    assert np.array_equal(read_pmc_vqa(folder).image("PMC1_F1.jpg"), picture(1))
    assert np.array_equal(read_pmc_vqa_2(folder).image("PMC2_Fig4_41.jpg"), picture(2))


def test_missing_images_are_one_line(folder):
    write_first(folder, FIRST, FIRST | {"Figure_path": "PMC3.jpg"}, FIRST | {"Figure_path": "../figures/a.jpg"})
    write_png(folder / "figures/a.jpg", 3)
    with pytest.raises(UserError, match=r"images: 2 images are missing, the first is PMC3\.jpg"):
        read_pmc_vqa(folder)


@pytest.mark.parametrize(("count", "variant"), [(2_000, "test_clean, version 1"), (1_999, "unknown (1,999)")])
def test_counts_of_version_1(folder, count, variant):
    write_first(folder, *[FIRST] * count)
    benchmark = read_pmc_vqa(folder)
    assert benchmark.variant == variant
    assert bool(benchmark.notes) == variant.startswith("unknown")


@pytest.mark.parametrize(("count", "variant"), [(33_430, "test_2, version 2"), (2_000, "unknown (2,000)")])
def test_counts_of_version_2(folder, count, variant):
    write_csv(folder / "test_2.csv", [SECOND] * count)
    benchmark = read_pmc_vqa_2(folder)
    assert benchmark.variant == variant
    assert bool(benchmark.notes) == variant.startswith("unknown")


def test_captions_with_commas_quotes_and_line_breaks_are_one_cell(folder):
    written = (folder / "test_2.csv").read_text(encoding="utf-8")
    assert '"A ""stain"", A: green,\nB: red."' in written  # so that splitting at commas or lines would fail
    assert [one.stem for one in read_pmc_vqa_2(folder).questions] == ["Which colour?"] * 2


def test_the_text_of_a_choice_is_matched_without_its_label(folder):
    options = read_pmc_vqa(folder).questions[0].options
    said = [extract("mcq", "", options, text).choice for text in ("green", "It is red.", "D. pneumoniae", "A: Green")]
    assert said == ["A", "B", "D", "A"]


def test_images_of_one_version_do_not_serve_the_other(tmp_path):
    write_first(tmp_path)
    write_csv(tmp_path / "test_2.csv", [SECOND])
    write_zip(tmp_path / "images.zip", {"images/PMC1_F1.jpg": 1, "images/PMC2_Fig4.jpg": 2})
    assert len(read_pmc_vqa(tmp_path).questions) == 1
    with pytest.raises(UserError, match=r"1 images are missing, the first is PMC2_Fig4_41\.jpg"):
        read_pmc_vqa_2(tmp_path)
