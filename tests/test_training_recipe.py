"""Train recipes: what is accepted, how a mistake is told, what `--set` changes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gmai_vl.foundation import UserError
from gmai_vl.training import TrainRecipe, read_recipe

RECIPES = Path(__file__).parent.parent / "recipes" / "train"


def recipe() -> dict[str, Any]:
    stage = {
        "name": "align",
        "train": ["projector"],
        "learning_rate": 1e-3,
        "global_batch": 8,
        "epochs": 1,
        "mixture": [{"corpus": "../corpus"}],
    }
    return {"name": "trial", "out": "run", "model": {"preset": "tiny"}, "stages": [stage]}


def read(tmp_path: Path, data: dict[str, Any], *overrides: str) -> TrainRecipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return read_recipe(path, overrides)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("stages.0.learning_rat", 1, "stages[0].learning_rat: unknown key; did you mean `learning_rate`"),
        ("stages.0.mixture.0.ratios", 1, "stages[0].mixture[0].ratios: unknown key; did you mean `ratio`?"),
        ("stages.0.max_steps", 5, "stages[0]: give either `epochs` or `max_steps`"),
        ("stages.0.epochs", "null", "stages[0]: give either `epochs` or `max_steps`"),
        ("stages.0.batch_tokens", 4096, "stages[0]: give either `global_batch` or `batch_tokens`"),
        ("stages.0.global_batch", "null", "stages[0]: give either `global_batch` or `batch_tokens`"),
        ("stages.0.train", "[visoin]", "visoin"),
        (
            "stages.0",
            "{name: a, train: [language], objective: words, learning_rate: 1, global_batch: 1, epochs: 1, "
            "mixture: [{corpus: c}]}",
            "stages[0]: `objective: words` does not reach the language part",
        ),
        ("stages.0.train", "[projector, projector]", "stages[0].train: a part stands twice"),
        (
            "stages.0.learning_rate",
            "{vision: 1e-4}",
            "stages[0]: `learning_rate` must name exactly",
        ),
        ("stages.0.learning_rate", "-1e-4", "stages[0].learning_rate"),
        ("stages.0.mixture", "[]", "stages[0].mixture"),
        ("stages.0.mixture.0.ratio", 0, "stages[0].mixture[0].ratio"),
        ("stages.0.mixture.0.subsets", "[captions]", "did you mean `caption`"),
        ("stages.0.mixture.0.forms", "[presense]", "did you mean `presence`"),
        ("stages.0.mixture.0.quality", "passed", "stages[0].mixture[0].quality: input should be 'pass'"),
        ("stages.0.name", "final", "stages[0].name: `final` is taken"),
        ("stages.0.name", "../up", "stages[0].name"),
        ("stages.0.validation.samples", 8, "stages[0].validation.every: is missing"),
        ("stages", "[]", "stages"),
        ("precision", "fp16", "precision"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(tmp_path: Path, key: str, value: object, told: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, recipe(), f"{key}={value}")
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'recipe.yaml'}: ")
    assert told in message
    assert "\n" not in message


def test_stages_need_names_of_their_own(tmp_path: Path) -> None:
    data = recipe()
    data["stages"] *= 2
    with pytest.raises(UserError, match="two stages are called `align`"):
        read(tmp_path, data)


def test_set_changes_numbers_lists_and_adds_keys(tmp_path: Path) -> None:
    changed = read(
        tmp_path,
        recipe(),
        "stages.0.learning_rate=1e-4",
        "stages.0.mixture.0.corpus=/data/other",
        "stages.0.validation.every=5",
        "seed=3",
    )
    assert changed.stages[0].learning_rate == 1e-4
    assert changed.stages[0].mixture[0].corpus == "/data/other"
    assert changed.stages[0].validation is not None
    assert changed.stages[0].validation.every == 5
    assert changed.seed == 3


@pytest.mark.parametrize(
    "override", ["seed", "=1", "stages.9.epochs=1", "stages.first.epochs=1", "name.first.x=1", "seed=[1"]
)
def test_a_set_that_has_no_place_is_one_clear_line(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, recipe(), override)
    assert str(error.value).startswith(f"--set {override}: ")
    assert "\n" not in str(error.value)


def test_one_rate_goes_to_every_part_and_many_to_their_own(tmp_path: Path) -> None:
    both = "stages.0.train=[vision, projector]"
    assert read(tmp_path, recipe(), both).stages[0].rates == {"vision": 1e-3, "projector": 1e-3}
    apart = read(tmp_path, recipe(), both, "stages.0.learning_rate={projector: 1e-3, vision: 1e-5}")
    assert apart.stages[0].rates == {"vision": 1e-5, "projector": 1e-3}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_that_come_along_are_valid_and_say_what_they_cost(path: Path) -> None:
    assert path.read_text().startswith("# ")
    names = [stage.name for stage in read_recipe(path).stages]
    assert (names[:2], names[-1]) == (["align", "deep"], "instruct")  # smol-12l's third stage is in two parts
