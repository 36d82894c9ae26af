"""The recipes of the project: they load, and on the real files that they are for they build a corpus that verifies."""

import os
import re
from pathlib import Path

import pytest
import yaml

from gmai_vl.corpus import Corpus, build, read_recipe, verify
from gmai_vl.training import read_recipe as read_train_recipe

RECIPES = sorted((Path(__file__).parent.parent / "recipes" / "data").glob("*.yaml"))
ABLATION = Path(__file__).parent.parent / "recipes" / "ablation"
TRAIN_RECIPES = sorted((Path(__file__).parent.parent / "recipes" / "train").glob("*.yaml"))
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


@pytest.mark.parametrize("path", TRAIN_RECIPES, ids=lambda path: path.stem)
def test_a_train_recipe_loads_and_says_what_it_costs(path: Path) -> None:
    assert read_train_recipe(path).name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# Cost and score: ")


def test_ablations_differ_in_what_they_compare_and_in_nothing_else() -> None:
    whole = read_train_recipe(next(path for path in TRAIN_RECIPES if path.stem == "smol-12l"))
    without_deep = read_train_recipe(ABLATION / "without-deep.yaml")
    assert [stage.name for stage in whole.stages] == ["align", "deep", "speak", "instruct"]
    assert without_deep.stages == whole.stages[2:]
    assert without_deep.model.init == f"{whole.out}/align"

    with_ours, without_ours = (read_train_recipe(ABLATION / f"{name}-our-data.yaml") for name in ("with", "without"))
    kept = {"mixture"}
    (one,), (other,) = with_ours.stages, without_ours.stages
    assert one.model_dump(exclude=kept) == other.model_dump(exclude=kept)
    assert (one.mixture[0],) == other.mixture
    assert with_ours.model == without_ours.model

    for name in ("ours", "other"):
        assert read_recipe(ABLATION / f"{name}.yaml").name == name


def test_the_mixtures_of_gmai_vl_are_as_large_as_the_paper_says() -> None:
    path = next(path for path in TRAIN_RECIPES if path.stem == "gmai-vl-7b")
    unit = {"M": 1e6, "k": 1e3}
    sizes = {
        corpus: float(number) * unit[letter]
        for corpus, number, letter in re.findall(
            r"corpus: (\S+?)[,}].*# ([\d.]+)([Mk])", path.read_text(encoding="utf-8")
        )
    }
    align, deep, instruct = (
        sum(part.ratio * sizes[part.corpus] for part in stage.mixture) for stage in read_train_recipe(path).stages
    )
    # 11.7 million pairs in the first two stages, about 10 million in the third (arXiv 2411.14522, Table 8).
    assert align == deep == pytest.approx(11.7e6, rel=0.01)
    assert instruct == pytest.approx(10.6e6, rel=0.01)
