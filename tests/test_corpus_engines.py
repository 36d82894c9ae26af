"""Ray makes the same corpus as this process does, and tells a user's mistake as plainly."""

from pathlib import Path

import pytest
import ray
from corpus_recipes import write_recipe, write_sources

from gmai_vl.corpus import build, verify
from gmai_vl.foundation import UserError


@pytest.fixture(scope="module", autouse=True)
def no_cluster_is_left() -> object:
    yield
    ray.shutdown()


def test_ray_gives_the_same_corpus(tmp_path: Path) -> None:
    recipe = write_sources(tmp_path)
    alone = build(recipe, tmp_path / "alone")
    spread = build(recipe, tmp_path / "spread", engine="ray", workers=2)
    assert spread.fingerprint == alone.fingerprint
    assert verify(spread.corpus) == []
    assert not list(spread.corpus.rglob(".*"))


def test_a_fault_of_a_source_is_one_line_from_ray_too(tmp_path: Path) -> None:
    write_sources(tmp_path)
    table = tmp_path / "skin" / "patients.csv"
    table.write_text("file,patient\np0_0.png,p0\n")
    source = {
        "name": "skin",
        "format": "folder",
        "root": "skin",
        "modality": "Dermoscopy",
        "patient": {"table": "patients.csv", "key": "name", "value": "patient"},
    }
    recipe = write_recipe(tmp_path, sources=[source])
    with pytest.raises(UserError) as local:
        build(recipe, tmp_path / "a")
    with pytest.raises(UserError) as spread:
        build(recipe, tmp_path / "b", engine="ray", workers=2)
    assert str(spread.value) == str(local.value)
    assert "no column `name`" in str(local.value)
