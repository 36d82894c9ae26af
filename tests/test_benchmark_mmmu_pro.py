"""MMMU-Pro, Health & Medicine: the standard form with ten options."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_files import picture, png

from gmai_vl.evaluation.benchmarks.mmmu import SUBJECTS
from gmai_vl.evaluation.benchmarks.mmmu_pro import read_mmmu_pro
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef

TEN = [f"disease {number}" for number in range(10)]
FILE = "standard (10 options)/test-00000-of-00002.parquet"


def row(id, subject="Pharmacy", question="Which, in <image 1>?", options=TEN, answer="J", images=None):
    """Return a row with all columns of the hub's files; `images` gives number of a column -> number of a picture."""
    cells = {f"image_{number}": None for number in range(1, 8)}
    for number, content in ({1: 0} if images is None else images).items():
        cells[f"image_{number}"] = {"bytes": png(content), "path": None}
    return {
        "id": id,
        "question": question,
        "options": str(options),
        "explanation": "?",
        **cells,
        "img_type": "['Diagrams']",
        "answer": answer,
        "topic_difficulty": "Hard",
        "subject": subject,
    }


SCHEMA = pa.schema(
    [
        (name, pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if name.startswith("image_") else pa.string())
        for name in row("")
    ]
)


def read(tmp_path, *rows, file=FILE):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), tmp_path / file, row_group_size=100)
    return read_mmmu_pro(tmp_path)


def test_the_health_subjects_of_the_form_with_ten_options(tmp_path):
    subjects = ["History", *SUBJECTS, "Math"]
    rows = [row(f"test_{subject}_1", subject, images={1: number}) for number, subject in enumerate(subjects)]
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision" / "test-00000-of-00004.parquet").write_bytes(b"not even read")
    benchmark = read(tmp_path, *rows)
    assert [question.labels["subject"] for question in benchmark.questions] == list(SUBJECTS)
    first = benchmark.questions[0]
    assert (first.id, first.kind, first.answer) == ("mmmu-pro-health-test_Basic_Medical_Science_1", "mcq", "J")
    assert first.options == dict(zip("ABCDEFGHIJ", TEN, strict=True))
    assert first.labels == {
        "subject": "Basic_Medical_Science",
        "question type": "multiple-choice",
        "difficulty": "Hard",
        "image type": "Diagrams",
    }
    listed = "\n".join(f"{letter}. {text}" for letter, text in first.options.items())
    asked = f"?\n{listed}\nAnswer with the option's letter from the given choices directly."
    assert first.turns[0].content == ("Which, in", ImageRef(0), asked)
    for number, question in enumerate(benchmark.questions, start=1):
        assert np.array_equal(benchmark.image(question.images[0]), picture(number))
    assert benchmark.variant == "unknown (7)"


def test_all_subjects_are_counted_for_the_form(tmp_path):
    rows = [row(f"test_Math_{number}", "Math", images={}) for number in range(1_729)]
    benchmark = read(tmp_path, *rows, row("test_Pharmacy_1"))
    assert (len(benchmark.questions), benchmark.variant, benchmark.notes) == (1, "standard, 10 options", ())


def test_questions_of_several_files_are_one_benchmark(tmp_path):
    read(tmp_path, row("test_Pharmacy_1"))
    benchmark = read(tmp_path, row("test_Pharmacy_2", images={1: 7}), file=FILE.replace("test-00000", "test-00001"))
    assert [question.id for question in benchmark.questions] == [
        "mmmu-pro-health-test_Pharmacy_1",
        "mmmu-pro-health-test_Pharmacy_2",
    ]
    assert np.array_equal(benchmark.image(benchmark.questions[1].images[0]), picture(7))


def test_shuffled_options_show_the_image_of_their_number(tmp_path):
    options = ["<image 2>", "<image 1>", "<image 4>", "<image 3>", "none of them"]
    images = {1: 1, 2: 2, 3: 3, 4: 4}
    benchmark = read(tmp_path, row("test_Pharmacy_1", question="Which?", options=options, answer="C", images=images))
    question = benchmark.questions[0]
    shown = [part.index for part in question.turns[0].content if isinstance(part, ImageRef)]
    assert [benchmark.image(question.images[index]).tolist() for index in shown] == [
        picture(number).tolist() for number in (2, 1, 4, 3)
    ]


def test_true_or_false_has_two_options(tmp_path):
    rows = [row("test_Pharmacy_1"), row("test_Pharmacy_2", options=["False", "True"], answer="A")]
    assert read(tmp_path, *rows).questions[1].options == {"A": "False", "B": "True"}


def test_the_form_with_four_options_is_not_taken_for_it(tmp_path):
    with pytest.raises(UserError, match=r"no question has more than 4 options; give the folder `standard \(10 options"):
        read(tmp_path, row("test_Pharmacy_1", options=TEN[:4], answer="A"), file="test-00000-of-00002.parquet")


@pytest.mark.parametrize("answer", ["K", "", "disease 1"])
def test_a_letter_that_is_no_option_is_an_error(tmp_path, answer):
    with pytest.raises(UserError, match=r"row 1: `answer` is '.*', which is none of A, B, C, D, E, F, G, H, I, J"):
        read(tmp_path, row("test_Pharmacy_1", answer=answer))


@pytest.mark.parametrize("count", [0, 1, 27])
def test_a_count_of_options_that_has_no_letters_is_an_error(tmp_path, count):
    with pytest.raises(UserError, match=rf"row 2: has {count} options; 2 to 26 are needed"):
        read(tmp_path, row("test_Pharmacy_1"), row("test_Pharmacy_2", options=["x"] * count))


def test_what_is_missing_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"has no `standard \(10 options\)/test-\*\.parquet`; download MMMU/MMMU_Pro"):
        read_mmmu_pro(tmp_path)
    with pytest.raises(UserError, match=r"holds no questions"):
        read(tmp_path, row("test_Math_1", "Math"))
    pq.write_table(pa.table({"id": ["test_Math_1"], "image": ["vision"], "subject": ["Math"]}), tmp_path / FILE)
    with pytest.raises(UserError, match=r"has no column `question`"):
        read_mmmu_pro(tmp_path)
    (tmp_path / FILE).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"download it again"):
        read_mmmu_pro(tmp_path)
