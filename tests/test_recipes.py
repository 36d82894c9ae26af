"""The recipes of the project: they load, and on the real files that they are for they build a corpus that verifies."""

import os
from pathlib import Path

import pytest
import yaml

from gmai_vl.corpus import Corpus, build, read_recipe, verify

RECIPES = sorted((Path(__file__).parent.parent / "recipes" / "data").glob("*.yaml"))
DATA = Path(os.environ.get("GMAI_SHARED_DATA", Path(__file__).parents[1] / "../shared/data")).resolve()
"""Annotated images beside the project, where somebody has put them."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads_and_says_what_it_costs(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# ")
    for source in recipe.sources:
        assert source.url
        assert source.name.startswith(path.stem.removesuffix("-demo"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_on_the_real_files(path: Path, tmp_path: Path) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    for source in data["sources"]:
        if not (DATA / source["root"]).is_dir():
            pytest.skip(f"{source['root']} is not below {DATA}; set GMAI_SHARED_DATA to the folder that holds it")
        source |= {"root": str(DATA / source["root"]), "limit": 12}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    summary = build(tmp_path / "recipe.yaml", tmp_path / "corpus")
    assert "quarantined" not in summary.counts["outcomes"]
    assert {row["source"] for row in Corpus(summary.corpus).rows("cases")} == {s["name"] for s in data["sources"]}
    assert verify(summary.corpus) == []
