"""Safe files, checked settings, chance that depends on names only."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from gmai_vl.foundation import (
    Settings,
    UserError,
    atomic_file,
    atomic_files,
    canonical_json,
    is_inside,
    load_settings,
    nearest,
    read_yaml,
    sha256_of_file,
    sha256_of_text,
    stable_fraction,
    stable_rng,
    stable_shuffle,
    write_text,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Part(Settings):
    name: str
    share: float = 1.0


class Square(Settings):
    shape: Literal["square"]
    side: float


class Circle(Settings):
    shape: Literal["circle"]
    radius: float


class Whole(Settings):
    title: str
    parts: tuple[Part, ...] = ()
    drawings: tuple[Annotated[Square | Circle, Field(discriminator="shape")], ...] = ()
    window: tuple[float, float] | None = None
    corners: tuple[tuple[int, int], ...] = ()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_several_files_come_into_being_together_or_not_at_all(tmp_path: Path) -> None:
    wanted = {tmp_path / "a" / "one.txt": "1", tmp_path / "b" / "two.txt": "2", tmp_path / "a" / "three.txt": "3"}
    with pytest.raises(RuntimeError), atomic_files() as temporary_for:
        for path, text in wanted.items():
            temporary_for(path).write_text(text)
        raise RuntimeError
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with atomic_files() as temporary_for:
        for path, text in wanted.items():
            temporary_for(path).write_text(text)
        assert not any(path.exists() for path in wanted)
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == wanted


def test_a_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    script = f"""
        import os, signal
        from pathlib import Path
        from gmai_vl.foundation import atomic_file
        with atomic_file(Path({str(target)!r})) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert target.read_text() == "old"


@given(JSON_VALUES)
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: object) -> None:
    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    assert canonical_json(value) == canonical_json(turned(value))


def test_sha256_of_a_file_is_that_of_its_text(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "脑 brain")
    assert sha256_of_file(tmp_path / "a") == sha256_of_text("脑 brain")


def test_a_link_out_of_a_folder_is_not_inside_it(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    assert is_inside(tmp_path / "root" / "a", tmp_path / "root")
    assert not is_inside(tmp_path / "root" / "link" / "a", tmp_path / "root")
    assert not is_inside(tmp_path / "root" / ".." / "a", tmp_path / "root")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title: a\npats: []\n", "pats: unknown key; did you mean `parts`?"),
        ("title: a\nparts: [{name: b, shar: 1}]\n", "parts[0].shar: unknown key; did you mean `share`?"),
        ("parts: []\n", "title: is missing; add it"),
        ("title: a\nparts: [{name: b, share: much}]\n", "parts[0].share: input should be a valid number"),
        (
            "title: a\ndrawings: [{shape: circle, radios: 1}]\n",
            "drawings[0].radios: unknown key; did you mean `radius`?",
        ),
        ("title: a\ndrawings: [{shape: square}]\n", "drawings[0].side: is missing; add it"),
        ("title: a\ndrawings: [{shape: sqare}]\n", "drawings[0].shape: `sqare` is unknown; did you mean `square`?"),
        ("title: a\ndrawings: [{side: 1}]\n", "drawings[0].shape: is missing; add it"),
        ("title: a\nwindow: [0.5]\n", "window[1]: is missing; add it"),
        ("title: a\nwindow: []\n", "window[0]: is missing; add it"),
        ("title: a\ncorners: [[1, 2], [3]]\n", "corners[1][1]: is missing; add it"),
        ("title: a\nwindow: [1, 2, 3]\n", "window: tuple should have at most 2 items"),
        ("title: a\nwindow: [1, x]\n", "window[1]: input should be a valid number"),
        ("title: a\ntitle: b\n", "key `title` stands twice"),
        ("title: [\n", "not valid YAML"),
        ("- a\n", "a recipe is a mapping"),
    ],
)
def test_a_wrong_recipe_is_one_line_with_file_key_and_fix(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_settings(Whole, read_yaml(path), path)
    assert str(error.value).startswith(str(path))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("title: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UserError, match="not valid YAML"):
        read_yaml(path)


def test_nearest_names_the_closest_or_all() -> None:
    assert nearest("x-rya", ["CT", "X-Ray"]) == "did you mean `X-Ray`?"
    assert nearest("quite other", ["CT", "MR"]) == "known: `CT`, `MR`"


def test_chance_is_the_same_in_another_process() -> None:
    script = "from gmai_vl.foundation import *; print(stable_rng('a', 1).random(), stable_fraction('a', 1))"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.split() == [str(stable_rng("a", 1).random()), str(stable_fraction("a", 1))]


@given(st.lists(st.integers()), st.integers())
def test_shuffle_keeps_all_items(items: list[int], seed: int) -> None:
    assert sorted(stable_shuffle(items, seed)) == sorted(items)
    assert stable_shuffle(items, seed) == stable_shuffle(items, seed)


def test_fractions_are_spread_evenly() -> None:
    fractions = [stable_fraction("seed", index) for index in range(4000)]
    for tenth in range(10):
        share = sum(tenth / 10 <= fraction < (tenth + 1) / 10 for fraction in fractions) / 4000
        assert 0.07 < share < 0.13  # 6 standard deviations of a binomial share
