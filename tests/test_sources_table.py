"""Labels in tables: classes, several labels, one-hot columns, grades and boxes, from every kind of table."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_recipes import save
from hypothesis import given
from hypothesis import strategies as st

from gmai_vl.foundation import UserError, load_settings
from gmai_vl.records import Case, Rejected
from gmai_vl.sources import PhantomSource, TableSource, list_items, read_item
from gmai_vl.sources.phantom.files import write_studies

BASE: dict[str, Any] = {"name": "t", "format": "table", "root": ".", "modality": "X-Ray", "images": "images"}


def source(**keys: Any) -> TableSource:
    return load_settings(TableSource, BASE | {"annotations": "table.csv", "image_column": "image"} | keys, "r.yaml")


def table(root: Path, rows: list[dict[str, Any]], kind: str = "csv") -> None:
    """Write the rows as `table.KIND` and a picture of 40x30 pixels for every value of `image` that ends in .png."""
    for number, name in enumerate(sorted({str(row.get("image", "")) for row in rows})):
        if name.endswith(".png"):
            save(root / "images" / name, np.full((30, 40), number % 256, np.uint8))
    columns = list(rows[0])
    path = root / f"table.{kind}"
    if kind in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as stream:
            writer = csv.DictWriter(stream, columns, delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "xlsx":
        book = openpyxl.Workbook()
        book.worksheets[0].append(columns)
        for row in rows:
            book.worksheets[0].append([row[column] for column in columns])
        book.save(path)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


def outcomes(spec: TableSource, root: Path) -> dict[str, Case | Rejected]:
    return {Path(item).stem: outcome for item in list_items(spec, root) for outcome in read_item(spec, root, item)}


def labels(outcome: Case | Rejected) -> list[str]:
    assert isinstance(outcome, Case), outcome
    return [found.label.en for found in outcome.findings]


@pytest.mark.parametrize("kind", ["csv", "tsv", "xlsx", "parquet"])
def test_every_kind_of_table_says_the_same(tmp_path: Path, kind: str) -> None:
    rows = [
        {"image": "a.png", "grade": 0, "patient": 7.0},
        {"image": "b.png", "grade": 3, "patient": 7.0},
        {"image": "c.png", "grade": 1, "patient": 8.0},
    ]
    table(tmp_path, rows, kind)
    grades = {0: {"en": "no retinopathy", "negative": True}, 1: "mild retinopathy", 3: "severe retinopathy"}
    spec = source(
        annotations=f"table.{kind}", label_column="grade", patient_column="patient", labels=grades, severity=["1", "3"]
    )
    found = outcomes(spec, tmp_path)
    assert [labels(found[name]) for name in "abc"] == [[], ["severe retinopathy"], ["mild retinopathy"]]
    cases = [case for case in found.values() if isinstance(case, Case)]
    patients = ["7.0", "7.0", "8.0"] if kind in ("csv", "tsv") else ["7", "7", "8"]
    assert [case.patient_id for case in cases] == patients
    assert [case.negative.en if case.negative else None for case in cases] == ["no retinopathy", None, None]
    assert {label.en for label in cases[0].label_set} == {"mild retinopathy", "severe retinopathy"}
    assert [grade.en for grade in cases[0].severity] == ["mild retinopathy", "severe retinopathy"]


def test_several_labels_in_one_cell_or_in_several_rows_add_up(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "label": "Effusion|Mass"},
        {"image": "b.png", "label": "No Finding"},
        {"image": "b.png", "label": "No Finding"},
        {"image": "c.png", "label": "Mass"},
        {"image": "c.png", "label": "Effusion"},
        {"image": "d.png", "label": "Mass|No Finding"},
    ]
    table(tmp_path, rows)
    spec = source(
        label_column="label", label_separator="|", labels={"No Finding": {"en": "no finding", "negative": True}}
    )
    found = outcomes(spec, tmp_path)
    assert [labels(found[name]) for name in "abc"] == [["Effusion", "Mass"], [], ["Mass", "Effusion"]]
    assert isinstance(found["d"], Rejected)
    assert "bears `Mass`, `No Finding` at once" in found["d"].reason


@given(st.lists(st.lists(st.sampled_from("01"), min_size=3, max_size=3), min_size=1, max_size=5))
def test_one_hot_columns(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    root = tmp_path_factory.mktemp("r")
    columns = ("mass", "edema", "scar")
    table(root, [{"image": f"{n}.png"} | dict(zip(columns, row, strict=True)) for n, row in enumerate(rows)])
    spec = source(label_columns=columns, otherwise={"en": "nothing of it", "negative": True})
    found = outcomes(spec, root)
    for number, row in enumerate(rows):
        case = found[str(number)]
        assert isinstance(case, Case)
        assert [one.source_label for one in case.findings] == [c for c, v in zip(columns, row, strict=True) if v == "1"]
        assert (case.negative is None) == ("1" in row)
    without = outcomes(source(label_columns=columns), root)
    assert all(isinstance(without[str(n)], Case) == ("1" in row) for n, row in enumerate(rows))


def test_boxes_in_a_table(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "label": "nodule", "x": 2, "y": 3, "w": 5, "h": 6},
        {"image": "a.png", "label": "nodule", "x": 10, "y": 3, "w": 5.5, "h": 6},
        {"image": "b.png", "label": "normal", "x": "", "y": "", "w": "", "h": ""},
        {"image": "c.png", "label": "nodule", "x": 2, "y": "", "w": 5, "h": 6},
        {"image": "d.png", "label": "nodule", "x": 30, "y": 3, "w": 50, "h": 6},
    ]
    table(tmp_path, rows)
    spec = source(
        label_column="label", box_columns=["x", "y", "w", "h"], box_form="xywh",
        labels={"normal": {"en": "no finding", "negative": True}},
    )  # fmt: skip
    found = outcomes(spec, tmp_path)
    assert isinstance(found["a"], Case)
    assert (found["a"].task, [one.box for one in found["a"].findings]) == ("det", [(2, 3, 7, 9), (10, 3, 16, 9)])
    assert isinstance(found["b"], Case)
    assert (found["b"].task, found["b"].findings) == ("cls", ())
    assert isinstance(found["c"], Rejected) and "all four are numbers" in found["c"].reason
    assert isinstance(found["d"], Rejected) and "reaches out" in found["d"].reason


def test_pictures_are_found_by_pattern_by_name_and_by_path(tmp_path: Path) -> None:
    table(
        tmp_path, [{"id": "a", "image": "deep/a.png", "label": "mass"}, {"id": "b", "image": "b.png", "label": "mass"}]
    )
    save(tmp_path / "images" / "lonely.png", np.zeros((5, 5), np.uint8))
    by_pattern = outcomes(source(image_column=None, image_pattern="{id}.png", label_column="label"), tmp_path)
    by_path = outcomes(source(label_column="label"), tmp_path)
    for found in (by_pattern, by_path):
        assert [labels(found[name]) for name in "ab"] == [["mass"], ["mass"]]
        assert isinstance(found["lonely"], Rejected)
        assert (found["lonely"].outcome, found["lonely"].reason) == ("excluded", "is not in table.csv")


def test_rows_that_are_not_wanted_and_rows_without_a_picture_are_counted(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "label": "mass", "split": "train"},
        {"image": "b.png", "label": "mass", "split": "test"},
        {"image": "gone.jpg", "label": "mass", "split": "train"},
        {"image": "../../out.jpg", "label": "mass", "split": "train"},
    ]
    table(tmp_path, rows)
    found = outcomes(source(label_column="label", where={"split": ["train"]}), tmp_path)
    assert labels(found["a"]) == ["mass"]
    assert [(found[name].outcome, found[name].reason) for name in ("b", "gone", "out")] == [  # type: ignore[union-attr]
        ("excluded", "`split` is `test`, which `where` does not name"),
        ("quarantined", "images/gone.jpg: is no file"),
        ("quarantined", "images/../../out.jpg: leads out of the source's root"),
    ]


@pytest.mark.parametrize(
    ("rows", "keys", "told"),
    [
        ([{"image": "a.png", "label": ""}], {"label_column": "label"}, "cell in `label` is empty"),
        ([{"image": "a.png", "m": "-1"}], {"label_columns": ["m"]}, "cell in `m` is `-1`"),
        ([{"image": "a.png", "m": "0"}], {"label_columns": ["m"]}, "`otherwise` says"),
        ([{"image": "a.png", "label": "x", "p": ""}], {"label_column": "label", "patient_column": "p"}, "`p` is empty"),
        (
            [{"image": "a.png", "label": "x", "p": "1"}, {"image": "a.png", "label": "y", "p": "2"}],
            {"label_column": "label", "patient_column": "p"},
            "name 2 patients",
        ),
        (
            [{"image": "a.png", "label": "x"}],
            {"label_column": "label", "labels": {"y": "y"}, "unknown_labels": "quarantine"},
            "label `x` is not in the recipe",
        ),
    ],
)
def test_what_is_wrong_with_a_row_is_told(tmp_path: Path, rows: Any, keys: Any, told: str) -> None:
    table(tmp_path, rows)
    outcome = outcomes(source(**keys), tmp_path)["a"]
    assert isinstance(outcome, Rejected)
    assert outcome.outcome == "quarantined"
    assert told in outcome.reason


def test_what_is_wrong_with_a_table_stops_in_one_line(tmp_path: Path) -> None:
    table(tmp_path, [{"image": "a.png", "label": "x"}])
    with pytest.raises(UserError, match="has no column `labl`; did you mean `label`"):
        list_items(source(label_column="labl"), tmp_path)
    with pytest.raises(UserError, match="is no file"):
        list_items(source(annotations="no.csv", label_column="label"), tmp_path)
    (tmp_path / "t.doc").write_text("image")
    with pytest.raises(UserError, match=r"t\.doc does not end in \.csv"):
        list_items(source(annotations="t.doc", label_column="label"), tmp_path)
    for name in ("broken.xlsx", "broken.parquet"):
        (tmp_path / name).write_bytes(b"PAR1 or PK, and then nothing")
        with pytest.raises(UserError, match="cannot be read") as error:
            list_items(source(annotations=name, label_column="label"), tmp_path)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="severity: `y` is excluded"):
        read_item(source(label_column="label", labels={"y": None}, severity=["x", "y"]), tmp_path, "images/a.png")
    for keys in ({}, {"label_column": "a", "label_columns": ["b"]}, {"label_columns": ["b"], "label_separator": "|"}):
        with pytest.raises(UserError, match=r"r\.yaml"):
            source(**keys)


def test_phantoms_come_back(tmp_path: Path) -> None:
    cohort = PhantomSource(name="p", format="phantom", families=("colonoscopy",), patients=6, size=96)
    root = write_studies(cohort, tmp_path / "p", "csv")
    spec = source(
        images="images", image_column="image", label_column="label", patient_column="patient",
        labels={"no finding": {"en": "no finding", "negative": True}},
    )  # fmt: skip
    drawn = [case for item in list_items(cohort, root) for case in read_item(cohort, root, item)]
    read = [case for item in list_items(spec, root) for case in read_item(spec, root, item)]
    assert len(read) == len(drawn) == 6
    for case, original in zip(read, drawn, strict=True):
        assert isinstance(case, Case) and isinstance(original, Case)
        assert np.array_equal(case.pixels, original.pixels)
        assert case.patient_id == original.patient_id
        assert [one.label for one in case.findings] == [one.label for one in original.findings[:1]]
