"""MMMU, Health & Medicine: parquet files by subject, and VLMEvalKit's TSV files."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_files import base64_png, picture, png, write_parquet, write_tsv
from PIL import Image

from gmai_vl.evaluation.benchmarks.mmmu import SUBJECTS, read_mmmu
from gmai_vl.foundation import BadItem, UserError
from gmai_vl.records import ImageRef

LETTER = "\nAnswer with the option's letter from the given choices directly."


def row(id, question="What is shown in <image 1>?", options="['flu', 'cold']", answer="A", images=None, **changed):
    """Return a row with all columns of the hub's files; `images` gives number of a column -> number of a picture."""
    cells = {f"image_{number}": None for number in range(1, 8)}
    for number, content in (images or {1: 0}).items():
        cells[f"image_{number}"] = {"bytes": content if isinstance(content, bytes) else png(content), "path": None}
    return {
        "id": id,
        "question": question,
        "options": options,
        "explanation": "",
        **cells,
        "img_type": "['Tables', 'Body Scans: MRI, CT scans, and X-rays']",
        "answer": answer,
        "topic_difficulty": "Medium",
        "question_type": "open" if options == "[]" else "multiple-choice",
        "subfield": "Epidemiology",
        **changed,
    }


SCHEMA = pa.schema(
    [
        (name, pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if name.startswith("image_") else pa.string())
        for name in row("")
    ]
)


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), path, row_group_size=2)


def read(tmp_path, *rows, **options):
    write(tmp_path / "Pharmacy" / "validation-00000-of-00001.parquet", *rows)
    return read_mmmu(tmp_path, **options)


def test_the_hubs_folders(tmp_path):
    for number, subject in enumerate(SUBJECTS):
        rows = [row(f"validation_{subject}_{index}", images={1: 10 * number + index}) for index in range(1, 4)]
        write(tmp_path / subject / "validation-00000-of-00001.parquet", *rows)
        write(tmp_path / subject / "dev-00000-of-00001.parquet", row(f"dev_{subject}_1"))
    (tmp_path / "Accounting").mkdir()
    (tmp_path / "Accounting" / "validation-00000-of-00001.parquet").write_bytes(b"not even read")
    benchmark = read_mmmu(tmp_path)
    first = benchmark.questions[0]
    assert (first.id, first.kind, first.answer) == ("mmmu-health-validation_Basic_Medical_Science_1", "mcq", "A")
    assert first.options == {"A": "flu", "B": "cold"}
    assert first.stem == "What is shown in <image 1>?"
    assert first.turns[0].content == ("What is shown in", ImageRef(0), f"?\n(A) flu\n(B) cold{LETTER}")
    assert first.labels == {
        "subject": "Basic_Medical_Science",
        "question type": "multiple-choice",
        "subfield": "Epidemiology",
        "difficulty": "Medium",
        "image type": "Tables; Body Scans: MRI, CT scans, and X-rays",
    }
    assert len(benchmark.questions) == 15
    for number in range(15):
        question = benchmark.questions[number]
        shown = benchmark.image(question.images[0])
        assert np.array_equal(shown, picture(10 * (number // 3) + number % 3 + 1))
    file = tmp_path / "Basic_Medical_Science" / "validation-00000-of-00001.parquet"
    assert [question.images for question in benchmark.questions[:3]] == [
        (f"{file}#0#0#image_1",),
        (f"{file}#0#1#image_1",),
        (f"{file}#1#0#image_1",),
    ]
    assert benchmark.variant == "unknown (15)"


def test_dev_is_another_split_and_an_unknown_one_is_an_error(tmp_path):
    write(tmp_path / "Pharmacy" / "dev-00000-of-00001.parquet", row("dev_Pharmacy_1"))
    assert [question.id for question in read_mmmu(tmp_path, split="dev").questions] == ["mmmu-health-dev_Pharmacy_1"]
    with pytest.raises(UserError, match=r"split validate: no split of that name; did you mean `validation`"):
        read_mmmu(tmp_path, split="validate")
    with pytest.raises(UserError, match=r"has neither <Subject>/validation-\*\.parquet nor"):
        read_mmmu(tmp_path)


@pytest.mark.parametrize(("split", "each"), [("validation", 30), ("dev", 5)])
def test_known_counts_are_named(tmp_path, split, each):
    for subject in SUBJECTS:
        rows = [row(f"{split}_{subject}_{index}") for index in range(each)]
        write(tmp_path / subject / f"{split}-00000-of-00001.parquet", *rows)
    benchmark = read_mmmu(tmp_path, split=split)
    assert (benchmark.variant, benchmark.notes) == (split, ())


def test_subjects_that_are_not_there_are_noted(tmp_path):
    absent = "Basic_Medical_Science, Clinical_Medicine, Diagnostics_and_Laboratory_Medicine, Public_Health"
    assert read(tmp_path, row("validation_Pharmacy_1")).notes[1] == f"mmmu-health: has no questions of {absent}"


def test_files_of_all_subjects_are_filtered_by_id(tmp_path):
    rows = [row("validation_Math_1"), row("validation_Public_Health_12"), row("validation_Pharmacy_3")]
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", *rows)
    subjects = [question.labels["subject"] for question in read_mmmu(tmp_path).questions]
    assert subjects == ["Public_Health", "Pharmacy"]


def test_marks_are_renumbered_where_an_image_is_absent(tmp_path):
    text = "Compare <image 3> with <image 1>."
    benchmark = read(tmp_path, row("validation_Pharmacy_1", text, images={1: 11, 3: 13}))
    question = benchmark.questions[0]
    assert question.stem == "Compare <image 2> with <image 1>."
    assert [part for part in question.turns[0].content if isinstance(part, ImageRef)] == [ImageRef(1), ImageRef(0)]
    assert [name.rsplit("#", 1)[1] for name in question.images] == ["image_1", "image_3"]
    assert np.array_equal(benchmark.image(question.images[1]), picture(13))
    assert np.array_equal(benchmark.image(question.images[0]), picture(11))


def test_options_that_are_images_keep_their_marks(tmp_path):
    options = "['<image 2>', '<image 4>']"
    benchmark = read(tmp_path, row("validation_Pharmacy_1", "As in <image 1>?", options, images={1: 1, 2: 2, 4: 4}))
    question = benchmark.questions[0]
    assert question.options == {"A": "<image 2>", "B": "<image 3>"}
    assert question.turns[0].content == (
        "As in",
        ImageRef(0),
        "?\n(A)",
        ImageRef(1),
        "(B)",
        ImageRef(2),
        LETTER.strip(),
    )
    assert np.array_equal(benchmark.image(question.images[2]), picture(4))


def test_images_without_any_mark_come_first(tmp_path):
    question = read(tmp_path, row("validation_Pharmacy_1", "Why?", images={1: 0, 2: 1})).questions[0]
    assert question.turns[0].content[:2] == (ImageRef(0), ImageRef(1))


def test_images_that_marks_leave_out_are_not_shown_and_noted(tmp_path):
    benchmark = read(tmp_path, row("validation_Pharmacy_1", "See <image 2>.", images={1: 1, 2: 2}))
    question = benchmark.questions[0]
    assert question.stem == "See <image 1>."
    assert np.array_equal(benchmark.image(question.images[0]), picture(2))
    assert len(question.images) == 1
    assert benchmark.notes[-1] == "mmmu-health: in 1 questions the marks leave out an image"


def test_a_marked_image_that_is_absent_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"parquet: row 2: `<image 2>` stands in its text, but it has no such image"):
        read(tmp_path, row("validation_Pharmacy_1"), row("validation_Pharmacy_2", "<image 2>?"))
    with pytest.raises(UserError, match=r"`<image 999999999>` stands in its text"):
        read(tmp_path, row("validation_Pharmacy_1", f"<image {'9' * 5_000}>"))
    without = row("validation_Pharmacy_1", "?") | {"image_1": None}
    with pytest.raises(UserError, match=r"row 1: has no image"):
        read(tmp_path, without)
    with pytest.raises(UserError, match=r"row 1: has no image"):
        read(tmp_path, without | {"image_1": {"bytes": None, "path": "gone.png"}})


def test_more_than_five_options_and_equal_texts(tmp_path):
    texts = ["0.9%", "None", "0.9%", "1", "2", "3", "4", "5", "nan"]
    question = read(tmp_path, row("validation_Pharmacy_1", options=str(texts), answer="I")).questions[0]
    assert question.options == dict(zip("ABCDEFGHI", texts, strict=True))
    assert question.answer == "I"


@pytest.mark.parametrize("answer", ["C", "a", "", "flu"])
def test_a_letter_that_is_no_option_is_an_error(tmp_path, answer):
    with pytest.raises(UserError, match=r"row 1: `answer` is '.*', which is none of A, B"):
        read(tmp_path, row("validation_Pharmacy_1", answer=answer))


def test_options_are_read_and_never_run(tmp_path):
    options = f"[open({str(tmp_path / 'run')!r}, 'w').name, 'b']"
    with pytest.raises(UserError, match=r"row 1: `options` is no list"):
        read(tmp_path, row("validation_Pharmacy_1", options=options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("told", "answer", "alternatives"),
    [
        ("Transformation", "Transformation", ()),
        ("2", "2", ()),
        ("['24/7', '3.43']", "24/7", ("3.43",)),
        ("[3, 4.5]", "3", ("4.5",)),
        ("[0, 1)", "[0, 1)", ()),
        ("B", "B", ()),
        ("?", None, ()),
    ],
)
def test_open_questions_have_one_answer_or_several(tmp_path, told, answer, alternatives):
    question = read(tmp_path, row("validation_Pharmacy_1", options="[]", answer=told)).questions[0]
    assert (question.kind, question.options, question.labels["question type"]) == ("open", None, "open")
    assert (question.answer, question.alternatives) == (answer, alternatives)
    assert question.turns[0].content[-1] == "?\nAnswer the question using a single word or phrase."


@pytest.mark.parametrize("told", ["", " ", "[]", "['a', '']"])
def test_an_empty_answer_is_an_error(tmp_path, told):
    with pytest.raises(UserError, match=r"row 1: `answer` is empty"):
        read(tmp_path, row("validation_Pharmacy_1", options="[]", answer=told))


def test_a_question_type_that_does_not_fit_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"row 1: has 0 options, but is multiple-choice"):
        read(tmp_path, row("validation_Pharmacy_1", options="[]") | {"question_type": "multiple-choice"})
    with pytest.raises(UserError, match=r"row 1: has 2 options, but is open"):
        read(tmp_path, row("validation_Pharmacy_1", question_type="open"))


def test_answers_of_test_are_withheld(tmp_path):
    write(tmp_path / "Pharmacy" / "test-00000-of-00001.parquet", row("test_Pharmacy_1", answer="?"))
    assert read_mmmu(tmp_path, split="test").questions[0].answer is None


def test_an_id_that_stands_twice_is_an_error(tmp_path):
    with pytest.raises(
        UserError, match=r"2 questions have the id mmmu-health-validation_Pharmacy_1; each needs its own"
    ):
        read(tmp_path, row("validation_Pharmacy_1"), row("validation_Pharmacy_1", "Another, <image 1>?"))


def written(image):
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def test_palette_rgba_16_bit_and_grey_images(tmp_path):
    grey = picture(0)[..., 0]
    kinds = {
        1: written(Image.fromarray(picture(0)).quantize(16)),
        2: written(Image.fromarray(np.dstack([picture(0), grey]))),
        3: written(Image.fromarray(np.linspace(0, 40_000, 192).reshape(12, 16).astype(np.uint16))),
        4: written(Image.fromarray(grey)),
    }
    benchmark = read(tmp_path, row("validation_Pharmacy_1", "Why?", images=kinds))
    shown = [benchmark.image(name) for name in benchmark.questions[0].images]
    assert [image.shape for image in shown] == [(12, 16, 3), (12, 16, 3), (12, 16), (12, 16)]
    assert {image.dtype for image in shown} == {np.dtype(np.uint8)}
    assert np.array_equal(shown[1], picture(0))  # transparency is left out
    assert (shown[2].min(), shown[2].max()) == (0, 255)  # not cut off at 255
    assert np.array_equal(shown[3], grey)


def test_a_damaged_image_is_a_bad_item(tmp_path):
    benchmark = read(tmp_path, row("validation_Pharmacy_1", images={1: png(0)[:50]}))
    with pytest.raises(BadItem, match=r"row 0 of group 0, `image_1`"):
        benchmark.image(benchmark.questions[0].images[0])


def test_a_file_that_unpacks_without_end_is_refused(tmp_path):
    large = bytes(2**20)
    rows = [row(f"validation_Pharmacy_{number}", images={1: large}) for number in range(200)]
    write_parquet(tmp_path / "Pharmacy" / "validation-00000-of-00001.parquet", rows, rows_a_group=200)
    with pytest.raises(UserError, match=r"unpacks to more than"):
        read_mmmu(tmp_path)


def tsv_row(index, category, split="validation", **changed):
    """Return a row of VLMEvalKit's form, from its list of fields."""
    return {
        "index": index,
        "image": base64_png(index),
        "image_path": f"['{index}_1.jpg']",
        "question": "What is shown in <image 1>?",
        **dict.fromkeys("ABCDEFGHI", ""),
        "A": "flu",
        "B": "cold",
        "answer": "B",
        "category": category,
        "l2-category": "Health & Medicine",
        "split": split,
        **changed,
    }


def test_vlmevalkits_file_is_filtered_by_subject_and_split(tmp_path):
    rows = [
        tsv_row(1, "Accounting"),
        tsv_row(2, "Public_Health", "dev"),
        tsv_row(3, "Public_Health", C="None", D="nan", I="rash", answer="I"),
        tsv_row(4, "Pharmacy", image=str([base64_png(40), base64_png(41)]), question="<image 2>, then <image 1>?"),
        tsv_row(5, "Pharmacy", A="", B="nan", answer="['two', '2']"),
    ]
    write_tsv(tmp_path / "MMMU_DEV_VAL.tsv", rows)
    benchmark = read_mmmu(tmp_path)
    choice, several, free = benchmark.questions
    assert (choice.id, choice.answer, choice.labels["subject"]) == ("mmmu-health-validation-3", "I", "Public_Health")
    assert choice.options == {"A": "flu", "B": "cold", "C": "None", "I": "rash"}
    assert several.turns[0].content[:3] == (ImageRef(1), ", then", ImageRef(0))
    assert [np.array_equal(benchmark.image(name), picture(40 + k)) for k, name in enumerate(several.images)] == [
        True,
        True,
    ]
    assert (free.kind, free.answer, free.alternatives) == ("open", "two", ("2",))
    assert [question.id for question in read_mmmu(tmp_path, split="dev").questions] == ["mmmu-health-dev-2"]


def test_vlmevalkits_file_of_test_needs_no_split(tmp_path):
    rows = [tsv_row(1, "Pharmacy", answer="?", id="test_Pharmacy_7"), tsv_row(2, "Math", answer="?", id="test_Math_1")]
    write_tsv(
        tmp_path / "MMMU_TEST.tsv", [{name: text for name, text in row.items() if name != "split"} for row in rows]
    )
    (question,) = read_mmmu(tmp_path, split="test").questions
    assert (question.id, question.answer) == ("mmmu-health-test_Pharmacy_7", None)


def test_a_tsv_without_health_holds_no_questions(tmp_path):
    write_tsv(tmp_path / "MMMU_DEV_VAL.tsv", [tsv_row(1, "Accounting")])
    with pytest.raises(UserError, match=r"holds no questions"):
        read_mmmu(tmp_path)


def test_seven_images_of_one_question_are_all_shown_in_place(tmp_path):
    text = " ".join(f"<image {number}>" for number in range(7, 0, -1))
    benchmark = read(tmp_path, row("validation_Pharmacy_1", text, images={number: number for number in range(1, 8)}))
    question = benchmark.questions[0]
    shown = [part.index for part in question.turns[0].content if isinstance(part, ImageRef)]
    assert shown == [6, 5, 4, 3, 2, 1, 0]
    for index, name in enumerate(question.images):
        assert np.array_equal(benchmark.image(name), picture(index + 1))


def test_none_and_nan_are_options_of_a_tsv_only_where_they_are_texts(tmp_path):
    texts = {"A": "None", "B": "NA", "C": "N/A", "D": "null", "E": "nan", "F": ""}
    write_tsv(tmp_path / "MMMU_DEV_VAL.tsv", [tsv_row(1, "Pharmacy", **texts)])
    (question,) = read_mmmu(tmp_path).questions
    assert question.options == {"A": "None", "B": "NA", "C": "N/A", "D": "null"}  # pandas writes nan for no value
