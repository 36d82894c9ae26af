"""SLAKE: two languages, closed answers that are words, images in a folder or a zip."""

import numpy as np
import pytest
from benchmark_files import picture, write_json, write_png, write_zip

from gmai_vl.evaluation.benchmarks.slake import read_slake
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef

NAMES = ("qid", "img_name", "question", "answer", "q_lang", "location", "modality", "answer_type", "base_type")
NAMES += ("content_type",)
ROWS = [
    (11934, "xmlab1/source.jpg", "What modality is it?", "CT", "en", "Lung", "CT", "OPEN", "vqa", "Modality"),
    (11935, "xmlab1/source.jpg", "Does it contain liver?", "No", "en", "Lung", "CT", "CLOSED", "vqa", "Organ"),
    (11936, "xmlab1/source.jpg", "Lung or liver?", "Lung", "en", "Lung", "CT", "CLOSED ", "vqa", "Size"),
    (11937, "xmlab2/source.jpg", "How many hearts?", 1, "en", "Abdomen", "X-Ray", "OPEN", "vqa", "Quantity"),
    (13367, "xmlab2/source.jpg", "图片中包含肾脏吗?", "不包含", "zh", "Abdomen", "MRI", "CLOSED", "vqa", "Organ"),
    (13368, "xmlab2/source.jpg", "肝脏是正常的吗?", "正常", "zh", "Abdomen", "MRI", "CLOSED", "kvqa", "KG"),
    (13369, "xmlab2/source.jpg", "病人有肝癌吗?", "没有", "zh", "Abdomen", "MRI", "CLOSED", "vqa", "Organ"),
]


def rows():
    return [dict(zip(NAMES, row, strict=True)) | {"img_id": 1, "triple": ["vhead", "_", "_"]} for row in ROWS]


@pytest.fixture
def folder(tmp_path):
    write_json(tmp_path / "test.json", rows())
    for number in (1, 2):
        write_png(tmp_path / f"imgs/xmlab{number}/source.jpg", number)
        write_png(tmp_path / f"imgs/xmlab{number}/mask.png", 10 + number)
    return tmp_path


def test_a_question_with_its_labels(folder):
    benchmark = read_slake(folder)
    question = benchmark.questions[0]
    assert (question.id, question.kind, question.answer) == ("slake-11934", "open", "CT")
    assert (question.modality, question.patient_id, question.source) == ("CT", None, "slake")
    assert question.labels == {
        "answer is yes or no": "open",
        "answer_type": "open",
        "content type": "Modality",
        "base type": "vqa",
        "location": "Lung",
    }
    assert question.turns[0].content == (
        ImageRef(0),
        "What modality is it?\nAnswer the question using a single word or phrase.",
    )
    assert len({one.patient for one in benchmark.questions}) == 2
    for number in (1, 2):
        assert np.array_equal(benchmark.image(f"xmlab{number}/source.jpg"), picture(number))


def test_closed_is_what_the_file_says_and_not_yes_or_no(folder):
    told = [(one.kind, one.labels["answer is yes or no"]) for one in read_slake(folder, language="en").questions]
    assert told == [("open", "open"), ("closed", "closed"), ("closed", "open"), ("open", "open")]


def test_chinese_yes_and_no_stay_as_they_are(folder):
    questions = read_slake(folder, language="zh").questions
    assert [one.answer for one in questions] == ["不包含", "正常", "没有"]
    assert [one.labels["answer is yes or no"] for one in questions] == ["closed", "open", "closed"]
    assert {one.language for one in questions} == {"zh"}
    assert questions[0].text == "图片中包含肾脏吗?\n请用一个词或短语回答问题。"


def test_a_language_leaves_out_the_other(folder):
    counts = [len(read_slake(folder, language=language).questions) for language in ("en", "zh", None)]
    assert counts == [4, 3, 7]
    write_json(folder / "test.json", rows()[:4])
    with pytest.raises(UserError, match=r"test\.json: has no questions in `zh`"):
        read_slake(folder, language="zh")


def test_two_questions_with_one_id_are_an_error(folder):
    write_json(folder / "test.json", [*rows(), rows()[0]])
    with pytest.raises(UserError, match=r"test\.json: 2 questions have the id slake-11934"):
        read_slake(folder)


def test_a_numeric_answer_is_a_text(folder):
    assert read_slake(folder, language="en").questions[3].answer == "1"


def test_images_in_a_zip(tmp_path):
    write_json(tmp_path / "test.json", rows())
    write_zip(tmp_path / "imgs.zip", {f"imgs/xmlab{number}/source.jpg": number for number in (1, 2)})
    benchmark = read_slake(tmp_path)
    assert np.array_equal(benchmark.image("xmlab2/source.jpg"), picture(2))


def test_the_archive_may_stay_beside_the_unpacked_images(folder):
    write_zip(folder / "imgs.zip", {f"imgs/xmlab{number}/source.jpg": 5 for number in (1, 2)})
    assert np.array_equal(read_slake(folder).image("xmlab2/source.jpg"), picture(2))


def test_the_folder_of_the_authors(folder):
    inner = folder / "Slake1.0"
    inner.mkdir()
    for name in ("test.json", "imgs"):
        (folder / name).rename(inner / name)
    for data in (folder, inner, inner / "test.json"):
        assert len(read_slake(data).questions) == 7


@pytest.mark.parametrize(
    ("english", "chinese", "language", "variant"),
    [
        (1061, 1033, "en", "test, English"),
        (1061, 1033, "zh", "test, Chinese"),
        (1061, 1033, None, "test, English and Chinese"),
        (1060, 1033, "en", "unknown (1,060)"),
    ],
)
def test_counts(folder, english, chinese, language, variant):
    table = [dict(rows()[0], qid=number, q_lang="en") for number in range(english)]
    table += [dict(rows()[0], qid=english + number, q_lang="zh") for number in range(chinese)]
    write_json(folder / "test.json", table)
    benchmark = read_slake(folder, language=language)
    assert benchmark.variant == variant
    assert bool(benchmark.notes) == variant.startswith("unknown")


def test_what_is_missing_is_one_line(tmp_path, folder):
    (folder / "imgs/xmlab2/source.jpg").unlink()
    with pytest.raises(UserError, match=r"imgs: 1 images are missing, the first is xmlab2/source\.jpg"):
        read_slake(folder)
    (folder / "test.json").unlink()
    with pytest.raises(UserError, match=r"has no test\.json"):
        read_slake(folder)


def test_no_image_from_outside_the_folder(folder):
    write_png(folder / "secret.png", 7)
    write_json(folder / "test.json", [dict(rows()[0], img_name="../secret.png")])
    with pytest.raises(UserError, match=r"1 images are missing, the first is \.\./secret\.png"):
        read_slake(folder)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("answer", None, r"row 2: `answer` is None"),
        ("q_lang", "de", r"row 2: `q_lang` is 'de'; en or zh is needed"),
        ("img_name", ["a"], r"row 2: `img_name` is \['a'\]"),
    ],
)
def test_a_broken_row_is_named(folder, column, value, said):
    broken = rows()
    broken[1][column] = value
    write_json(folder / "test.json", broken)
    with pytest.raises(UserError, match=rf"test\.json: {said}"):
        read_slake(folder)


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_answer_is_an_error(folder, empty):
    write_json(folder / "test.json", [rows()[0], dict(rows()[1], answer=empty)])
    with pytest.raises(UserError, match=r"test\.json: row 2: `answer` is empty"):
        read_slake(folder)


def test_ten_chinese_wordings_are_yes_or_no_and_normal_is_none(folder):
    words = ["是的", "不是", "包含", "不包含", "有", "没有", "可以", "不可以", "是", "否", "正常", "不正常", "左侧"]
    table = [dict(rows()[4], qid=number, answer=word) for number, word in enumerate(words)]
    write_json(folder / "test.json", table)
    questions = read_slake(folder).questions
    assert {one.kind for one in questions} == {"closed"}
    assert [one.labels["answer is yes or no"] for one in questions] == ["closed"] * 10 + ["open"] * 3
