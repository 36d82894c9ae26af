"""The record forms of GMAI-Reasoning10K: written, read again, and an official file made into a folder of questions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_recipes import save, write_picture
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gmai_vl.cli import app
from gmai_vl.foundation import BadItem, UserError
from gmai_vl.reasoning.items import SIDES, Side, read_items, side_file
from gmai_vl.reasoning.questions import import_questions
from gmai_vl.reasoning.questions.r10k import Record, record_of, rl_entry, sft_entry
from gmai_vl.reasoning.questions.wording import parted
from gmai_vl.records import pixel_sha256
from gmai_vl.sources.images import read_image

DATASETS = {"ct": "organs", "dermoscopy": "moles", "x_ray": "chests"}
OPTIONS = {"A": "cyst", "B": "glioma", "C": "meningioma", "D": "no finding"}
QUESTION = "<image>\nWhat does the picture show?\nA. cyst\nB. glioma\nC. meningioma\nD. no finding"


def entry(said: Any, *, asked: Any = QUESTION, image: Any = "images/2d/cls/ct/organs/1.png") -> dict[str, Any]:
    return {"image": image, "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]}


WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp", "Cf")), min_size=1, max_size=12)
SAID = st.lists(WORDS, min_size=1, max_size=4).map(" ".join).filter(lambda text: "<" not in text)
STEMS = st.lists(SAID, min_size=1, max_size=3).map("\n".join).map("Look: ".__add__)
REASONING = st.lists(SAID, min_size=1, max_size=4).map("\n".join).filter(lambda text: text.strip() == text)


@given(STEMS, st.lists(SAID, min_size=2, max_size=9), st.data())
def test_both_forms_are_read_as_they_were_written(stem: str, texts: list[str], data: st.DataObject) -> None:
    options = {letter: f"an {text}" for letter, text in zip("ABCDEFGHI", texts, strict=False)}
    answer = data.draw(st.sampled_from(sorted(options)))
    bare = Record(image="images/1.png", stem=stem, options=options, answer=answer)
    if stem.split("\n")[-1].lower().rstrip(":： ") in ("options", "choices", "answer choices", "选项"):
        return
    assert record_of(json.loads(json.dumps(rl_entry(bare)))) == bare
    thought = Record(image=bare.image, stem=stem, options=options, answer=answer, reasoning=data.draw(REASONING))
    assert record_of(json.loads(json.dumps(sft_entry(thought)))) == thought


def test_the_forms_as_published() -> None:
    record = Record(image="a.png", stem="What?", options={"A": "cyst", "B": "no"}, answer="B", reasoning="Dark.")
    asked = {"from": "human", "value": "<image>\nWhat?\nA. cyst\nB. no"}
    assert rl_entry(record) == {"image": "a.png", "conversations": [asked, {"from": "gpt", "value": "B"}]}
    said = "<think>Dark.</think><answer>B</answer>"
    assert sft_entry(record) == {"image": "a.png", "conversations": [asked, {"from": "gpt", "value": said}]}
    for reasoning, fault in ((None, "has no reasoning"), (" ", "has no"), ("a </think> b", "holds the tag </think>")):
        with pytest.raises(BadItem, match=fault):
            sft_entry(Record(image="a", stem="b", options={"A": "c", "B": "d"}, answer="A", reasoning=reasoning))


@pytest.mark.parametrize(
    ("text", "stem", "options"),
    [
        ("What?\nA. cyst\nB. no", "What?", ["cyst", "no"]),
        ("What?\nA: cyst\nB: no\nC: yes", "What?", ["cyst", "no", "yes"]),
        ("What?\n(A) cyst\n(B) no", "What?", ["cyst", "no"]),
        ("What?\nA) cyst\nB) no", "What?", ["cyst", "no"]),
        ("Question?\n  A . cyst\n\n  B . no \n", "Question?", ["cyst", "no"]),
        ("这是什么？\nA．囊肿\nB．无", "这是什么？", ["囊肿", "无"]),
        ("What? A. cyst B. no finding C. D2 lesion", "What?", ["cyst", "no finding", "D2 lesion"]),
        ("What?\nOptions:\nA. cyst\nB. no\nAnswer with the option's letter.", "What?", ["cyst", "no"]),
        ("What?\nA. a cyst\n  of the liver\nB. no\nPlease choose one.", "What?", ["a cyst of the liver", "no"]),
        ("What?\nA. cyst\nB. no\n\nThe patient is 40.", "What?\nThe patient is 40.", ["cyst", "no"]),
        ("Two views.\nA. frontal\nB. lateral\nWhich is better?\nA. B\nB. A", None, ["B", "A"]),
    ],
)
def test_options_are_told_from_the_words(text: str, stem: str | None, options: list[str]) -> None:
    told, found = parted(text)
    assert list(found.values()) == options and list(found) == list("ABCD"[: len(options)])
    assert told == (stem or "Two views.\nA. frontal\nB. lateral\nWhich is better?")


@pytest.mark.parametrize(
    ("said", "answer", "reasoning"),
    [
        ("B", "B", None),
        (" (b). ", "B", None),
        ("B. glioma", "B", None),
        ("<think>It is dark.</think><answer>C</answer>", "C", "It is dark."),
        ("<think>\nDark,\nround.\n</think>\n<answer> C. meningioma </answer>", "C", "Dark,\nround."),
        ("It is dark. <answer>A</answer>", "A", "It is dark."),
        ("It is not a cyst, but solid.\nAnswer: B", "B", "It is not a cyst, but solid.\nAnswer: B"),
        ("Solid, so the answer is C.", "C", "Solid, so the answer is C."),
    ],
)
def test_answers_are_read_with_the_reasoning_before_them(said: str, answer: str, reasoning: str | None) -> None:
    record = record_of(entry(said))
    assert (record.answer, record.reasoning, record.options) == (answer, reasoning, OPTIONS)
    assert (record.modality, record.dataset, record.stem) == ("ct", "organs", "What does the picture show?")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (entry("E"), "its answer is none of its options: E, of A, B, C, D"),
        (entry("<think>x</think><answer>F</answer>"), "its answer is none of its options: F"),
        (entry("It may be a cyst or a glioma."), "no answer can be read out of its words: "),
        (entry("<think>it is B"), "no answer can be read out of its words: "),
        (entry(""), "its answer is empty"),
        (entry(float("nan")), "its answer is empty"),
        (entry(["B"]), "the answer is a list, not a text"),
        (entry("B", asked="<image>\nWhat is it?"), "no options can be told from its words"),
        (
            entry("A", asked="<image>\nWhat?\nA. cyst\nC. no"),
            "its options are not lettered A, B, C in this order: A, C",
        ),
        (entry("A", asked="<image>\nWhat?\nA. cyst\nB.\nC. no"), "one of its options is empty: B"),
        (entry("A", asked=QUESTION + "\ud800"), "the question holds the control character U\\+D800"),
        (entry("A", asked="<image>" + QUESTION), "shows more than one image"),
        (entry("A", asked=QUESTION + " x" * 60_000), "is longer than 100000 characters"),
        (entry("B", image=None), "names no image"),
        (entry("B", image=float("nan")), "names no image"),
        (entry("B", image=["a", "b"]), "names several images"),
        (entry("B", image={"a": 1}), "its image is a dict, not a text"),
        ({"image": "a.png", "conversations": "B"}, "its conversation is a text that is no JSON"),
        ({"image": "a.png", "conversations": [{"from": "gpt", "value": "B"}]}, "is not one question with one answer"),
        ({"image": "a.png", "conversations": [{"from": 3}, {}]}, "is not one question with one answer"),
        ({"image": "a.png"}, "its conversation is no list of turns"),
    ],
)
def test_a_record_that_cannot_be_used_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadItem, match=f"^{reason}"):
        record_of(row)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as published: 60 pictures of three datasets, two questions about each."""
    folder = tmp_path_factory.mktemp("official")
    lines = []
    for number in range(60):
        modality = list(DATASETS)[number % 3]
        image = f"images/2d/cls/{modality}/{DATASETS[modality]}/{number}.png"
        write_picture(folder / image, seed=number)
        lines.append(entry("ABCD"[number % 4], image=image))
        lines.append(entry("A", image=image, asked=f"<image>\nIs it {number}?\nA. yes\nB. no"))
    write_lines(folder / "rl.jsonl", lines)
    return folder


def write_lines(path: Path, lines: list[Any]) -> Path:
    path.write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines))
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def sides_of(folder: Path) -> dict[Side, list[dict[str, Any]]]:
    return {side: lines_of(side_file(folder, side)) for side in SIDES}


def test_an_official_file_becomes_a_folder(official: Path, tmp_path: Path) -> None:
    out = tmp_path / "q"
    built = import_questions(official / "rl.jsonl", official, out, hold_out=["moles"])
    sides = sides_of(out)
    assert {side: len(rows) for side, rows in sides.items()} == built.questions
    assert sum(built.questions.values()) == 120 and built.questions["held_out"] == 40
    assert {row["source"] for row in sides["held_out"]} == {"moles"}
    assert {row["modality"] for row in sides["train"]} == {"ct", "x_ray"}
    on: dict[str, set[Side]] = {}
    for side, rows in sides.items():
        for row in rows:
            on.setdefault(row["image"], set()).add(side)
    assert len(on) == 60 and all(len(each) == 1 for each in on.values())
    assert 24 <= len({row["image"] for row in sides["train"]}) <= 40 and sides["val"] and sides["test"]
    right = {(pixel_sha256(read_image(official / row["image"])), parted(row["conversations"][0]["value"])[0]): row
             for row in lines_of(official / "rl.jsonl")}  # fmt: skip
    for side in SIDES:
        items = read_items(out, side)
        for question in items.questions:
            name = Path(question.images[0]).stem
            source = right[name, f"<image>\n{question.stem}"]
            _, options = parted(source["conversations"][0]["value"])
            assert question.options[question.answer] == options[source["conversations"][1]["value"]]
            assert np.array_equal(items.image(question.images[0]), read_image(official / source["image"]))
    assert lines_of(out / "left_out.jsonl") == [] and built.left_out == {}
    assert built.manifest["imported"]["file"] == "rl.jsonl" and built.manifest["licences"]["strictest"] == "unknown"


def test_the_same_file_and_seed_give_the_same_bytes(official: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        import_questions(official / "rl.jsonl", official, tmp_path / name, seed=seed)
    one, two, three = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")
         if path.is_file()} for name in ("one", "two", "three")
    )  # fmt: skip
    assert one == two and one != three


def test_the_train_side_is_written_in_the_published_form_and_read_again(official: Path, tmp_path: Path) -> None:
    import_questions(official / "rl.jsonl", official, tmp_path / "q")
    train = {row["id"]: row for row in sides_of(tmp_path / "q")["train"]}
    written = lines_of(tmp_path / "q" / "reasoning_mcq_rl.jsonl")
    for row, line in zip(train.values(), written, strict=True):
        record = record_of(line)
        assert (record.image, record.stem, record.answer) == (row["image"], row["question"], row["answer"])
        assert record.options == {letter: row[letter] for letter in "ABCD" if letter in row}
    again = import_questions(tmp_path / "q" / "reasoning_mcq_rl.jsonl", tmp_path / "q", tmp_path / "again")
    ids = [row["id"] for rows in sides_of(tmp_path / "again").values() for row in rows]
    assert sorted(ids) == sorted(train) and again.left_out == {}


def test_wrong_rows_are_listed_with_their_reasons(official: Path, tmp_path: Path) -> None:
    folder = tmp_path / "official"
    write_picture(tmp_path / "secret.png", seed=1)
    good = []
    for number in range(48):
        write_picture(folder / f"images/2d/cls/ct/organs/{number}.png", seed=number)
        good.append(entry("B", image=f"images/2d/cls/ct/organs/{number}.png"))
    (folder / "words.png").write_text("no picture")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    bad = [
        entry("E", image="images/2d/cls/ct/organs/1.png"),
        entry("B", image="../secret.png"),
        entry("B", image=str(tmp_path / "secret.png")),
        entry("B", image="link.png"),
        entry("B", image="words.png"),
        entry("B", image="absent\x07.png"),
        entry("B", image="x" * 300 + ".png"),
        good[3],
        b'{"image": "\xff"}\n',
        b'{"image": NaN, "conversations": NaN}\n',
        b"[1]\n",
    ]
    file = write_lines(folder / "sft.jsonl", [*good, *bad])
    built = import_questions(file, folder, tmp_path / "q")
    listed = lines_of(tmp_path / "q" / "left_out.jsonl")
    assert [(row["row"], row["reason"].split(": ")[0]) for row in listed] == [
        (49, "its answer is none of its options"),
        (50, "its image lies outside of --images"),
        (51, "its image lies outside of --images"),
        (52, "its image lies outside of --images"),
        (53, "its image cannot be read"),
        (54, "its image holds the control character U+0007"),
        (55, "its image is missing"),
        (56, "is asked before"),
        (57, "is not UTF-8"),
        (58, "names no image"),
        (59, "is a list, not an object with columns"),
    ]
    assert built.left_out["its image lies outside of --images"] == 3 and sum(built.left_out.values()) == 11
    assert sum(built.questions.values()) == 48
    write_lines(file, [*good[:40], *bad])
    with pytest.raises(
        UserError, match=r"11 of 51 rows cannot be used, more than 20%: .* \(3\); .* row 41: its answer"
    ):
        import_questions(file, folder, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_image_of_two_datasets_stays_with_the_one_that_is_held_out(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    save(tmp_path / "images/2d/cls/ct/one/1.png", pixels)
    save(tmp_path / "images/2d/cls/ct/two/1.bmp", pixels)
    write_picture(tmp_path / "images/2d/cls/ct/one/2.png", seed=2)
    rows = [
        entry("A", image="images/2d/cls/ct/one/1.png"),
        entry("A", image="images/2d/cls/ct/two/1.bmp"),
        *(entry("A", image="images/2d/cls/ct/one/2.png", asked=f"<image>\nIs it {n}?\nA. yes\nB. no") for n in "123"),
    ]
    built = import_questions(write_lines(tmp_path / "f.jsonl", rows), tmp_path, tmp_path / "q", hold_out=["two"])
    assert built.questions["held_out"] == 1 and sum(built.questions.values()) == 4
    assert built.left_out == {"its image is also in held_out": 1}
    assert lines_of(tmp_path / "q" / "left_out.jsonl")[0]["row"] == 1


def test_files_and_folders_that_are_none_are_told(official: Path, tmp_path: Path) -> None:
    def fails(match: str, file: Path = official / "rl.jsonl", images: Path = official, **further: Any) -> None:
        with pytest.raises(UserError, match=match):
            import_questions(file, images, further.pop("out", tmp_path / "q"), **further)

    fails(r"nope: no such file; give one of", tmp_path / "nope")
    fails(r"--images .*nope: no such folder", images=tmp_path / "nope")
    fails(r"--hold-out mole: .* did you mean `moles`\?", hold_out=["mole"])
    fails(r"has no column `conversations`", write_lines(tmp_path / "a.jsonl", [{"image": "x"}]))
    fails(r"holds no entries", write_lines(tmp_path / "empty.jsonl", []))
    fails(r"does not end in \.json", write_lines(tmp_path / "a.txt", []))
    fails(r"is no JSON", write_lines(tmp_path / "a.json", [b"["]))
    fails(r"lies about .*give another --out", out=official.parent)


def test_the_command_imports(official: Path, tmp_path: Path) -> None:
    arguments = ["--import", str(official / "rl.jsonl"), "--out", str(tmp_path / "q"), "--hold-out", "chests"]
    result = CliRunner().invoke(app, ["reason", "questions", *arguments])
    assert result.exit_code == 0, result.output
    assert "chests" in result.output and "120 questions" in result.output
