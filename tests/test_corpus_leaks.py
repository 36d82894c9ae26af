"""Near-duplicates and the leak gate: copies in every dress are found, lookalikes are not, and training refuses."""

import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_recipes import RECIPE, save, write_recipe, write_sources
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gmai_vl.cli.data.leaks import leaks as leaks_command
from gmai_vl.corpus import Corpus, build, verify
from gmai_vl.corpus.leaks import Shown, find_leaks, plain_words
from gmai_vl.corpus.leaks_page import write_page
from gmai_vl.corpus.looks import ALIKE_FROM, alike_between, alike_within, look_of, stacked
from gmai_vl.corpus.shown import shown_by
from gmai_vl.foundation import UserError
from gmai_vl.records import Case
from gmai_vl.sources import PhantomSource, list_items, read_item


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Forty phantom pictures of unlike patients and families."""
    spec = PhantomSource(name="p", format="phantom", patients=5, size=160, slices_per_axis=1)
    cases = [read_item(spec, Path(), item)[0] for item in list_items(spec, Path())]
    return [case.pixels for case in cases if isinstance(case, Case)]


def jpeg(pixels: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(io.BytesIO(stream.getvalue())))


def half(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((pixels.shape[1] // 2, pixels.shape[0] // 2)))


def cropped(pixels: np.ndarray) -> np.ndarray:
    rows, columns = (round(0.95 * side) for side in pixels.shape[:2])
    return pixels[-rows:, :columns]


def windowed(pixels: np.ndarray) -> np.ndarray:
    return (np.clip((pixels / 255 - 0.1) / 0.75, 0, 1) * 255).astype(np.uint8)


COPIES = {
    "jpeg": jpeg,
    "half": half,
    "mirrored": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "cropped": cropped,
    "windowed": windowed,
    "all at once": lambda pixels: jpeg(half(cropped(windowed(pixels)[:, ::-1]))),
}


def looks(pictures: list[np.ndarray]) -> np.ndarray:
    return stacked([look_of(np.ascontiguousarray(pixels)) for pixels in pictures])


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found_and_others_are_not(pictures: list[np.ndarray], copy: str) -> None:
    copies = [COPIES[copy](pixels) for pixels in pictures]
    found = {(pair.one, pair.other) for pair in alike_between(looks(copies), looks(pictures))}
    right = {(number, number) for number in range(len(pictures))}
    assert found <= right | {(one, other) for one, other in found if abs(one - other) <= 1}, "no other family"
    assert len(found & right) >= (0.9 if copy == "all at once" else 0.97) * len(pictures)


def test_likeness_does_not_depend_on_the_direction(pictures: list[np.ndarray]) -> None:
    copies = looks([cropped(pixels)[:, ::-1] for pixels in pictures])
    there = {(pair.one, pair.other): pair.likeness for pair in alike_between(copies, looks(pictures))}
    back = {(pair.other, pair.one): pair.likeness for pair in alike_between(looks(pictures), copies)}
    assert there == pytest.approx(back)
    assert all(ALIKE_FROM <= likeness <= 1.001 for likeness in there.values())


def test_within_one_set_every_pair_comes_once(pictures: list[np.ndarray]) -> None:
    both = looks([*pictures[:10], *(jpeg(pixels) for pixels in pictures[:10])])
    pairs = [(pair.one, pair.other) for pair in alike_within(both)]
    assert {(number, number + 10) for number in range(10)} <= set(pairs)
    assert all(one < other for one, other in pairs)
    assert len(set(pairs)) == len(pairs)


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 70), st.integers(1, 70)))
def test_any_picture_has_a_look_that_is_like_itself_or_flat(seed: int, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    one = stacked([look_of(pixels)])
    likeness = [pair.likeness for pair in alike_between(one, one.copy())]
    assert likeness == pytest.approx([1.0], abs=0.01) or one.std() < 1


def test_nothing_is_like_nothing() -> None:
    assert list(alike_between(stacked([]), stacked([]))) == []
    flat = stacked([np.zeros((48, 48), np.uint8)])
    assert list(alike_between(flat, flat.copy())) == []


def test_pictures_that_look_the_same_stand_on_one_side(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    for number, pixels in enumerate(pictures):
        save(tmp_path / "skin" / "nevus" / f"p{number}_0.png", pixels)
        save(tmp_path / "skin" / "melanoma" / f"p{number + 100}_0.png", jpeg(pixels[:, ::-1]))
    skin = [RECIPE["sources"][0]]
    corpus = Corpus(build(write_recipe(tmp_path, sources=skin), tmp_path / "tied").corpus)
    side_of = {row["item"]: row["split"] for row in corpus.rows("cases", ("item", "split"))}
    pairs = [(f"nevus/p{n}_0.png", f"melanoma/p{n + 100}_0.png") for n in range(len(pictures))]
    apart = [pair for pair in pairs if side_of[pair[0]] != side_of[pair[1]]]
    assert len(apart) <= 1  # at most one that the search does not find
    assert corpus.manifest["near_duplicates"]["pairs"] >= len(pairs) - 1
    assert set(side_of.values()) == {"train", "val", "test"}
    assert verify(corpus.path) == []
    loose = build(write_recipe(tmp_path, sources=skin, near_duplicates="keep"), tmp_path / "loose").corpus
    assert Corpus(loose).manifest["near_duplicates"] == {"pairs": 0, "units_tied": 0}
    side_of = {row["item"]: row["split"] for row in Corpus(loose).rows("cases", ("item", "split"))}
    assert any(side_of[one] != side_of[other] for one, other in pairs)


def shown(id: str, **keys: Any) -> Shown:
    return Shown(id=id, place="here", **keys)


def test_the_gate_finds_pixels_patients_and_questions(pictures: list[np.ndarray]) -> None:
    ours = [
        shown("a", pixels="1" * 64, look=look_of(pictures[0]).tobytes(), patient="patient-1"),
        shown("b", pixels="2" * 64, look=look_of(pictures[12]).tobytes(), patient="x|7"),
        shown("c", question="What is a fever?\nA raised temperature."),
        shown("d", question="什么是发热？\n体温升高。"),
    ]
    theirs = [
        shown("same", pixels="1" * 64, look=look_of(pictures[0]).tobytes()),
        shown("copy", pixels="3" * 64, look=look_of(jpeg(pictures[12])).tobytes()),
        shown("person", patient="patient-1"),
        shown("other", patient="y|7"),
        shown("asked", question="what is a FEVER ?\n\nA raised temperature!"),
        shown("zh", question="什么是发热?\n体温升高"),
    ]
    found = {(leak.evidence, leak.ours.id, leak.theirs.id) for leak in find_leaks(ours, theirs)}
    assert found == {
        ("same pixels", "a", "same"),
        ("looks the same", "b", "copy"),
        ("same patient", "a", "person"),
        ("same question", "c", "asked"),
        ("same question", "d", "zh"),
    }
    assert len(find_leaks(theirs, ours)) == len(found)
    assert find_leaks(ours, []) == find_leaks([], theirs) == []


@given(st.text())
def test_plain_words_do_not_change_when_taken_again(text: str) -> None:
    assert plain_words(plain_words(text)) == plain_words(text)


def gmai(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Run `gmai data leaks`; return the exit code and its JSON."""
    import sys

    out = Path(str(arguments[0])).parent / "leaks.json"
    command = [sys.executable, "-m", "gmai_vl.cli", "data", "leaks", *map(str, arguments), "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode < 2, done.stderr
    return done.returncode, json.loads(out.read_text())


def test_the_command_against_a_folder_and_a_corpus(tmp_path: Path) -> None:
    corpus = build(write_sources(tmp_path), tmp_path / "corpus").corpus
    trained = next(row for row in Corpus(corpus).rows("cases") if row["split"] == "train" and row["source"] == "skin")
    held_out = next(row for row in Corpus(corpus).rows("cases") if row["split"] == "test" and row["source"] == "skin")
    folder = tmp_path / "benchmark"
    for row in (trained, held_out):
        (folder / row["item"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "skin" / row["item"], folder / row["item"])
    (folder / "broken.png").write_bytes(b"no picture")
    code, result = gmai(corpus, "--against", folder, "--page", tmp_path / "leaks.html")
    assert code == 1
    assert [(leak["evidence"], leak["theirs"]) for leak in result["leaks"]] == [("same pixels", trained["item"])]
    assert list(result["unreadable"][str(folder)]) == ["broken.png"]
    page = (tmp_path / "leaks.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "<script" not in page
    (folder / trained["item"]).unlink()
    code, result = gmai(corpus, "--against", folder)
    assert (code, result["leaks"]) == (0, [])
    other = build(write_recipe(tmp_path, name="other", sources=RECIPE["sources"][:1]), tmp_path / "other").corpus
    code, result = gmai(corpus, "--against", other)
    assert code == 1
    assert {leak["evidence"] for leak in result["leaks"]} == {"same pixels", "same patient"}


def test_names_on_the_page_are_escaped(tmp_path: Path) -> None:
    leak = find_leaks([shown("<script>alert(1)</script>", question="a b")], [shown("x", question="a b")])
    write_page(tmp_path, leak, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page
    assert re.search(r"Content-Security-Policy.*default-src 'none'", page)


def test_a_path_that_is_neither_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a corpus nor a folder"):
        shown_by(tmp_path / "nosuch")
    with pytest.raises(UserError, match="no file that ends in"):
        shown_by(tmp_path)
    assert leaks_command.__doc__
