"""OmniMedVQA: many files, answers that are told by their text."""

import numpy as np
import pytest
from benchmark_files import picture, write_json, write_png, write_zip

from gmai_vl.evaluation.benchmarks.benchmark import variant_of
from gmai_vl.evaluation.benchmarks.omnimedvqa import KNOWN, NAME, read_omnimedvqa
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef

ROW = {
    "dataset": "ACRIMA",
    "question_id": "ACRIMA_0000",
    "question_type": "Modality Recognition",
    "question": "What imaging technique is it?",
    "gt_answer": "Fundus imaging",
    "image_path": "Images/ACRIMA/Im1.png",
    "option_A": "PET scan",
    "option_B": "CT scan",
    "option_C": "Blood test",
    "option_D": "Fundus imaging",
    "modality_type": "Fundus Photography",
}
OPTIONS = ("option_A", "option_B", "option_C", "option_D")
OPEN = "QA_information/Open-access/ACRIMA.json"
CHEST = "QA_information/Open-access/Chest CT Scan.json"
RESTRICTED = "QA_information/Restricted-access/AMOS.json"


def row(**other):
    """The row with other values; those that are None are left out."""
    return {column: value for column, value in (ROW | other).items() if value is not None}


def with_options(answer, *texts):
    return row(gt_answer=answer, **dict(zip(OPTIONS, [*texts, None, None], strict=False)))


@pytest.fixture
def folder(tmp_path):
    chest = {"dataset": "Chest CT Scan", "image_path": "Images/Chest CT Scan/test/000139 (9).png"}
    amos = {"dataset": "AMOS", "image_path": "Images/AMOS/1.png", "modality_type": "CT(Computed Tomography)"}
    write_json(tmp_path / OPEN, [row(), row(question_id="ACRIMA_0001", question="Again?")])
    write_json(tmp_path / CHEST, [row(**chest), row(**chest, question_id=1, modality="CT", modality_type=None)])
    write_json(tmp_path / RESTRICTED, [row(**amos)])
    write_png(tmp_path / "Images/ACRIMA/Im1.png", 1)
    write_png(tmp_path / "Images/Chest CT Scan/test/000139 (9).png", 2)
    write_png(tmp_path / "Images/AMOS/1.png", 3)
    return tmp_path


def only(folder, *rows):
    """Write one file of the open part and read that part."""
    (folder / CHEST).unlink(missing_ok=True)
    write_json(folder / OPEN, list(rows))
    return read_omnimedvqa(folder, access="open")


def test_a_question(folder):
    benchmark = read_omnimedvqa(folder)
    question = benchmark.questions[0]
    assert (question.id, question.kind, question.answer) == ("omnimedvqa-ACRIMA-ACRIMA_0000", "mcq", "D")
    assert (question.source, question.modality) == ("ACRIMA", "Fundus Photography")
    assert question.labels == {"question type": "Modality Recognition"}
    assert (question.alternatives, question.patient_id, question.language) == ((), None, "en")
    assert question.turns[0].content == (
        ImageRef(0),
        "What imaging technique is it?\nA. PET scan\nB. CT scan\nC. Blood test\nD. Fundus imaging\n"
        "Answer with the option's letter from the given choices directly.",
    )
    assert question.patient == benchmark.questions[1].patient
    for one, number in zip(benchmark.questions, (1, 1, 2, 2, 3), strict=True):
        assert np.array_equal(benchmark.image(one.images[0]), picture(number))


def test_the_parts(folder):
    names = [
        [one.source for one in read_omnimedvqa(folder, access=access).questions]
        for access in ("open", "restricted", None)
    ]
    open_part = ["ACRIMA", "ACRIMA", "Chest CT Scan", "Chest CT Scan"]
    assert names == [open_part, ["AMOS"], [*open_part, "AMOS"]]


def test_restricted_images_are_only_needed_for_the_restricted_part(folder):
    (folder / "Images/AMOS/1.png").unlink()
    assert len(read_omnimedvqa(folder, access="open").questions) == 4
    with pytest.raises(UserError, match=r"1 images are missing, the first is Images/AMOS/1\.png"):
        read_omnimedvqa(folder)


def test_a_row_with_the_short_name_of_its_modality(folder):
    assert [one.modality for one in read_omnimedvqa(folder, access="open").questions][2:] == [
        "Fundus Photography",
        "CT",
    ]
    with pytest.raises(UserError, match=r"ACRIMA\.json: row 1: `modality_type` is None"):
        only(folder, row(modality_type=None))


def test_ids_are_distinct_across_datasets_and_where_they_repeat(folder):
    ids = [one.id for one in read_omnimedvqa(folder).questions]
    assert len(set(ids)) == 5  # three datasets have an ACRIMA_0000
    benchmark = only(folder, row(), row(question="Another?"), row(question_id="ACRIMA_0001"), row(question="Third?"))
    assert [one.id.removeprefix("omnimedvqa-ACRIMA-") for one in benchmark.questions] == [
        "ACRIMA_0000",
        "ACRIMA_0000#2",
        "ACRIMA_0001",
        "ACRIMA_0000#3",
    ]
    assert "omnimedvqa: 2 questions have the id of an earlier one; theirs end in #2, #3 ..." in benchmark.notes


@pytest.mark.parametrize(
    ("answer", "texts", "letter"),
    [
        ("No", ("Yes", "No"), "B"),
        ("no.", ("Yes", "No"), "B"),
        ("X-ray", ("CT", "MR", "X-RAY."), "C"),
        ("None", ("Mild", "None", "Severe"), "B"),
        ("lung", ("lung cancer", "lung"), "B"),
        (3, (1, 2, 3, 4), "C"),
    ],
)
def test_the_letter_of_an_answer(folder, answer, texts, letter):
    (question,) = only(folder, with_options(answer, *texts)).questions
    assert (question.answer, question.alternatives) == (letter, ())
    assert list(question.options) == list("ABCD"[: len(texts)])
    assert question.options[letter] == str(texts["ABCD".index(letter)])


@pytest.mark.parametrize(
    ("answer", "texts", "letters"),
    [
        ("CT", ("CT", "MR", "CT"), ["A", "C"]),
        ("ct", ("CT.", "MR", "CT"), ["A", "C"]),
        ("CT", ("Ct.", "MR", "CT", "ct"), ["C", "A", "D"]),
    ],
)
def test_an_answer_that_equals_several_options(folder, answer, texts, letters):
    benchmark = only(folder, with_options(answer, *texts), with_options("MR", "CT", "MR", "CT"))
    first, second = benchmark.questions
    assert [first.answer, *first.alternatives] == letters
    assert (second.answer, second.alternatives) == ("B", ())  # here the options that are alike are both wrong
    assert "omnimedvqa: in 1 questions the answer equals several options; each of these is right" in benchmark.notes


@pytest.mark.parametrize("answer", ["D", "Lung", "", "Fundus imaging..", "PET"])
def test_an_answer_that_is_no_option_is_an_error(folder, answer):
    with pytest.raises(UserError) as error:
        only(folder, row(), row(gt_answer=answer))
    assert str(error.value) == (
        f"{folder / OPEN}: row 2: `gt_answer` is {answer!r}, "
        "none of the options ['PET scan', 'CT scan', 'Blood test', 'Fundus imaging']"
    )


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_options_that_are_absent_or_empty_are_left_out(folder, empty):
    (question,) = only(folder, row(option_A="Fundus imaging", option_C=empty, option_D=empty)).questions
    assert question.options == {"A": "Fundus imaging", "B": "CT scan"}
    with pytest.raises(UserError, match=r"ACRIMA\.json: row 1: has 1 options; two to four are needed"):
        only(folder, row(option_B="", option_C=empty, option_D=empty, gt_answer="PET scan"))


def test_the_folder_that_the_archive_unpacks_to(folder):
    above = folder / "above"
    (above / "OmniMedVQA").mkdir(parents=True)
    for name in ("QA_information", "Images"):
        (folder / name).rename(above / "OmniMedVQA" / name)
    assert len(read_omnimedvqa(above).questions) == 5
    assert len(read_omnimedvqa(above / "OmniMedVQA" / OPEN, access="open").questions) == 2


def test_images_in_a_zip(folder):
    (folder / "Images/ACRIMA/Im1.png").unlink()
    write_zip(folder / "Images.zip", {"Images/ACRIMA/Im1.png": 4})
    assert np.array_equal(read_omnimedvqa(folder).image("Images/ACRIMA/Im1.png"), picture(4))


def test_what_is_missing_is_one_line(folder):
    with pytest.raises(UserError, match=r"1 images are missing, the first is Images/ACRIMA/\.\./\.\./QA_inf"):
        only(folder, row(), row(question_id="1", image_path="Images/ACRIMA/../../QA_information/a.png"))
    (folder / RESTRICTED).unlink()
    with pytest.raises(UserError, match=r"has no QA_information/Restricted-access/\*\.json"):
        read_omnimedvqa(folder, access="restricted")
    (folder / OPEN).unlink()
    with pytest.raises(UserError, match=r"has no QA_information/Open-access/\*\.json; unpack OmniMedVQA\.zip"):
        read_omnimedvqa(folder)


def test_counts(folder):
    assert read_omnimedvqa(folder).variant == "unknown (5)"
    assert "the published forms have 88,996 (open access)" in read_omnimedvqa(folder).notes[0]
    told = {count: variant_of(NAME, count, KNOWN)[0] for count in (88_996, 127_995 - 88_996, 127_995, 89_195)}
    assert list(told.values()) == [
        "open access",
        "restricted access",
        "open and restricted access",
        "unknown (89,195)",
    ]


def test_a_download_of_some_datasets_is_not_taken_for_the_whole_part(folder):
    """A loader that takes 14 of 30 parts in silence has a score that nobody else can compare with."""
    benchmark = read_omnimedvqa(folder, access="open")
    assert benchmark.variant == "unknown (4)"
    assert benchmark.notes == (
        "omnimedvqa: has 4 questions; the published forms have 88,996 (open access), 38,999 (restricted access), "
        "127,995 (open and restricted access)",
    )
