"""VQA-RAD in its three published forms."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from benchmark_files import picture, png, write_json, write_parquet, write_png

from gmai_vl.evaluation.benchmarks.vqa_rad import read_vqa_rad
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef

ROWS = [
    ("0", "a.jpg", "HEAD", "Yes", "CLOSED ", "PRES", "Are regions infarcted?", "freeform"),
    (10, "a.jpg", "HEAD", "no", "CLOSED", "POS, PRES", "Is there a mass?", "test_freeform"),
    (11, "b.jpg", "CHEST", "MRI", "CLOSED", "MODALITY", "Is it CT or MRI?", "test_para"),
    (12, "b.jpg", "ABD", 3, "OPEN", "COUNT", "How many?", "test_freeform"),
]


def rows(*, phrases: bool):
    names = ("qid", "image_name", "image_organ", "answer", "answer_type", "question_type", "question", "phrase_type")
    return [dict(zip(names if phrases else names[:-1], row, strict=phrases)) for row in ROWS]


def test_the_test_phrases_of_the_osf_file(tmp_path):
    write_json(tmp_path / "VQA_RAD Dataset Public.json", rows(phrases=True))
    for number, name in enumerate(("a.jpg", "b.jpg")):
        write_png(tmp_path / "VQA_RAD Image Folder" / name, number)
    benchmark = read_vqa_rad(tmp_path)
    first, second, third = benchmark.questions
    assert (first.id, first.kind, first.answer, first.images) == ("vqa-rad-10", "closed", "no", ("a.jpg",))
    assert first.labels == {
        "answer is yes or no": "closed",
        "answer_type": "closed",
        "question type": "POS, PRES",
        "organ": "head",
    }
    assert first.turns[0].content == (
        ImageRef(0),
        "Is there a mass?\nAnswer the question using a single word or phrase.",
    )
    assert (second.kind, second.labels["answer_type"]) == ("open", "closed")  # the two definitions differ
    assert (third.answer, third.stem) == ("3", "How many?")
    assert second.patient == third.patient != first.patient
    assert np.array_equal(benchmark.image("b.jpg"), picture(1))
    assert benchmark.variant == "unknown (3)"
    assert benchmark.notes == (
        "vqa-rad: has 3 questions; the published forms have 451 (test), 2,248 (test and train, OSF), "
        "3,515 (test and train, MEVF split)",
    )


def test_the_hubs_copy(tmp_path):
    table = [
        {"image": {"bytes": png(number), "path": None}, "question": f"Is it {number}?", "answer": answer}
        for number, answer in enumerate(["yes", "left", "no", "ct", "yes"])
    ]
    write_parquet(tmp_path / "data/test-00000-of-00001-abc.parquet", table)
    write_parquet(tmp_path / "data/train-00000-of-00001-abc.parquet", table[:1])
    benchmark = read_vqa_rad(tmp_path, prompt="plain")
    assert [question.kind for question in benchmark.questions] == ["closed", "open", "closed", "open", "closed"]
    for number, question in enumerate(benchmark.questions):
        assert question.turns[0].content == (ImageRef(0), f"Is it {number}?")
        assert np.array_equal(benchmark.image(question.images[0]), picture(number))
    assert len({question.id for question in benchmark.questions}) == 5


def test_many_threads_see_the_right_pictures_and_the_place_of_the_data_does_not_matter(tmp_path):
    table = [
        {"image": {"bytes": png(number), "path": None}, "question": f"Is it {number}?", "answer": "yes"}
        for number in range(24)
    ]
    for name in ("here", "there"):
        write_parquet(tmp_path / name / "test-0.parquet", table)
    benchmark = read_vqa_rad(tmp_path / "here")
    assert benchmark.sha256 == read_vqa_rad(tmp_path / "there").sha256
    asked = [number for _ in range(10) for number in range(24)]
    random.Random(0).shuffle(asked)
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda number: benchmark.image(benchmark.questions[number].images[0]), asked))
    assert all(np.array_equal(pixels, picture(number)) for number, pixels in zip(asked, seen, strict=True))


def test_a_known_count_is_named(tmp_path):
    names = [f"{number}.jpg" for number in range(3)]
    same = {"question": "?", "answer": "yes", "answer_type": "CLOSED", "question_type": "PRES"}
    table = [{"qid": number, "image_name": names[number % 3], **same} for number in range(451)]
    write_json(tmp_path / "testset.json", table)
    for name in names:
        write_png(tmp_path / "images" / name, 0)
    benchmark = read_vqa_rad(tmp_path)
    assert (benchmark.variant, benchmark.notes) == ("test", ())


def test_what_is_missing_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"has neither testset\.json nor"):
        read_vqa_rad(tmp_path)
    write_json(tmp_path / "testset.json", rows(phrases=False))
    write_png(tmp_path / "images/a.jpg", 0)
    with pytest.raises(UserError, match=r"1 images are missing, the first is b\.jpg"):
        read_vqa_rad(tmp_path)
    write_png(tmp_path / "images/b.jpg", 0)
    write_png(tmp_path / "other/b.jpg", 1)
    with pytest.raises(UserError, match=r"b\.jpg could be .*images/b\.jpg or .*other/b\.jpg"):
        read_vqa_rad(tmp_path)
    (tmp_path / "other/b.jpg").unlink()
    broken = rows(phrases=False)
    broken[2]["answer"] = None
    write_json(tmp_path / "testset.json", broken)
    with pytest.raises(UserError, match=r"testset\.json: row 3: `answer` is None; a text or a number is needed"):
        read_vqa_rad(tmp_path)


def told(folder, *cells):
    """Read a test file with these (answer, answer_type), all about one image."""
    names = ("qid", "image_name", "question", "question_type", "answer", "answer_type")
    table = [
        dict(zip(names, (number, "a.jpg", f"{number}?", "PRES", *cell), strict=True))
        for number, cell in enumerate(cells)
    ]
    write_json(folder / "testset.json", table)
    write_png(folder / "images/a.jpg", 0)
    return read_vqa_rad(folder)


def test_stray_blanks_and_mixed_case_of_answers_and_their_types_are_no_difference(tmp_path):
    cells = [("Yes", "CLOSED "), (" yes ", "closed"), ("NO", "CLOSED"), ("No", " CLOSED"), ("Left", "OPEN ")]
    questions = told(tmp_path, *cells).questions
    assert [one.kind for one in questions] == ["closed"] * 4 + ["open"]
    assert [one.labels["answer_type"] for one in questions] == ["closed"] * 4 + ["open"]
    assert [one.answer for one in questions] == ["Yes", "yes", "NO", "No", "Left"]


def test_both_definitions_of_closed_are_told_apart(tmp_path):
    cells = [("yes", "CLOSED"), ("mri", "CLOSED"), ("no", "OPEN"), ("left", "OPEN"), (2, "OPEN")]
    questions = told(tmp_path, *cells).questions
    assert [one.labels["answer is yes or no"] for one in questions] == ["closed", "open", "closed", "open", "open"]
    assert [one.labels["answer_type"] for one in questions] == ["closed", "closed", "open", "open", "open"]


def test_another_data_set_in_a_folder_of_that_name_is_seen_by_its_count(tmp_path):
    benchmark = told(tmp_path, *[("yes", "CLOSED")] * 2_000)
    assert benchmark.variant == "unknown (2,000)"
    assert benchmark.notes[0].startswith("vqa-rad: has 2,000 questions; the published forms have 451 (test)")


def test_answers_about_one_image_are_one_cluster_and_train_may_have_it_too(tmp_path):
    table = [dict(row, image_name="a.jpg") for row in rows(phrases=True)]
    write_json(tmp_path / "VQA_RAD Dataset Public.json", table)
    write_png(tmp_path / "a.jpg", 0)
    benchmark = read_vqa_rad(tmp_path)
    assert len({one.patient for one in (*benchmark.questions, *benchmark.train())}) == 1
    assert (len(benchmark.questions), len(benchmark.train())) == (3, 1)


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_answer_is_an_error(tmp_path, empty):
    with pytest.raises(UserError, match=r"testset\.json: row 2: `answer` is empty"):
        told(tmp_path, ("yes", "CLOSED"), (empty, "OPEN"))
