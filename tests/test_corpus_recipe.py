"""Data recipes: every mistake is one line with file, key and fix."""

from pathlib import Path
from typing import Any

import pytest
from corpus_recipes import RECIPE, write_recipe, write_sources

from gmai_vl.corpus import build, read_recipe
from gmai_vl.corpus.recipe import recipe_sha256
from gmai_vl.foundation import UserError

SKIN, POLYPS = RECIPE["sources"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"langauges": {"en": 1}}, "langauges: unknown key; did you mean `languages`?"),
        ({"sources": [SKIN | {"labesl": {}}]}, "labesl: unknown key; did you mean `labels`"),
        ({"sources": [SKIN | {"modality": "Dermascopy"}]}, "`Dermascopy` is no modality; did you mean `Dermoscopy`"),
        ({"sources": [SKIN | {"format": "foldr"}]}, "foldr"),
        ({"sources": [SKIN, SKIN]}, "two sources are called `skin`"),
        ({"sources": [SKIN | {"name": "../skin"}]}, "a name is made of letters"),
        ({"sources": []}, "sources: "),
        ({"languages": {"en": 0.7, "zh": 0.2}}, "languages: the shares add up to 0.9"),
        ({"languages": {"de": 1.0}}, "languages.de"),
        ({"split": {"train": 0.9, "val": 0.2, "test": 0.1}}, "split: the shares add up to 1.2"),
        ({"split": {"train": 1.2, "val": -0.2, "test": 0}}, "split.train: "),
        ({"subsets": ["captions"]}, "subsets[0]: "),
        ({"writer": {"kind": "poet"}}, "writer.kind: "),
        ({"name": "a/b"}, "name: "),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write_recipe(tmp_path, **changes)
    with pytest.raises(UserError) as error:
        read_recipe(path)
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_root_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    write_sources(tmp_path)
    recipe = write_recipe(tmp_path, sources=[SKIN | {"root": "skni"}])
    with pytest.raises(UserError) as error:
        build(recipe, tmp_path / "out")
    assert str(error.value).startswith(f"{recipe}: source `skin`: root: ")
    assert str(tmp_path / "skni") in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_hash_is_that_of_what_a_recipe_says(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    written = recipe_sha256(read_recipe(path))
    path.write_text("# a comment\n" + path.read_text().replace("writer:\n  kind: template\n", ""))
    assert recipe_sha256(read_recipe(path)) == written  # the template writer is the default
    assert recipe_sha256(read_recipe(write_recipe(tmp_path, seed=1))) != written
