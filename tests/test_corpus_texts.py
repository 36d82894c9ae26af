"""A corpus of texts, with images and without: built, verified, traced, looked at, withdrawn, learned from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from gmai_vl.corpus import Corpus, build, trace, verify
from gmai_vl.corpus.browse import browse
from gmai_vl.corpus.fingerprint import fingerprint
from gmai_vl.corpus.stats import stats
from gmai_vl.corpus.tables import count, table_rows
from gmai_vl.corpus.withdraw import withdraw
from gmai_vl.evaluation import exchange_images, majority_answers, questions_of
from gmai_vl.foundation import UserError

SCRIPT = "<script>alert(1)</script>"
ROWS: list[dict[str, Any]] = [
    *({"q": f"Is number {n} even?", "a": "no" if n % 2 else "yes", "image": f"{n % 4}.png"} for n in range(8)),
    *({"q": f"What is {n} plus {n}?", "a": str(2 * n)} for n in range(10)),
    {"q": "What is 3 plus 3?", "a": "6"},
    {"q": f"What does {SCRIPT} do?", "a": "Nothing here."},
    {"q": "什么是肺炎？", "a": "肺部的炎症。"},
    {"q": "Which is a modality?", "a": "B", "A": "heart", "B": "MRI"},
    {"q": "Empty?", "a": "NULL"},
]
TALK = [
    {"from": "human", "value": "What is it?"},
    {"from": "gpt", "value": "A bone."},
    {"from": "human", "value": "Which?"},
    {"from": "gpt", "value": "The femur."},
]


def write_sources(folder: Path, **changes: Any) -> Path:
    (folder / "qa").mkdir(parents=True)
    (folder / "qa/q.json").write_text(json.dumps(ROWS))
    (folder / "talk").mkdir()
    (folder / "talk/t.jsonl").write_text(json.dumps({"c": TALK, "image": None}))
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24), np.uint8)
        Image.fromarray(pixels).save(folder / f"qa/{number}.png")
    columns = {"question_column": "q", "answer_column": "a", "image_column": "image", "options_columns": ["A", "B"]}
    shared = {"format": "text", "license": "MIT"}
    recipe = {
        "name": "texts",
        "languages": {"en": 1.0},
        "split": {"train": 0.5, "val": 0.25, "test": 0.25},
        "sources": [
            {"name": "qa", "root": "qa", "annotations": "q.json", **columns, **shared},
            {"name": "talk", "root": "talk", "annotations": "t.jsonl", "conversations_column": "c", **shared},
        ],
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    return build(write_sources(folder), folder / "out").corpus


def test_every_row_becomes_a_sample_or_has_its_reason(corpus: Path) -> None:
    opened = Corpus(corpus)
    assert verify(corpus) == []
    samples = opened.samples()
    assert len(samples) == 8 + 10 + 3 + 1
    assert len(list(opened.cases())) == 4 + 10 + 3 + 1
    by_subset = {
        subset: [each for each in samples if each.subset == subset] for subset in opened.manifest["recipe"]["subsets"]
    }
    assert {subset: len(found) for subset, found in by_subset.items()} == {
        "caption": 0,
        "percept": 0,
        "instruct": 8,
        "text-single": 13,
        "text-multi": 1,
    }
    assert {(each.kind, len(each.images)) for each in by_subset["instruct"]} == {("closed", 1)}
    assert {each.kind for each in by_subset["text-single"]} == {"open", "mcq"}
    assert [row["image"] is None for row in opened.rows("cases")] == [not case.has_image for case in opened.cases()]
    assert len(list((corpus / "images").rglob("*.png"))) == 4
    reasons = {
        row["item"]: (row["outcome"], row["reason"]) for row in opened.rows("ledger") if row["outcome"] != "kept"
    }
    assert reasons == {
        "q.json@row=19": ("duplicate", "same words as qa/q.json@row=12"),
        "q.json@row=23": ("quarantined", "has no answer"),
    }


def test_the_result_does_not_depend_on_workers(corpus: Path, tmp_path: Path) -> None:
    again = build(write_sources(tmp_path), tmp_path / "out", workers=2)
    assert again.fingerprint == Corpus(corpus).manifest["fingerprint"]


def test_a_case_without_an_image_can_be_traced_and_looked_at(corpus: Path) -> None:
    opened = Corpus(corpus)
    (dialogue,) = (sample for sample in opened.samples() if sample.kind == "dialogue")
    way = trace(corpus, dialogue.id)
    assert way["image"] is None
    assert [turn["text"] for turn in way["annotation"]["conversation"]] == [turn["value"] for turn in TALK]
    assert way["prompt"]["text"] == "{question}"
    json.dumps(way)
    page = browse(corpus).read_text(encoding="utf-8")
    assert page.count('"image":null') == 14
    assert page.count('"image":"data:image/jpeg;base64,') == 4
    assert SCRIPT not in page
    assert "\\u003cscript>alert(1)" in page
    assert stats(corpus)["subset"] == {"text-single": 13, "instruct": 8, "text-multi": 1}


def change(corpus: Path, table: str, edit: Any) -> None:
    """Edit the rows of a table, and write counts and fingerprint anew, so that the change itself has to be found."""
    (path,) = [corpus / "cases.parquet"] if table == "cases" else sorted((corpus / "samples").glob("*.parquet"))
    read = pq.read_table(path)
    rows = read.to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=read.schema), path)
    manifest = json.loads((corpus / "manifest.json").read_text())
    own = fingerprint(table_rows(corpus, "samples"), table_rows(corpus, "ledger"))
    (corpus / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": own, "counts": count(corpus)}))


def other_answer(rows: list[dict[str, Any]]) -> None:
    row = next(row for row in rows if row["subset"] == "text-single" and row["kind"] == "open")
    row["messages"][1]["content"][0]["text"] = row["answer"] = "13"


def with_an_image(rows: list[dict[str, Any]]) -> None:
    row = next(row for row in rows if row["subset"] == "text-single")
    row["images"] = [next(row for row in rows if row["images"])["images"][0]]


def other_words(rows: list[dict[str, Any]]) -> None:
    row = next(row for row in rows if row["image"] is None)
    row["conversations"] = row["conversations"].replace("plus", "minus")


def no_image(rows: list[dict[str, Any]]) -> None:
    next(row for row in rows if row["image"] is not None)["image"] = None


def twins(rows: list[dict[str, Any]]) -> None:
    first, second = [row for row in rows if row["image"] is None][:2]
    second["conversations"] = first["conversations"]


def broken(rows: list[dict[str, Any]]) -> None:
    rows[0]["conversations"] = '[{"a": 1}]'


@pytest.mark.parametrize(
    ("table", "edit", "words"),
    [
        ("samples", other_answer, "they are not those of the source"),
        ("samples", with_an_image, "its images are not that of its case"),
        ("cases", other_words, "they are not those of the source"),
        ("cases", no_image, "pixels of None"),
        ("cases", twins, "2 cases have the same pixels, or the same words"),
        ("cases", broken, "its conversations cannot be read"),
    ],
)
def test_each_way_of_tampering_is_found(tmp_path: Path, table: str, edit: Any, words: str) -> None:
    built = build(write_sources(tmp_path), tmp_path / "out").corpus
    change(built, table, edit)
    findings = verify(built)
    assert any(words in finding for finding in findings), findings
    assert all("\n" not in finding for finding in findings)


def test_a_source_of_texts_can_be_withdrawn(tmp_path: Path) -> None:
    built = build(write_sources(tmp_path), tmp_path / "out").corpus
    withdraw(built, "qa", [])
    assert verify(built) == []
    assert {sample.source for sample in Corpus(built).samples()} == {"talk"}
    assert not list((built / "images").rglob("*.png"))


def test_subsets_that_are_not_wanted_are_excluded_with_the_reason(tmp_path: Path) -> None:
    built = build(write_sources(tmp_path, subsets=["instruct"]), tmp_path / "out").corpus
    assert verify(built) == []
    outcomes = {row["item"]: row for row in table_rows(built, "ledger")}
    assert outcomes["t.jsonl@row=1"]["outcome"] == "excluded"
    assert "subsets instruct" in outcomes["t.jsonl@row=1"]["reason"]


def test_a_file_that_cannot_be_read_stops_the_build(tmp_path: Path) -> None:
    recipe = write_sources(tmp_path)
    (tmp_path / "qa/q.json").write_text("[{")
    with pytest.raises(UserError, match=r"source `qa`: 100% of its items cannot be used.*is no JSON"):
        build(recipe, tmp_path / "out")


def test_questions_without_an_image_are_asked_and_left_out_of_the_exchange(corpus: Path) -> None:
    opened = Corpus(corpus)
    asked = [each for side in ("train", "val", "test") for each in questions_of(opened, side)]
    assert {each.kind for each in asked} == {"closed", "mcq"}
    assert len(majority_answers(asked, asked)) == len(asked) == 9
    assert {each.form for each in asked} == {"given"}
    assert all(each.images for each in exchange_images(asked, 0))
