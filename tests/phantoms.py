"""A small corpus of phantoms, as trainings take it."""

from pathlib import Path

from gmai_vl.corpus import build

RECIPE = """\
name: phantoms
languages: {en: 1}
split: {train: 0.5, val: 0.25, test: 0.25}
sources: [{name: phantom, format: phantom, patients: 2, license: Apache-2.0}]
"""


def build_phantoms(folder: Path) -> None:
    """Build the corpus `corpus` in `folder`."""
    (folder / "data.yaml").write_text(RECIPE)
    build(folder / "data.yaml", folder / "corpus")
