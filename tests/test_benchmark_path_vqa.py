"""PathVQA: parquet of the hub, and the original pickles, which may do anything to who reads them."""

import os
import pickle
import struct
import subprocess

import numpy as np
import pytest
from benchmark_files import picture, png, write_parquet, write_png, write_zip

from gmai_vl.evaluation.benchmarks.path_vqa import read_path_vqa
from gmai_vl.foundation import UserError
from gmai_vl.records import ImageRef

ROWS = [
    {"image": "test_0001", "question": "Is it benign?", "answer": "Yes"},
    {"image": "test_0001", "question": "What is it?", "answer": "liver stem cells (oval cells), in-situ"},
    {"image": "test_0002", "question": "Is there no necrosis?", "answer": "no"},
]


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))


@pytest.fixture
def folder(tmp_path):
    """The original layout: pvqa/qas and pvqa/images."""
    write_pickle(tmp_path / "pvqa/qas/test/test_qa.pkl", ROWS)
    for number in (1, 2):
        write_png(tmp_path / f"pvqa/images/test/test_000{number}.jpg", number)
        write_png(tmp_path / f"pvqa/images/train/test_000{number}.jpg", 10 + number)
    return tmp_path


@pytest.fixture
def broken(folder):
    """Give what writes the pickle anew and reads it, as one line of error."""

    def said(content):
        write_pickle(folder / "pvqa/qas/test/test_qa.pkl", content)
        with pytest.raises(UserError) as error:
            read_path_vqa(folder)
        line = str(error.value)
        assert line.startswith(f"{folder}/pvqa/qas/test/test_qa.pkl: ")
        assert "\n" not in line and len(line) < 600
        return line

    return said


@pytest.mark.parametrize("protocol", range(6))
def test_the_original_pickle(folder, protocol):
    write_pickle(folder / "pvqa/qas/test/test_qa.pkl", pickle.dumps(ROWS, protocol))
    benchmark = read_path_vqa(folder)
    first, second, third = benchmark.questions
    assert (first.id, first.kind, first.answer) == ("path-vqa-1", "closed", "Yes")
    assert first.images == ("images/test/test_0001.jpg",)
    assert (second.kind, second.labels) == ("open", {"answer is yes or no": "open"})
    assert second.answer == "liver stem cells (oval cells), in-situ"
    assert (third.kind, third.labels) == ("closed", {"answer is yes or no": "closed"})
    assert first.patient == second.patient != third.patient
    assert np.array_equal(benchmark.image(third.images[0]), picture(2))
    assert benchmark.variant == "unknown (3)"
    assert benchmark.notes[0].startswith("path-vqa: has 3 questions; the published forms have 6,719")


def test_the_folder_or_the_file_may_be_given(folder):
    for data in (folder / "pvqa", folder / "pvqa/qas/test/test_qa.pkl"):
        assert len(read_path_vqa(data).questions) == 3


def test_images_in_a_zip(tmp_path):
    write_pickle(tmp_path / "qas/test/test_qa.pkl", ROWS)
    write_zip(tmp_path / "images.zip", {f"images/test/test_000{number}.jpg": number for number in (1, 2)})
    assert np.array_equal(read_path_vqa(tmp_path).image("images/test/test_0002.jpg"), picture(2))


def test_the_hubs_copy(tmp_path):
    for file, numbers in (("test-00000-of-00002-e9.parquet", [1, 1, 2]), ("test-00001-of-00002-7e.parquet", [2, 3])):
        table = [
            {"image": {"bytes": png(number), "path": None}, "question": f"is it {number}?", "answer": "yes"}
            for number in numbers
        ]
        write_parquet(tmp_path / "data" / file, table)
    write_parquet(tmp_path / "data/validation-00000-of-00001.parquet", table)
    benchmark = read_path_vqa(tmp_path, prompt="plain")
    assert [one.turns[0].content for one in benchmark.questions] == [
        (ImageRef(0), f"is it {number}?") for number in (1, 1, 2, 2, 3)
    ]
    for question, number in zip(benchmark.questions, (1, 1, 2, 2, 3), strict=True):
        assert np.array_equal(benchmark.image(question.images[0]), picture(number))
    first, second, third, fourth, fifth = (one.patient for one in benchmark.questions)
    assert first == second != third == fourth != fifth  # answers about one image are one cluster, in two files too
    assert len({one.id for one in benchmark.questions}) == 5


def test_a_row_of_the_hub_without_a_picture(tmp_path):
    table = [ROWS[0] | {"image": {"bytes": content, "path": None}} for content in (png(1), None)]
    write_parquet(tmp_path / "test-00000-of-00001.parquet", table)
    with pytest.raises(UserError, match=r"parquet: row 2: `image` holds no picture; download it again"):
        read_path_vqa(tmp_path)


@pytest.mark.parametrize(
    ("count", "variant"),
    [(6_761, "test, original"), (6_719, "test, the hub's copy without duplicates"), (6_760, "unknown (6,760)")],
)
def test_counts(folder, count, variant):
    write_pickle(folder / "pvqa/qas/test/test_qa.pkl", [ROWS[0]] * count)
    benchmark = read_path_vqa(folder)
    assert benchmark.variant == variant
    assert bool(benchmark.notes) == variant.startswith("unknown")


def test_what_is_missing_is_one_line(tmp_path, folder):
    (folder / "pvqa/images/test/test_0002.jpg").unlink()  # that of train has the same name
    with pytest.raises(UserError, match=r"pvqa: 1 images are missing, the first is images/test/test_0002\.jpg"):
        read_path_vqa(folder)
    with pytest.raises(UserError, match=r"has neither test-\*\.parquet nor pvqa/qas/test/test_qa\.pkl"):
        read_path_vqa(folder / "pvqa/images")


def test_no_image_from_outside_the_folder(folder):
    write_png(folder / "secret.jpg", 7)
    write_pickle(folder / "pvqa/qas/test/test_qa.pkl", [ROWS[0] | {"image": "../../../secret"}])
    with pytest.raises(UserError, match=r"1 images are missing, the first is images/test/\.\./"):
        read_path_vqa(folder)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_pickle_does_nothing(broken, tmp_path, protocol):
    written = pickle.dumps([*ROWS, Hostile(tmp_path / "made")], protocol)
    assert f"holds the class `{os.mkdir.__module__}.mkdir`" in broken(written)
    assert not (tmp_path / "made").exists()
    pickle.loads(written)
    assert (tmp_path / "made").exists()  # so that this test can fail


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.float64(1), "numpy"),
        (subprocess.Popen, "subprocess.Popen"),
        (eval, "eval"),
        (getattr, "getattr"),
        (object(), "object"),
        (Hostile, "Hostile"),
        ({"yes"}, "builtins.set"),
        (frozenset(["yes"]), "builtins.frozenset"),
        (bytearray(b"yes"), "builtins.bytearray"),
    ],
)
def test_every_class_is_forbidden(broken, value, named):
    line = broken(pickle.dumps([ROWS[0] | {"answer": value}], 5))
    assert "holds the class" in line and named in line


def test_plain_values_in_other_fields_are_no_harm(folder):
    spare = {"a": [1, 2.5, True, None, b"bytes", {"b": "c"}]}
    write_pickle(folder / "pvqa/qas/test/test_qa.pkl", [ROWS[0] | spare])
    assert read_path_vqa(folder).questions[0].answer == "Yes"


def test_a_short_pickle_cannot_ask_for_much_memory(broken):
    assert "remembers more values than it has bytes" in broken(b"\x80\x02]r" + struct.pack("<I", 2**24) + b".")
    assert "builtins.bytearray" in broken(b"\x80\x05\x96" + struct.pack("<Q", 3) + b"abc.")


def test_no_message_writes_out_nested_lists(broken):
    nested = ["yes"]
    for _ in range(16):  # 65,536 texts when written out; nothing keeps a file from having 60 levels
        nested = [nested, nested]
    assert "row 1: `answer` is no text" in broken([ROWS[0] | {"answer": nested}])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(ROWS)[:-20], "is no readable pickle"),
        (b"", "is no readable pickle"),
        (b"<html>not found</html>", "is no readable pickle"),
        (b"cos\nsystem\n(S'true'\ntR.", "holds the class `os.system`"),
        (b"ios\nsystem\n.", "is no readable pickle"),
        (b"Pname\n.", "is no readable pickle"),
        (b"]]\x85.", "is no list of questions"),
        (b"].", "is no list of questions"),
        ({"rows": ROWS}, "is no list of questions"),
        ([*ROWS, "test_0003"], "row 4: `image` is no text"),
        ([{"image": "test_0001", "question": "?"}], "row 1: `answer` is no text"),
        ([ROWS[0] | {"answer": 10**6000}], "row 1: `answer` is no text"),
    ],
)
def test_a_damaged_pickle_is_one_line(broken, content, said):
    assert said in broken(content)


def test_a_pickle_is_not_read_beyond_its_limit(broken, monkeypatch):
    monkeypatch.setattr("gmai_vl.evaluation.benchmarks.path_vqa.MAX_PICKLE", 100)
    assert "is larger than 100 bytes" in broken(ROWS)


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_answer_is_an_error(broken, empty):
    assert "row 2: `answer` is empty" in broken([ROWS[0], ROWS[1] | {"answer": empty}])


def test_equal_questions_stay_apart_and_count_each(folder):
    write_pickle(folder / "pvqa/qas/test/test_qa.pkl", [ROWS[0], ROWS[0], ROWS[2]])
    questions = read_path_vqa(folder).questions
    assert [one.id for one in questions] == ["path-vqa-1", "path-vqa-2", "path-vqa-3"]
    assert questions[0].patient == questions[1].patient  # but for an interval they are one cluster
