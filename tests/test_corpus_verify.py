"""Verification: an untouched corpus has no fault, and each way of tampering is found by its own words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_recipes import write_sources
from PIL import Image

from gmai_vl.corpus import build, verify
from gmai_vl.corpus.fingerprint import fingerprint
from gmai_vl.corpus.tables import count, table_rows
from gmai_vl.foundation import UserError

Row = dict[str, Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    return build(write_sources(folder), folder / "out").corpus


@pytest.fixture
def corpus(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "corpus")


def change(path: Path, edit: Callable[[list[Row]], None]) -> None:
    """Edit the rows of a Parquet file."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def change_manifest(corpus: Path, **changes: Any) -> None:
    path = corpus / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def hide(corpus: Path) -> None:
    """Write counts and fingerprint anew, as somebody would who wants a change not to show."""
    own = fingerprint(table_rows(corpus, "samples"), table_rows(corpus, "ledger"))
    change_manifest(corpus, fingerprint=own, counts=count(corpus))


def first(rows: list[Row], **wanted: Any) -> Row:
    return next(row for row in rows if all(row[key] == value for key, value in wanted.items()))


def assert_found(corpus: Path, *words: str) -> None:
    findings = verify(corpus)
    for expected in words:
        assert any(expected in finding for finding in findings), findings
    assert all("\n" not in finding for finding in findings)


def test_an_untouched_corpus_has_no_fault(sound: Path) -> None:
    assert verify(sound) == []


def test_a_flipped_pixel_is_found(corpus: Path) -> None:
    path = next((corpus / "images").rglob("*.png"))
    pixels = np.array(Image.open(path))
    pixels[3, 4, 0] ^= 1
    Image.fromarray(pixels).save(path)
    (finding,) = verify(corpus)
    assert path.stem in finding
    assert "other pixels" in finding


def test_a_missing_and_a_strange_image_are_found(corpus: Path) -> None:
    path = next((corpus / "images").rglob("*.png"))
    path.rename(path.with_name("a.png"))
    findings = verify(corpus)
    assert len(findings) == 2
    assert_found(corpus, f"{path.name}: this image of the corpus is missing", "a.png: belongs to no case")


def test_an_edited_box_is_found(corpus: Path) -> None:
    def edit(rows: list[Row]) -> None:
        first(rows, source="polyps")["findings"][0]["box"] = [3, 0, 8, 9]

    change(corpus / "cases.parquet", edit)
    assert_found(
        corpus, "polyp: box [3, 0, 8, 9] is not the outer box of its mask", "is no finding of its case", "boxes:"
    )


def test_a_box_outside_its_image_is_found(corpus: Path) -> None:
    def edit(rows: list[Row]) -> None:
        first(rows, source="polyps")["findings"][0]["box"][2] = 99

    change(corpus / "cases.parquet", edit)
    assert_found(corpus, "is not inside the image of 24x20")


@pytest.mark.parametrize("runs", [[480], [470], [-5, 485], [5, 475]])
def test_an_edited_mask_is_found(corpus: Path, runs: list[int]) -> None:
    def edit(rows: list[Row]) -> None:
        first(rows, source="polyps")["findings"][0]["mask"] = runs

    change(corpus / "cases.parquet", edit)
    assert_found(corpus, "mask")


def test_a_box_that_only_a_sample_has_is_found(corpus: Path) -> None:
    def edit(rows: list[Row]) -> None:
        first(rows, kind="grounding")["regions"][0]["box"][0] += 1

    change(corpus / "samples" / "00000.parquet", edit)
    hide(corpus)
    assert_found(corpus, "region `")


def test_a_patient_on_two_sides_is_found(corpus: Path) -> None:
    def edit(rows: list[Row]) -> None:
        for row in rows:
            if row["case_id"] == "skin/nevus/p0_0.png":
                row["split"] = "val" if row["split"] == "train" else "train"

    change(corpus / "cases.parquet", edit)
    change(corpus / "samples" / "00000.parquet", edit)
    hide(corpus)
    (finding,) = verify(corpus)
    assert finding.startswith("patient p0: stands on several sides of the split")


def test_an_edited_text_is_found(corpus: Path) -> None:
    def edit(rows: list[Row]) -> None:
        first(rows, kind="caption", language="en")["messages"][0]["content"][1]["text"] += " Please."

    change(corpus / "samples" / "00000.parquet", edit)
    (finding,) = verify(corpus)
    assert "fingerprint" in finding


def test_a_false_text_is_found_even_with_a_new_fingerprint(corpus: Path) -> None:
    def edit(rows: list[Row]) -> None:
        row = first(rows, kind="caption", source="skin", language="en")
        row["messages"][1]["content"][0]["text"] = "No abnormality is seen."

    change(corpus / "samples" / "00000.parquet", edit)
    hide(corpus)
    (finding,) = verify(corpus)
    assert "complete: missing" in finding


@pytest.mark.parametrize(
    ("wanted", "changes", "words"),
    [
        ({"kind": "mcq"}, {"answer": "E"}, "answer E is not among the options"),
        ({"kind": "mcq"}, {"options": ["same", "same"]}, "options ['same', 'same']"),
        ({"kind": "closed", "language": "en"}, {"answer": "perhaps"}, "is not among yes and no"),
        ({"kind": "grounding"}, {"answer": None}, "no answer"),
        ({"kind": "open"}, {"options": ["a", "b"]}, "options, though it is no multiple choice"),
        ({}, {"images": ["0" * 64]}, "its images are not that of its case"),
        ({}, {"width": 25}, "says 25x20, its case 24x20"),
        ({}, {"case_id": "skin/none"}, "there is no case skin/none"),
        ({}, {"prompt_id": "none"}, "prompt none is not in prompts.jsonl"),
        ({}, {"license": "GPL"}, "license GPL, but its case has"),
        ({}, {"messages": []}, "the turns are not user and assistant"),
        ({}, {"facts": "{"}, "facts are not JSON"),
        ({}, {"facts": '{"form": "caption"}'}, "its facts are not such as the writer gives"),
        ({}, {"checks": '{"numbers": "7"}'}, "a check failed"),
    ],
)
def test_a_sample_that_contradicts_itself_or_its_case_is_found(
    corpus: Path, wanted: Row, changes: Row, words: str
) -> None:
    change(corpus / "samples" / "00000.parquet", lambda rows: first(rows, **wanted).update(changes))
    hide(corpus)
    assert_found(corpus, words)


def test_rows_that_are_lost_or_doubled_are_found(corpus: Path) -> None:
    samples = corpus / "samples" / "00000.parquet"
    change(samples, lambda rows: rows.append(rows[0]))
    assert_found(corpus, "stands twice", "counts are not those", "fingerprint")
    change(samples, lambda rows: [rows.remove(row) for row in rows[:] if row["case_id"] == rows[0]["case_id"]])
    assert_found(corpus, "no sample speaks of it")


def test_an_incomplete_ledger_is_found(corpus: Path) -> None:
    change(corpus / "ledger.parquet", lambda rows: rows.pop(0))
    assert_found(corpus, "the ledger does not have it as kept", "counts are not those")
    change(corpus / "ledger.parquet", lambda rows: rows.append(rows[0] | {"outcome": "excluded", "reason": None}))
    assert_found(corpus, "excluded without a reason")


@pytest.mark.parametrize(
    "name", ["manifest.json", "cases.parquet", "ledger.parquet", "prompts.jsonl", "samples/00000.parquet"]
)
def test_missing_and_damaged_files_are_found(corpus: Path, name: str) -> None:
    (corpus / name).write_bytes(b"\x00{damaged")
    assert_found(corpus, f"{name}: cannot be read")
    (corpus / name).unlink()
    assert_found(corpus, name.removesuffix("/00000.parquet"))


def test_a_table_with_other_columns_is_found(corpus: Path) -> None:
    pq.write_table(pa.table({"case_id": ["a"]}), corpus / "cases.parquet")
    assert_found(corpus, "cases.parquet: the columns are not those of a corpus")


def test_a_finding_cannot_write_to_the_terminal(corpus: Path) -> None:
    change(corpus / "samples" / "00000.parquet", lambda rows: rows[0].update(case_id="\x1b[2J\nskin"))
    assert_found(corpus, r"there is no case \x1b[2J\nskin")


def test_what_is_no_folder_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        verify(tmp_path / "none")
