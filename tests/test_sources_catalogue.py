"""The catalogue: what it finds, and recipes to begin with that load once they are filled."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gmai_vl.corpus import read_recipe
from gmai_vl.foundation import UserError
from gmai_vl.sources.catalogue import dataset_called, datasets, search, starting_recipe
from gmai_vl.vocabulary import DEPARTMENTS, MODALITIES

RECIPES = Path(__file__).parent.parent / "recipes" / "data"


def test_the_catalogue_holds_what_is_known_in_known_words() -> None:
    all_of_them = datasets()
    assert len(all_of_them) == 838
    assert Counter(dataset.used for dataset in all_of_them) == {"yes": 4, "likely": 276, "no": 558}
    names = {name for dataset in all_of_them for name in dataset.modalities}
    assert names <= {term.en for term in MODALITIES} | {"Other"}
    departments = {dataset.department for dataset in all_of_them if "|" not in dataset.department} - {""}
    assert departments <= {term.en for term in DEPARTMENTS}
    assert {task for dataset in all_of_them for task in dataset.tasks} == {"cls", "seg", "det", "other"}
    assert len({dataset.name for dataset in all_of_them}) == len(all_of_them)


def test_only_what_ran_says_so() -> None:
    verified = {dataset.verified for dataset in datasets()} - {""}
    assert verified <= {path.stem for path in RECIPES.glob("*.yaml")}
    assert len(verified) == 10


def test_search_by_words_and_by_fields() -> None:
    assert "CVC-ClinicDB" in {dataset.name for dataset in search("POLYP", tasks="seg")}
    assert {dataset.name for dataset in search("crc100k")} == {"NCT-CRC-HE-100K"}
    assert all("MR" in dataset.modalities for dataset in search(modalities="mr"))
    assert len(search(modalities="mr")) == 204
    assert search(modalities="M") == []
    assert {dataset.used for dataset in search(used="yes")} == {"yes"}
    assert search("liver", tasks="seg", access="open") != search("liver", tasks="seg")
    assert search("no such thing anywhere") == []


def test_a_name_that_is_not_there_brings_the_nearest() -> None:
    assert dataset_called("drive").name == "DRIVE"
    with pytest.raises(UserError, match="did you mean `ISIC 2017`"):
        dataset_called("ISIC-2017")


@pytest.mark.parametrize("name", [dataset.name for dataset in datasets()][::9])
def test_a_starting_recipe_loads_with_its_marks_as_they_are(name: str, tmp_path: Path) -> None:
    dataset = dataset_called(name)
    text = starting_recipe(dataset)
    assert "# to fill" in text
    (tmp_path / "r.yaml").write_text(text)
    recipe = read_recipe(tmp_path / "r.yaml")
    (source,) = recipe.sources
    assert source.license is None
    assert source.modality in {*dataset.modalities, "CT", None}
    if dataset.department:
        assert source.department in {term.en for term in DEPARTMENTS}


def gmai(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gmai_vl.cli", "data", "catalogue", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command(tmp_path: Path) -> None:
    done = gmai("fundus", "vessel", "--task", "seg", "--json", str(tmp_path / "found.json"))
    lines = done.stdout.splitlines()
    assert lines[0].split("\t")[0] == "name"
    assert any(line.startswith("DRIVE\t") for line in lines)
    assert (tmp_path / "found.json").exists()
    assert re.search(r"^    format: mask", gmai("DRIVE", "--recipe").stdout, re.MULTILINE)
    wrong = gmai("DRIIVE", "--recipe")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert gmai("--recipe").returncode == 2
