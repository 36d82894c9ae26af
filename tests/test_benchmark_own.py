"""People's own questions: tables of five kinds, and messages."""

import numpy as np
import pytest
from benchmark_files import picture, png, write_csv, write_json, write_json_lines, write_parquet, write_png, write_tsv

from gmai_vl.evaluation import judge, score
from gmai_vl.evaluation.benchmarks.own import read_own
from gmai_vl.foundation import BadItem, UserError
from gmai_vl.records import ImageRef, Turn

ROWS = [
    {"id": "q1", "question": "Which?", "answer": "B", "image": "a.png; sub/b.png", "A": "cyst", "B": "None", "ward": 3},
    {"id": 7, "question": "Is it benign?", "answer": "No", "image": "a.png", "A": "", "B": "", "ward": ""},
    {"id": "", "question": "这是什么？", "answer": "囊肿", "image": "", "A": "", "B": "", "ward": "east"},
]


@pytest.fixture
def folder(tmp_path):
    write_png(tmp_path / "a.png", 0)
    write_png(tmp_path / "sub" / "b.png", 1)
    write_png(tmp_path / "sub" / "a.png", 2)  # another one: paths are whole
    return tmp_path


def read(folder, *rows):
    write_json_lines(folder / "questions.jsonl", list(rows))
    return read_own(folder)


def one(folder, **changed):
    return read(folder, {"question": "Why?", "answer": "because", **changed}).questions[0]


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_a_table_of_every_kind(folder, kind):
    path = folder / f"mine.{kind}"
    writers = {"csv": write_csv, "tsv": write_tsv, "json": write_json, "jsonl": write_json_lines}
    rows = [{name: str(text) for name, text in row.items()} for row in ROWS] if kind == "parquet" else ROWS
    writers.get(kind, write_parquet)(path, rows)
    benchmark = read_own(path)
    choice, closed, free = benchmark.questions
    assert [question.id for question in benchmark.questions] == ["own-q1", "own-7", "own-3"]
    assert (choice.kind, choice.answer, choice.options) == ("mcq", "B", {"A": "cyst", "B": "None"})
    assert choice.images == ("a.png", "sub/b.png")
    assert choice.turns[0].content == (
        ImageRef(0),
        ImageRef(1),
        "Which?\nA. cyst\nB. None\nAnswer with the option's letter from the given choices directly.",
    )
    assert (closed.kind, closed.answer, closed.options, closed.language) == ("closed", "No", None, "en")
    assert (free.kind, free.answer, free.images, free.language) == ("open", "囊肿", (), "zh")
    assert free.turns[0].text == "这是什么？\n请用一个词或短语回答问题。"
    assert [dict(question.labels) for question in benchmark.questions] == [{"ward": "3"}, {}, {"ward": "east"}]
    assert np.array_equal(benchmark.image("a.png"), picture(0))
    assert np.array_equal(benchmark.image("sub/b.png"), picture(1))
    assert (benchmark.name, benchmark.variant, benchmark.notes) == ("own", f"mine.{kind} (3)", ())


def test_kind_language_and_patient_are_taken_as_told(folder):
    rows = [
        {"question": "Which?", "answer": "left", "kind": "closed", "language": "zh", "patient": 12, "site": "a"},
        {"question": "哪边？", "answer": "yes", "kind": "open", "language": "en", "patient": "12"},
    ]
    first, second = read(folder, *rows).questions
    assert (first.kind, first.language, first.labels) == ("closed", "zh", {"site": "a"})
    assert (second.kind, second.language) == ("open", "en")
    assert first.patient == second.patient == ("own", "12")


def test_prompts_by_name(folder):
    write_csv(folder / "mine.csv", ROWS[:1])
    assert read_own(folder / "mine.csv", "plain").questions[0].turns[0].text == "Which?\nA. cyst\nB. None"
    with pytest.raises(UserError, match=r"--prompt plane: no prompt of that name"):
        read_own(folder / "mine.csv", "plane")


def test_not_a_number_is_an_absent_cell_and_none_is_a_text(folder):
    rows = [
        {"question": "Which?", "answer": "A", "A": "None", "B": "nan", "C": None, "image": float("nan"), "grade": 2.5},
        {"question": "Which?", "answer": "B", "A": "NA", "B": "N/A", "C": None, "image": None, "grade": float("nan")},
    ]
    write_parquet(folder / "questions.parquet", rows)
    first, second = read_own(folder).questions
    assert (first.options, second.options) == ({"A": "None", "B": "nan"}, {"A": "NA", "B": "N/A"})
    assert (first.images, first.labels, second.labels) == ((), {"grade": "2.5"}, {})


def test_nine_options(folder):
    options = {letter: f"number {letter}" for letter in "ABCDEFGHI"}
    question = one(folder, answer="I", **options)
    assert (question.options, question.answer) == (options, "I")


def test_an_answer_may_be_the_text_of_one_option(folder):
    assert one(folder, answer="cyst", A="mass", B="cyst").answer == "B"
    assert one(folder, answer="A", A="B", B="A").answer == "A"  # a letter is a letter first
    with pytest.raises(UserError, match=r"row 1: the answer 'cyst' is 2 of its options; give a letter"):
        one(folder, answer="cyst", A="cyst", B="cyst")
    with pytest.raises(UserError, match=r"row 1: the answer 'C' is 0 of its options; give a letter"):
        one(folder, answer="C", A="cyst", B="mass")


@pytest.mark.parametrize("empty", ["", "  ", None, float("nan")])
@pytest.mark.parametrize("column", ["question", "answer"])
def test_an_empty_question_or_answer_is_an_error(folder, column, empty):
    with pytest.raises(UserError, match=rf"questions\.jsonl: row 2: `{column}` is empty"):
        read(folder, {"question": "Why?", "answer": "so"}, {"question": "Why?", "answer": "so", column: empty})


def test_kinds_and_languages_that_are_none(folder):
    with pytest.raises(UserError, match=r"row 1: `kind` is 'opne'; did you mean `open`"):
        one(folder, kind="opne")
    with pytest.raises(UserError, match=r"row 1: `kind` is mcq, and it has 0 options"):
        one(folder, kind="mcq")
    with pytest.raises(UserError, match=r"row 1: `kind` is open, and it has 2 options"):
        one(folder, kind="open", A="a", B="b")
    with pytest.raises(UserError, match=r"row 1: `language` is 'fr'; known: `en`, `zh`"):
        one(folder, language="fr")


def test_images_lie_below_the_folder(folder):
    write_png(folder.parent / "outside.png", 5)
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    for name in ("gone.png", "../outside.png", str(folder.parent / "outside.png"), "link.png", "x\0y", "z" * 5_000):
        with pytest.raises(UserError, match=r"1 images are missing or outside of it, the first is '"):
            one(folder, image=name)
    assert one(folder, image=["sub/a.png", "a.png"]).images == ("sub/a.png", "a.png")


def test_a_damaged_image_is_a_bad_item(folder):
    (folder / "bad.png").write_bytes(b"\x89PNG")
    benchmark = read(folder, {"question": "Why?", "answer": "so", "image": "bad.png"})
    with pytest.raises(BadItem, match=r"bad\.png"):
        benchmark.image("bad.png")


def test_marks_place_images_and_name_all_of_them_or_none(folder):
    marked = one(folder, question="From <image 2> to <image 1>?", image="a.png;sub/b.png")
    assert marked.turns[0].content[:4] == ("From", ImageRef(1), "to", ImageRef(0))
    with pytest.raises(UserError, match=r"row 1: `<image 2>` stands in a question with 1 images"):
        one(folder, question="<image 2>?", image="a.png")
    with pytest.raises(UserError, match=r"row 1: has 2 images, but marks for 1; mark all of them or none"):
        one(folder, question="<image 2>?", image="a.png;sub/b.png")


def test_ids_differ(folder):
    with pytest.raises(UserError, match=r"2 questions have the id own-7; each needs its own"):
        read(folder, {"id": 7, "question": "a?", "answer": "b"}, {"id": "7", "question": "c?", "answer": "d"})


def test_labels_are_values_to_give_scores_by(folder):
    given = {
        "site": " b ",
        "contrast": True,
        "year": 2024,
        "boxes": [1, 2],
        "more": {"a": 1},
        "blank": "",
        "gone": None,
    }
    assert one(folder, **given).labels == {"site": "b", "contrast": "True", "year": "2024"}


def test_scores_are_given_by_labels_that_have_the_name_of_a_field(folder):
    rows = [
        {"question": "Why?", "answer": "because", "source": source, "modality": modality}
        for source, modality in (("s", "CT"), ("s", "MR"), ("t", None))
    ]
    questions = read(folder, *rows).questions
    told = score(judge(questions, {question.id: "because" for question in questions}), benchmark="own", variant="")
    groups = {name: {value: group["n"] for value, group in told["groups"][name].items()} for name in told["groups"]}
    assert (groups["source"], groups["modality"]) == ({"s": 2, "t": 1}, {"CT": 1, "MR": 1})


@pytest.mark.parametrize("packed", [png, lambda number: {"bytes": png(number), "path": None}], ids=["bytes", "struct"])
def test_a_parquet_file_may_hold_the_pictures_themselves(folder, packed):
    rows = [
        {"id": f"{number}", "question": "Which?", "A": "cyst", "B": "none", "answer": "A", "image": packed(number % 3)}
        for number in range(5)
    ]
    write_parquet(folder / "items.parquet", [row | {"index": 3, "patient_id": "p", "ward": "east"} for row in rows])
    benchmark = read_own(folder / "items.parquet", "reason")
    for number, question in enumerate(benchmark.questions):
        assert np.array_equal(benchmark.image(question.images[0]), picture(number % 3))
        assert (question.patient_id, question.labels) == ("p", {"ward": "east"})
        assert [type(part) for part in question.turns[0].content] == [ImageRef, str]
    assert benchmark.questions[0].images == benchmark.questions[3].images  # answers about them are not independent
    write_parquet(folder / "items.parquet", [*rows, rows[0] | {"image": None}])
    with pytest.raises(UserError, match=r"items.parquet: row 6: `image` holds no picture"):
        read_own(folder / "items.parquet")


def test_which_file_is_one_line(folder):
    with pytest.raises(UserError, match=r"holds 0 tables; give a file that ends in \.json"):
        read_own(folder)
    with pytest.raises(UserError, match=r"no such file or folder"):
        read_own(folder / "gone.csv")
    with pytest.raises(UserError, match=r"give a file that ends in"):
        read_own(folder / "a.png")
    write_csv(folder / "questions.csv", [{"question": "Why?", "anser": "so"}])
    with pytest.raises(UserError, match=r"has no column `answer`; did you mean `anser`"):
        read_own(folder)
    write_csv(folder / "questions.tsv", ROWS)
    with pytest.raises(UserError, match=r"holds 2 tables"):
        read_own(folder)
    (folder / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"bad\.parquet: cannot be read"):
        read_own(folder / "bad.parquet")


def said(role, *content):
    parts = [
        {"type": "image", "image": part[1:]} if part[0] == "@" else {"type": "text", "text": part} for part in content
    ]
    return {"role": role, "content": parts}


def test_messages_are_asked_as_they_stand(folder):
    messages = [
        {"role": "system", "content": "Be short."},
        said("user", "Before", "@a.png", "and after", "@sub/b.png"),
        {"role": "assistant", "content": "Seen."},
        said("user", "Is it benign?"),
        said("assistant", "no"),
    ]
    more = [said("user", "Which?"), said("assistant", "cyst")]
    rows = [{"id": "m", "messages": messages, "ward": "east"}, {"messages": more, "A": "mass", "B": "cyst"}]
    first, second = read(folder, *rows).questions
    assert first.turns == (
        Turn("system", ("Be short.",)),
        Turn("user", ("Before", ImageRef(0), "and after", ImageRef(1))),
        Turn("assistant", ("Seen.",)),
        Turn("user", ("Is it benign?",)),
    )
    assert (first.images, first.stem, first.answer) == (("a.png", "sub/b.png"), "Is it benign?", "no")
    assert (first.kind, first.labels) == ("closed", {"ward": "east"})
    assert (second.kind, second.answer, second.turns[0].content) == ("mcq", "B", ("Which?",))


def test_rows_and_messages_may_stand_in_one_file(folder):
    messages = [said("user", "Which?"), said("assistant", "this")]
    first, second = read(
        folder, {"messages": messages}, {"question": "Why?", "answer": "so", "image": "a.png"}
    ).questions
    assert (first.answer, second.answer, second.images) == ("this", "so", ("a.png",))


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "do not end with one of the user and one of the assistant"),
        ("hello", "do not end with"),
        ([said("assistant", "yes")], "do not end with"),
        ([said("user", "a?"), said("assistant", "b"), said("user", "c?")], "do not end with"),
        ([said("user", "a?"), said("assistant", " ")], "it needs a text and no image"),
        ([said("user", "a?"), said("assistant", "b", "@a.png")], "it needs a text and no image"),
        ([{"role": "human", "content": "a?"}, said("assistant", "b")], "has the role 'human'"),
        (["a?", said("assistant", "b")], "has the role None"),
        ([{"role": "user", "content": 5}, said("assistant", "b")], "has the content 5"),
        (
            [{"role": "user", "content": [{"type": "video", "video": "x"}]}, said("assistant", "b")],
            "no part of a message",
        ),
        (
            [{"role": "user", "content": [{"type": "image", "image": 5}]}, said("assistant", "b")],
            "no part of a message",
        ),
        ([{"role": "user", "content": ["a?"]}, said("assistant", "b")], "no part of a message"),
    ],
)
def test_messages_that_are_none(folder, messages, fault):
    with pytest.raises(UserError, match=rf"questions\.jsonl: row 1: .*{fault}"):
        read(folder, {"messages": messages})


def test_an_image_beside_messages_is_an_error(folder):
    with pytest.raises(UserError, match=r"row 1: has `image` beside `messages`; name the image in a message"):
        read(folder, {"messages": [said("user", "a?"), said("assistant", "b")], "image": "a.png"})
