"""Existing questions and dialogues: all file forms give the same cases; what is no question is told with its reason."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gmai_vl.foundation import BadItem, UserError
from gmai_vl.records import Case, Conversation, ImageRef, Rejected, Turn
from gmai_vl.sources import TextSource, entries, list_items, read_item
from gmai_vl.sources.dialogue import cleaned, conversation_of

COLUMNS = {"question_column": "question", "answer_column": "answer", "image_column": "image"}
ROWS = [
    {"question": "Is the heart enlarged?", "answer": "No", "image": "a.png", "kind": "train", "who": "p1"},
    {"question": "What is hyponatremia?", "answer": "Low sodium.", "image": None, "kind": "train", "who": "p2"},
    {"question": "肺野是否清晰？", "answer": "是", "image": "a.png", "kind": "train", "who": "p1"},
    {"question": "Which side?", "answer": "left", "image": "b.png", "kind": "test", "who": "p3"},
]


def source(**keys: Any) -> TextSource:
    return TextSource.model_validate({"format": "text", "name": "t", "root": ".", "annotations": "q.json", **keys})


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)).save(path)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the form that the ending of `path` names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as stream:
            lines = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            lines.writeheader()
            lines.writerows(rows)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", 1)
    return tmp_path


def read(root: Path, **keys: Any) -> tuple[dict[str, Case], dict[str, Rejected]]:
    spec = source(**keys)
    found = [each for item in list_items(spec, root) for each in read_item(spec, root, item)]
    names = [each.item for each in found]
    assert len(set(names)) == len(names)
    return (
        {each.item: each for each in found if isinstance(each, Case)},
        {each.item: each for each in found if isinstance(each, Rejected)},
    )


def one(root: Path, row: dict[str, Any], **keys: Any) -> Conversation:
    write(root / "q.json", [row])
    cases, rejected = read(root, **keys)
    assert not rejected, rejected
    return next(iter(cases.values())).conversations[0]


def reason(root: Path, row: dict[str, Any], **keys: Any) -> str:
    write(root / "q.json", [row])
    cases, rejected = read(root, **keys)
    assert not cases
    (only,) = rejected.values()
    assert only.outcome == "quarantined"
    assert "\n" not in only.reason
    assert str(root) not in only.reason
    return only.reason


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "tsv", "parquet"])
def test_every_file_form_gives_the_same_cases(root: Path, ending: str) -> None:
    file = f"q.{ending}"
    write(root / file, ROWS)
    cases, rejected = read(root, **COLUMNS, annotations=file, where={"kind": ["train"]}, patient_column="who")
    assert set(cases) == {"a.png", f"{file}@row=2"}
    about_image, text = cases["a.png"], cases[f"{file}@row=2"]
    assert [each.name for each in about_image.conversations] == [f"{file}@row=1", f"{file}@row=3"]
    assert about_image.conversations[0].turns == (
        Turn("user", (ImageRef(0), "Is the heart enlarged?")),
        Turn("assistant", ("No",)),
    )
    assert [each.language for each in about_image.conversations] == ["en", "zh"]
    assert about_image.pixels.shape == (6, 8, 3)
    assert (about_image.task, about_image.dimension, about_image.patient_id) == ("qa", "2d", "p1")
    assert text.conversations[0].turns == (
        Turn("user", ("What is hyponatremia?",)),
        Turn("assistant", ("Low sodium.",)),
    )
    assert (text.dimension, text.pixels.shape, text.has_image, text.patient_id) == ("text", (0, 0), False, "p2")
    (excluded,) = rejected.values()
    assert (excluded.item, excluded.outcome) == (f"{file}@kind=test", "excluded")
    assert "1 rows" in excluded.reason


def test_values_that_where_leaves_out_are_counted_each_and_together_beyond_fifty(root: Path) -> None:
    write(root / "q.json", [{"question": "Q?", "answer": "A", "kind": str(number % 60)} for number in range(120)])
    cases, rejected = read(root, question_column="question", answer_column="answer", where={"kind": ["0"]})
    assert len(cases) == 2  # two equal rows of text are duplicates for the corpus to tell
    assert len(rejected) == 51
    assert "9 other values" in rejected["q.json@where"].reason


def test_ids_name_rows_and_one_that_stands_twice_gives_way_to_the_number(root: Path) -> None:
    rows = [
        {"id": id, "question": f"Q{number}?", "answer": "A"} for number, id in enumerate([7, "x", 7, None, "b\x00"])
    ]
    write(root / "q.json", rows)
    cases, rejected = read(root, question_column="question", answer_column="answer", id_column="id")
    assert set(cases) == {"q.json@id=7", "q.json@id=x", "q.json@row=3", "q.json@row=4"}
    assert set(rejected) == {"q.json@row=5"}


def test_an_equal_question_and_answer_about_one_picture_is_excluded(root: Path) -> None:
    write(root / "q.json", [ROWS[0], ROWS[0], ROWS[2]])
    cases, rejected = read(root, **COLUMNS)
    assert len(cases["a.png"].conversations) == 2
    assert rejected["q.json@row=2"].reason == "asks and answers the same as q.json@row=1"


LLAVA = [
    {"from": "human", "value": "<image>\nWhat is shown? "},
    {"from": "gpt", "value": "A chest X-ray."},
    {"from": "human", "value": "Is it normal?"},
    {"from": "gpt", "value": "Yes."},
]
MESSAGES = [
    {"role": "system", "content": "You are careful."},
    {
        "role": "user",
        "content": [{"type": "text", "text": "Look:"}, {"type": "image"}, {"type": "text", "text": "What?"}],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "A hand."}]},
]


@pytest.mark.parametrize("as_text", [False, True])
def test_llava_conversations_keep_rounds_and_the_place_of_the_image(root: Path, as_text: bool) -> None:
    row = {"image": "a.png", "talk": json.dumps(LLAVA) if as_text else LLAVA}
    conversation = one(root, row, conversations_column="talk", image_column="image")
    assert conversation.turns == (
        Turn("user", (ImageRef(0), "What is shown?")),
        Turn("assistant", ("A chest X-ray.",)),
        Turn("user", ("Is it normal?",)),
        Turn("assistant", ("Yes.",)),
    )
    after = [{"from": "human", "value": "What?\n<image>"}, LLAVA[1]]
    assert one(root, {"image": "a.png", "talk": after}, conversations_column="talk", image_column="image").turns[
        0
    ].content == ("What?", ImageRef(0))


def test_messages_keep_their_parts_and_may_name_the_image_themselves(root: Path) -> None:
    expected = (
        Turn("system", ("You are careful.",)),
        Turn("user", ("Look:", ImageRef(0), "What?")),
        Turn("assistant", ("A hand.",)),
    )
    assert one(root, {"m": MESSAGES, "i": ["b.png"]}, conversations_column="m", image_column="i").turns == expected
    named = json.loads(json.dumps(MESSAGES).replace('"image"', '"image_url", "image_url": {"url": "b.png"}'))
    assert one(root, {"m": named}, conversations_column="m").turns == expected
    assert "names no path" in reason(
        root, {"m": json.loads(json.dumps(named).replace("b.png", "https://x.org/b.png"))}, conversations_column="m"
    )


OPTIONS = {"question_column": "q", "answer_column": "a", "options_columns": ["A", "B", "C"]}


@pytest.mark.parametrize("answer", ["B", "(b)", "B.", "MRI", "mri", "B: MRI", " B "])
def test_a_choice_is_answered_by_letter_or_text(root: Path, answer: str) -> None:
    row = {"q": "Which?", "a": answer, "A": "CT", "B": "MRI", "C": "PET"}
    conversation = one(root, row, **OPTIONS)
    assert conversation.options == {"A": "CT", "B": "MRI", "C": "PET"}
    assert conversation.answer == "B"
    assert conversation.turns[-1].text == "MRI"


@pytest.mark.parametrize("options", [["CT", "MRI"], {"A": "CT", "B": "MRI", "C": None}, ["A: CT", " B:MRI "]])
def test_options_may_be_a_list_a_mapping_or_bear_their_letters(root: Path, options: Any) -> None:
    row = {"q": "Which?", "a": "B", "o": options}
    found = one(root, row, question_column="q", answer_column="a", options_columns=["o"])
    assert found.options == {"A": "CT", "B": "MRI"}


def test_a_row_without_options_among_others_is_an_open_question(root: Path) -> None:
    assert one(root, {"q": "Which?", "a": "B", "A": "", "B": None, "C": "NULL"}, **OPTIONS).options is None


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"a": "D"}, "neither a letter nor the text"),
        ({"a": "B", "A": "B", "B": "A"}, "several of its options"),
        ({"B": "ct"}, "read alike"),
        ({"B": None}, "1 of them empty"),
        ({"B": None, "C": None}, "has 1 options"),
        ({"A": ["CT"]}, "is a list"),
        ({"a": None}, "no answer"),
    ],
)
def test_a_choice_that_is_none_is_quarantined(root: Path, row: dict[str, Any], words: str) -> None:
    assert words in reason(root, {"q": "Which?", "a": "B", "A": "CT", "B": "MRI", "C": "PET", **row}, **OPTIONS)


@pytest.mark.parametrize("nothing", [None, "", "  \n", "NULL", "null", "nan", float("nan"), float("inf")])
def test_what_means_nothing_is_quarantined(root: Path, nothing: Any) -> None:
    for column in ("question", "answer"):
        words = reason(root, {**ROWS[1], column: nothing}, **COLUMNS)
        assert "empty" in words or "no answer" in words


def test_numbers_are_answers_and_truth_values_are_not(root: Path) -> None:
    assert one(root, {**ROWS[1], "answer": 3}, **COLUMNS).turns[-1].text == "3"
    assert one(root, {**ROWS[1], "answer": 3.0}, **COLUMNS).turns[-1].text == "3"
    assert one(root, {**ROWS[1], "answer": 0.5}, **COLUMNS).turns[-1].text == "0.5"
    assert one(root, {**ROWS[1], "answer": "None"}, **COLUMNS).turns[-1].text == "None"
    assert "is a bool" in reason(root, {**ROWS[1], "answer": True}, **COLUMNS)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"answer": "a\x00b"}, "control character U+0000"),
        ({"answer": "a\ud800b"}, "control character U+D800"),
        ({"answer": {"a": 1}}, "is a dict"),
        ({"answer": "x" * 100_001}, "more than the limit"),
        ({"question": "<image> What?"}, "shows an image, but the row names none"),
        ({"question": "<image>"}, "is empty"),
        ({"image": "../a.png"}, "no path below"),
        ({"image": "/etc/passwd"}, "no path below"),
        ({"image": "x\\a.png"}, "no path below"),
        ({"image": "a\x01.png"}, "control character"),
        ({"image": "n" * 300 + ".png"}, "no path below"),
        ({"image": "absent.png"}, "is no file"),
        ({"image": ["a.png", "b.png", "c.png"]}, "shows 3 images"),
        ({"image": {"bytes": "xx"}}, "is a dict"),
        ({"image": "a.png", "question": "<image> and <image>?"}, "shows its image 2 times"),
        ({"image": "a.png", "answer": "see <image>"}, None),
    ],
)
def test_faults_of_a_row_are_told(root: Path, row: dict[str, Any], words: str | None) -> None:
    if words is None:
        assert one(root, {**ROWS[1], **row}, **COLUMNS).turns[-1].text == "see <image>"
    else:
        assert words in reason(root, {**ROWS[1], **row}, **COLUMNS)


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        ([], "no list of turns"),
        ("hello", "is no JSON"),
        ({"from": "human"}, "no list of turns"),
        (LLAVA[1:], "turn 1 is said by the assistant"),
        (LLAVA[:1], "does not end with an answer"),
        (LLAVA[:1] * 2, "turn 2 is said by the user; expected the assistant"),
        ([{"from": "human", "value": "Hi"}, LLAVA[1], MESSAGES[0]], "turn 3 is said by the system"),
        ([{"from": "narrator", "value": "Hi"}], "'narrator'"),
        ([{"from": "human", "value": " "}, LLAVA[1]], "turn 1 is empty"),
        ([LLAVA[0], {"from": "gpt", "value": "see <image>"}], "shows its image 2 times"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "part of type 'audio'"),
        (LLAVA * 51, "204 turns"),
    ],
)
def test_faults_of_a_conversation_are_told(root: Path, talk: Any, words: str) -> None:
    assert words in reason(root, {"image": "a.png", "talk": talk}, conversations_column="talk", image_column="image")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is shown?", "en"),
        ("这是什么？", "zh"),
        ("该患者的 T2 FLAIR 序列显示什么异常？", "zh"),
        ("Which word means 肺炎 in the report of this patient?", "en"),
        ("1 + 1 = ?", "en"),
    ],
)
def test_the_language_is_that_of_the_letters_unless_told(root: Path, text: str, language: str) -> None:
    row = {"question": text, "answer": "1", "image": None, "lang": "zh-CN"}
    assert one(root, row, **COLUMNS).language == language
    assert one(root, row, **COLUMNS, language="en").language == "en"
    assert one(root, row, **COLUMNS, language_column="lang").language == "zh"
    assert "'Klingon'" in reason(root, {**row, "lang": "Klingon"}, **COLUMNS, language_column="lang")


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    picture(tmp_path / "secret.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a.png").symlink_to(tmp_path / "secret.png")
    assert "leads out" in reason(tmp_path / "root", ROWS[0], **COLUMNS)
    (tmp_path / "root/q.json").unlink()
    write(tmp_path / "outside.json", ROWS)
    (tmp_path / "root/q.json").symlink_to(tmp_path / "outside.json")
    _, rejected = read(tmp_path / "root", **COLUMNS)
    assert "leads out" in rejected["q.json"].reason


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("q.json", b"{", "is no JSON"),
        ("q.json", b'{"a": 1}', "0 lists"),
        ("q.json", b"[]", "no entries"),
        ("q.json", b"7", "no list of objects"),
        ("q.json", b"[" * 100_000, "is no JSON"),
        ("q.json", "[{'é'".encode("latin-1"), "not UTF-8"),
        ("q.csv", b'question,answer,image\n"a,b,\n', "unexpected end of data"),
        ("q.csv", b"question,question,answer,image\n", "same name"),
        ("q.csv", "question,answer,image\né,b,".encode("latin-1"), "not UTF-8"),
        ("q.parquet", b"PAR1", "no readable Parquet"),
    ],
)
def test_a_damaged_file_is_quarantined_as_one(root: Path, name: str, content: bytes, words: str) -> None:
    (root / name).write_bytes(content)
    cases, rejected = read(root, **COLUMNS, annotations=name)
    assert not cases
    assert words in rejected[name].reason
    assert "\n" not in rejected[name].reason


def test_a_file_that_unpacks_without_end_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_UNPACKED", 2**20)
    nothing = pa.nulls(100_000, pa.string())
    pq.write_table(pa.table({"question": nothing, "answer": nothing, "image": nothing}), root / "q.parquet")
    assert (root / "q.parquet").stat().st_size < 20_000
    cases, rejected = read(root, **COLUMNS, annotations="q.parquet")
    assert "100 times its size" in rejected["q.parquet"].reason
    assert not cases


def test_bad_lines_leave_the_good_ones(root: Path) -> None:
    (root / "q.jsonl").write_bytes(json.dumps(ROWS[1]).encode() + b"\n{\n[1]\n\xff\n\n")
    cases, rejected = read(root, **COLUMNS, annotations="q.jsonl")
    assert list(cases) == ["q.jsonl@row=1"]
    assert sorted(rejected) == ["q.jsonl@row=2", "q.jsonl@row=3", "q.jsonl@row=4"]
    (root / "q.csv").write_text("question,answer,image\nQ?,A,,more\nR?,A\n")
    cases, rejected = read(root, **COLUMNS, annotations="q.csv")
    assert (list(cases), list(rejected)) == (["q.csv@row=2"], ["q.csv@row=1"])


@pytest.mark.parametrize("ending", ["json", "csv", "parquet"])
def test_a_column_that_is_not_there_is_the_users_mistake(root: Path, ending: str) -> None:
    write(root / f"q.{ending}", ROWS)
    with pytest.raises(
        UserError, match=r"source `t`: annotations: q.* has no column `questoin`; did you mean `question`"
    ):
        list_items(source(**COLUMNS | {"question_column": "questoin"}, annotations=f"q.{ending}"), root)
    with pytest.raises(UserError, match="source `t`: annotations: no file that ends in"):
        list_items(source(**COLUMNS, annotations="x.json"), root)


def test_patients_of_one_picture_must_agree(root: Path) -> None:
    write(root / "q.json", [ROWS[0], ROWS[2] | {"who": "p9"}])
    _, rejected = read(root, **COLUMNS, patient_column="who")
    assert "2 patients" in rejected["a.png"].reason


def test_a_changed_file_is_read_again(root: Path) -> None:
    write(root / "q.json", ROWS[:1])
    assert len(read(root, **COLUMNS)[0]) == 1
    write(root / "q.json", ROWS)
    assert len(read(root, **COLUMNS)[0]) == 3


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1).filter(
    lambda text: cleaned(text, "")
)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_texts_come_out_as_they_went_in(rounds: list[tuple[str, str]]) -> None:
    talk = [
        each for asked, said in rounds for each in ({"from": "human", "value": asked}, {"from": "gpt", "value": said})
    ]
    try:
        found = conversation_of(source(conversations_column="t"), {"t": json.dumps(talk)}, "n", 0)
    except BadItem:
        assert any("<image>" in text for each in rounds for text in each)
        return
    texts = [text.strip().strip("\ufeff \n\t").strip() for each in rounds for text in each]
    assert [turn.text for turn in found.turns] == texts


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["human", "gpt", "<image>"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["from", "value", "role", "content", "type", "text"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, JSON, JSON)
def test_no_value_breaks_the_reader(one: Any, two: Any, three: Any) -> None:
    talk, columns = (
        source(conversations_column="t"),
        source(question_column="q", answer_column="a", options_columns=["o"]),
    )
    for spec in (talk, columns):
        try:
            conversation = conversation_of(spec, {"t": one, "q": one, "a": two, "o": three}, "n", 0)
        except BadItem as bad:
            assert str(bad).isprintable()
        else:
            assert conversation.turns[-1].role == "assistant"
