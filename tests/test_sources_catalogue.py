"""The catalogue of public data sets: its facts are sound, search finds what it should, recipes load once filled in."""

import csv
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from gmai_vl.cli.data import app
from gmai_vl.corpus import read_recipe
from gmai_vl.foundation import UserError
from gmai_vl.sources.catalogue import OTHER, datasets, find, search
from gmai_vl.sources.catalogue_recipe import starting_recipe
from gmai_vl.vocabulary import DEPARTMENTS, MODALITIES

RECIPES = Path(__file__).parents[1] / "recipes" / "data"

# Key -> what a user would write there. None of it comes from the catalogue.
FILLING = {
    "root": "some/folder",
    "images": "images",
    "masks": '"masks/{stem}.png"',
    "mask_labels": "{1: liver}",
    "window": "[-160, 240]",
    "labels": "{a: {en: nevus}, b: null, c: {negative: true}}",
    "annotations": "table.csv",
    "image_column": "file",
    "label_column": "class",
    "question_column": "question",
    "answer_column": "answer",
    "modality": "CT",
    "department": "Dermatology",
    "clinical_task": "Disease Diagnosis",
    "patient": '{regex: "^(\\\\d+)_"}',
    "license": "MIT",
    "url": "https://example.org",
}


def fill_in(recipe: str) -> str:
    return re.sub(r"(?m)^( +)(\w+):  # to fill: .+$", lambda mark: f"{mark[1]}{mark[2]}: {FILLING[mark[2]]}", recipe)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["catalogue", *map(str, arguments)])


def test_every_row_is_sound() -> None:
    assert len(datasets()) == 838
    assert len({dataset.name.lower() for dataset in datasets()}) == 838
    known = {term.en for term in MODALITIES} | {OTHER}
    for dataset in datasets():
        assert set(dataset.modalities) <= known, dataset
        assert dataset.department in {"", *(term.en for term in DEPARTMENTS)}, dataset
        assert set(dataset.dimensions) <= {"2d", "3d", "video"}, dataset
        assert dataset.tasks, dataset
        assert dataset.evidence, dataset
        assert dataset.licences, dataset
        assert all(url.startswith("http") for url in dataset.urls), dataset
        assert dataset.urls or dataset.note, dataset
        assert (dataset.licence == "unknown") == (dataset.licences == ("unknown",)), dataset


def test_the_file_can_be_read_back_cell_by_cell() -> None:
    text = (files("gmai_vl.sources") / "catalogue.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[0][-2:] == ["verified", "note"]
    assert all(cell == " ".join(cell.split()) for row in rows for cell in row)


def test_a_verified_row_has_a_recipe_of_its_modality() -> None:
    verified = [dataset for dataset in datasets() if dataset.verified]
    assert len(verified) == 10
    for dataset in verified:
        recipe = read_recipe(RECIPES / f"{dataset.verified}.yaml")
        assert {source.modality for source in recipe.sources} <= {
            *dataset.modalities,
            None,
        } or OTHER in dataset.modalities


def test_counts_agree_with_the_list_they_come_from() -> None:
    assert {used: len(search(used=used)) for used in ("yes", "likely", "no")} == {"yes": 4, "likely": 276, "no": 558}
    assert len(search(modality="Infrared")) == 2
    assert len(search(licence="unknown")) == 722


@pytest.mark.parametrize(
    ("called", "vocabulary_name"),
    [("MRI", "MR"), ("mr", "MR"), ("fundus", "Fundus Photography"), ("xray", "X-Ray"), ("X-RAY", "X-Ray")],
)
def test_modalities_may_be_called_as_people_call_them(called: str, vocabulary_name: str) -> None:
    found = search(modality=called)
    assert found == [dataset for dataset in datasets() if vocabulary_name in dataset.modalities]
    assert found


def test_all_words_and_filters_must_fit_and_names_come_first() -> None:
    assert search(["CVC", "clinicdb"])[0].name == "CVC-ClinicDB"
    polyps = search(["Polyp"])
    in_name = ["polyp" in " ".join((dataset.name, *dataset.aliases)).lower() for dataset in polyps]
    assert in_name == sorted(in_name, reverse=True)
    few = search(["polyp"], task="seg", access="open", used="likely", department="gastro")
    assert 0 < len(few) < len(polyps)
    for dataset in few:
        assert "seg" in dataset.tasks
        assert (dataset.access, dataset.used) == ("open", "likely")
        assert dataset.department == "Gastroenterology and Hepatology"
    assert search(["polyp", "hippocampus"]) == []
    assert find("NCT-CRC-HE-100K") in search(["lymphocytes"], anatomy="COLON")


def test_a_licence_does_not_find_a_stricter_one() -> None:
    for dataset in search(licence="cc by"):
        assert any(name in ("CC-BY", "CC-BY-3.0", "CC-BY-4.0") for name in dataset.licences), dataset
    assert {dataset.name for dataset in search(licence="CC-BY-4.0")} < {
        dataset.name for dataset in search(licence="CC-BY")
    }
    assert find("BUSI").licences == ("CC-BY-4.0", "CC0-1.0")
    assert find("amos22").licences == ("CC-BY-4.0", "CC-BY-NC-SA")
    assert all("CC-BY-NC-SA-4.0" in dataset.licences for dataset in search(licence="CC-BY-SA-NC-4.0"))


def test_a_name_is_found_by_alias_and_an_unknown_one_is_answered_with_the_nearest() -> None:
    assert find("crc100k") is find("NCT CRC HE 100K")
    assert find("StructSeg2019_subtask2").name == "StructSeg2019 Task3"
    with pytest.raises(UserError, match=r"no data set is called `BUSY`; did you mean `BUSI`"):
        find("BUSY")
    with pytest.raises(UserError, match="search with"):
        find("qqqqqqqqqqqq")
    with pytest.raises(UserError, match="did you mean `MR`"):
        search(modality="MRR")


def test_every_starting_recipe_loads_once_every_mark_is_filled_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    formats = set()
    for dataset in datasets():
        text = starting_recipe(dataset)
        assert isinstance(yaml.safe_load(text), dict)
        path.write_text(fill_in(text), encoding="utf-8")
        assert ":  # to fill" not in path.read_text(encoding="utf-8")
        (source,) = read_recipe(path).sources
        if source.format not in formats:
            formats.add(source.format)
            path.write_text(text, encoding="utf-8")
            with pytest.raises(UserError, match=r"sources\[0\]"):
                read_recipe(path)
    assert formats >= {"folder", "table", "mask", "volume", "coco", "dicom", "video", "text"}


def test_no_licence_and_no_label_map_is_guessed() -> None:
    for dataset in datasets():
        (source,) = yaml.safe_load(starting_recipe(dataset))["sources"]
        assert source["license"] in (None, *dataset.licences)
        if dataset.licence == "unknown" or len(dataset.licences) > 1:
            assert source["license"] is None
        assert source.get("labels") is None
        assert source.get("mask_labels") is None
    assert "license:  # to fill: unknown" in starting_recipe(find("CVC-ClinicDB"))
    assert "recipes/data/cvc-clinicdb.yaml ran on real files" in starting_recipe(find("CVC-ClinicDB"))


def test_the_command_prints_a_line_a_set_where_nobody_watches(tmp_path: Path) -> None:
    result = run("polyp", "--licence", "CC-BY", "--json", tmp_path / "found.json")
    assert result.exit_code == 0
    head, *lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert head == ["name", "modality", "task", "images", "licence", "access", "used", "recipe"]
    assert {len(line) for line in lines} == {8}
    assert [line[0] for line in lines] == [entry["name"] for entry in json.loads((tmp_path / "found.json").read_text())]
    assert "of 838 data sets" in result.stderr


def test_the_command_prints_a_recipe_that_says_what_to_fill_in(tmp_path: Path) -> None:
    result = run("MSD Task09 Spleen", "--recipe")
    assert result.exit_code == 0
    assert result.stdout == starting_recipe(find("MSD Task09 Spleen"))
    assert isinstance(run("spleeen", "--recipe").exception, UserError)
    assert isinstance(run("--recipe").exception, UserError)
    assert run("--task", "segmentation").exit_code == 2
