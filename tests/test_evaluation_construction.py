"""A benchmark from a corpus: answered by its annotation, drawn where that says, balanced, and the same every time."""

import base64
import csv
import dataclasses
import hashlib
import io
import json
import random
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from corpus_recipes import save
from hypothesis import given
from hypothesis import strategies as st
from killing import run_killed_at
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from gmai_vl.cli.eval import app
from gmai_vl.corpus import Corpus, build
from gmai_vl.corpus.schema import CASES
from gmai_vl.evaluation.construction import balance, build_benchmark
from gmai_vl.evaluation.construction.candidates import Candidate, gather
from gmai_vl.evaluation.construction.distractors import Branches, distinct, wrong_labels
from gmai_vl.evaluation.construction.draw import COLORS, draw, frame, line_width, outline
from gmai_vl.evaluation.construction.subjects import Cell, Subject, fault_of, subjects_of
from gmai_vl.evaluation.construction.wording import question_of
from gmai_vl.foundation import UserError
from gmai_vl.records import Case, Finding
from gmai_vl.vocabulary import CLINICAL_TASKS, Term, all_terms, synonyms, term
from gmai_vl.writing.facts import facts_of

OFFICIAL = [
    "index", "image", "question", "A", "B", "C", "D", "E", "answer", "category", "original task", "modality",
    "clinical VQA task", "department", "perceptual granularity",
]  # fmt: skip
"""As the published file has them."""

WIDTH, HEIGHT = 72, 60
ORGANS = {1: "liver", 2: "spleen", 3: "pancreas"}
CELLS = ("red blood cell", "white blood cell", "platelet")
PATIENTS = 16

SOURCES: list[dict[str, Any]] = [
    {
        "name": "skin", "format": "folder", "root": "skin", "modality": "Dermoscopy", "department": "Dermatology",
        "clinical_task": "Disease Diagnosis", "license": "CC0-1.0", "url": "https://example.org/skin",
        "patient": {"regex": r"(PERSONx\d+)_"},
        "labels": {
            "mel": {"en": "melanoma", "zh": "黑色素瘤"},
            "nevus": {"en": "melanocytic nevus", "zh": "黑素细胞痣"},
            "healthy": {"negative": True, "en": "no finding", "zh": "未见异常"},
        },
    },
    {
        "name": "organs", "format": "mask", "root": "organs", "images": "images", "masks": "masks/{stem}.png",
        "mask_labels": ORGANS, "modality": "CT", "department": "General Surgery", "license": "MIT",
        "clinical_task": "Organ Recognition - Abdomen", "patient": {"regex": r"(PERSONx\d+)_"},
    },
    {
        "name": "smears", "format": "yolo", "root": "smears", "images": "images", "annotations": "boxes",
        "names": list(CELLS), "modality": "Microscopy", "department": "Hematology", "license": "MIT",
        "clinical_task": "Cell Recognition",
    },
    {
        "name": "polyps", "format": "mask", "root": "polyps", "images": "images", "masks": "masks/{stem}.png",
        "mask_labels": {255: "colon polyp"}, "modality": "Endoscopy", "clinical_task": "Disease Diagnosis",
        "license": "MIT",
    },
    {
        "name": "shut", "format": "folder", "root": "shut", "modality": "X-Ray", "clinical_task": "Disease Diagnosis",
        "license": "CC-BY-ND-4.0",
    },
]  # fmt: skip


def write_corpus(folder: Path) -> Path:
    """Draw pictures of noise, no two alike, and build a corpus of them; more of some labels than of others."""
    rng = np.random.default_rng(7)

    def noise(*more: int) -> np.ndarray:
        return rng.integers(0, 256, (HEIGHT, WIDTH, *more), np.uint8)

    for number in range(PATIENTS):
        for label, times in {"mel": 2, "nevus": 1, "healthy": 1 + number % 2}.items():
            for again in range(times):
                save(folder / "skin" / label / f"PERSONx{number}_{label}{again}.png", noise(3))
        mask_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask_HW[8 : 20 + number, 10:34] = 1 + number % 3
        mask_HW[12:16, 14:20] = 0  # a hole
        if number % 4 == 0:
            mask_HW[30:50, 44:72] = 1 + (number + 1) % 3  # ends with the image
        save(folder / "organs" / "images" / f"PERSONx{number}_ct.png", noise())
        save(folder / "organs" / "masks" / f"PERSONx{number}_ct.png", mask_HW)
        save(folder / "smears" / "images" / f"{number}.png", noise(3))
        lines = [f"{number % 3} 0.3 0.4 0.25 0.3", f"{number % 3} 0.7 0.6 0.3 0.2", f"{number % 3} 0.2 0.9 0.02 0.02"]
        (folder / "smears" / "boxes").mkdir(parents=True, exist_ok=True)
        (folder / "smears" / "boxes" / f"{number}.txt").write_text("\n".join(lines))
        save(folder / "polyps" / "images" / f"{number}.png", noise(3))
        save(folder / "polyps" / "masks" / f"{number}.png", (mask_HW > 0).astype(np.uint8) * 255)
        save(folder / "shut" / ("a" if number % 2 else "b") / f"{number}.png", noise())
    recipe = {
        "name": "small", "seed": 0, "languages": {"en": 0.6, "zh": 0.4}, "subsets": ["caption"],
        "split": {"train": 0.4, "val": 0.1, "test": 0.5, "by": "patient"}, "near_duplicates": "keep",
        "sources": SOURCES,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True))
    return build(folder / "recipe.yaml", folder / "corpus").corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("construction"))


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "bench"
    build_benchmark(corpus, out, per_cell=None, seed=0)
    return out


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "items.parquet").to_pylist()


def cell_of(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in OFFICIAL[-4:])


def by_cell(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    cells = defaultdict(list)
    for row in rows:
        cells[cell_of(row)].append(row)
    return cells


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


@dataclasses.dataclass(frozen=True)
class Shown:
    """A row with what its picture shows: the test case that it is a copy of, found by its pixels alone."""

    row: dict[str, Any]
    case: Case
    marked_HW: np.ndarray
    drawn_HW3: np.ndarray
    original_HW3: np.ndarray


def shown(corpus: Path, rows: list[dict[str, Any]]) -> Iterator[Shown]:
    opened = Corpus(corpus)
    tests = {row["case_id"] for row in opened.rows("cases") if row["split"] == "test"}
    cases = [
        (case, case.pixels if case.pixels.ndim == 3 else np.stack([case.pixels] * 3, axis=-1))
        for case in opened.cases()
        if case.case_id in tests
    ]
    for row in rows:
        drawn = np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"))
        equal = [float((original == drawn).all(axis=-1).mean()) for _, original in cases]
        case, original = cases[int(np.argmax(equal))]
        assert max(equal) > 0.3 and sorted(equal)[-2] < 0.01  # it is that one and no other
        yield Shown(row, case, (original != drawn).any(axis=-1), drawn, original)


def names_in(row: dict[str, Any], wanted: Term) -> bool:
    return row["category"] == (wanted.zh if row["language"] == "zh" else wanted.en)


def test_every_item_is_answered_by_its_annotation_and_no_other_option_is_true(corpus: Path, made: Path) -> None:
    rows = rows_of(made)
    assert {row["perceptual granularity"] for row in rows} == {
        "Image level",
        "Box level",
        "Mask level",
        "Contour level",
    }
    assert {row["language"] for row in rows} == {"en", "zh"}
    for each in shown(corpus, rows):
        row, case = each.row, each.case
        options = [row[letter] for letter in "ABCDE" if row[letter]]
        assert 2 <= len(options) <= 5 and len({option.casefold() for option in options}) == len(options)
        assert row[row["answer"]] == row["category"]
        true = {finding.label for finding in case.findings} or {case.negative}
        (right,) = [label for label in true if names_in(row, label)]
        known = {name for label in true for name in (label.en, label.zh)}
        assert not known & (set(options) - {row["category"]})
        could_be = {name for label in (*case.label_set, term("no finding")) for name in (label.en, label.zh)}
        assert set(options) <= could_be
        assert (row["source"], row["license"], row["modality"]) == (case.source, case.license, case.modality)
        assert row["clinical VQA task"] == case.clinical_task
        if row["perceptual granularity"] == "Image level":
            assert not each.marked_HW.any() and row["original task"] == "CLS_2D"
        else:
            assert each.marked_HW.any() and case.source in ("organs", "smears")
            assert region_of(each).label == right


def region_of(each: Shown) -> Finding:
    """Return the region that is marked, told by where the marks are; lines are one pixel wide."""
    rows, columns = np.nonzero(each.marked_HW)
    ends = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    (region,) = [
        finding
        for finding in each.case.findings
        if finding.box and max(abs(int(one) - other) for one, other in zip(ends, finding.box, strict=True)) <= 1
    ]
    return region


def test_regions_are_drawn_where_the_annotation_says_and_nowhere_else(corpus: Path, made: Path) -> None:
    assert line_width(WIDTH, HEIGHT) == 1
    seen = Counter()
    for each in shown(corpus, [row for row in rows_of(made) if row["perceptual granularity"] != "Image level"]):
        region, level = region_of(each), each.row["perceptual granularity"]
        seen[level] += 1
        colors = {tuple(color) for color in each.drawn_HW3[each.marked_HW].tolist()}
        if level == "Mask level":
            assert (each.marked_HW == region.mask).all()
            under = each.original_HW3[region.mask].astype(float)
            halves = [np.rint((under + np.array(color)) / 2) for color in COLORS]
            assert any((each.drawn_HW3[region.mask] == half).all() for half in halves)
            continue
        assert len(colors) == 1 and colors <= set(COLORS)
        if level == "Box level":
            x1, y1, x2, y2 = region.box
            expected_HW = np.zeros_like(each.marked_HW)
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    left, top, right, bottom = max(x1 - 1, 0), max(y1 - 1, 0), min(x2, WIDTH - 1), min(y2, HEIGHT - 1)
                    inside = left <= x <= right and top <= y <= bottom
                    expected_HW[y, x] = inside and (x in (left, right) or y in (top, bottom))
            assert (each.marked_HW == expected_HW).all()
        else:
            near_HW = ndimage.distance_transform_edt(~region.mask) <= 1
            assert not each.marked_HW[~near_HW].any()
            deep_HW = ndimage.binary_erosion(region.mask, np.ones((3, 3)))
            assert not each.marked_HW[deep_HW].any()
            assert is_closed(each.marked_HW, region.mask)
    assert set(seen) == {"Box level", "Mask level", "Contour level"} and min(seen.values()) >= 3


def is_closed(line_HW: np.ndarray, mask_HW: np.ndarray) -> bool:
    """Say whether no way from a pixel of the mask to one outside avoids the line."""
    areas_HW, count = ndimage.label(~line_HW)
    return all(len({bool(inside) for inside in mask_HW[(areas_HW == area)]}) == 1 for area in range(1, count + 1))


@st.composite
def masks(draw_from: st.DrawFn) -> np.ndarray:
    side = draw_from(st.integers(8, 40))
    cells = draw_from(st.lists(st.tuples(*[st.integers(0, side - 1)] * 4), min_size=1, max_size=4))
    mask_HW = np.zeros((side, side), np.bool_)
    for y, x, height, width in cells:
        mask_HW[y : y + height + 1, x : x + width + 1] = True
    return mask_HW


@given(masks())
def test_lines_hug_their_region_also_at_the_end_of_the_image(mask_HW: np.ndarray) -> None:
    side = len(mask_HW)
    line = max(1, side // 10)
    drawn_HW = outline(mask_HW, line)
    assert is_closed(drawn_HW, mask_HW)
    rim_HW = np.pad(np.zeros((side - 2, side - 2), np.bool_), 1, constant_values=True)
    assert drawn_HW[mask_HW & rim_HW].all()  # a mask that ends with the image has a line there too
    assert not drawn_HW[ndimage.distance_transform_edt(~mask_HW) > (line + 1) // 2].any()
    rows, columns = np.nonzero(mask_HW)
    x1, y1, x2, y2 = (int(end) for end in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    left, top, right, bottom = max(x1 - line, 0), max(y1 - line, 0), min(x2 + line, side), min(y2 + line, side)
    frame_HW = frame((x1, y1, x2, y2), side, side, line)
    for y, x in np.ndindex(side, side):
        depth = min(x - left, y - top, right - 1 - x, bottom - 1 - y)  # below the outer edge of the line
        assert frame_HW[y, x] == (0 <= depth < line)


def test_drawing_leaves_its_image_alone_and_tells_the_color_apart() -> None:
    for value in (0, 90, 255):
        pixels = np.full((40, 40), value, np.uint8)
        mask_HW = np.zeros((40, 40), np.bool_)
        mask_HW[10:30, 10:30] = True
        finding = Finding(label=term("liver"), source_label="1", box=(10, 10, 30, 30), mask=mask_HW)
        for granularity in ("box", "mask", "contour"):
            drawn = draw(pixels, finding, granularity)
            assert drawn.shape == (40, 40, 3) and (pixels == value).all()
            changed = drawn[(drawn != value).any(axis=-1)].astype(int)
            assert np.abs(changed - value).max(axis=-1).min() > 60
    assert [line_width(side, side) for side in (35, 336, 1024)] == [1, 2, 8]


def region(box: tuple[int, int, int, int], mask_HW: np.ndarray | None = None) -> tuple[Finding, Case]:
    finding = Finding(label=term("liver"), source_label="1", box=box, mask=mask_HW)
    pixels = np.zeros((300, 400), np.uint8)
    case = Case(source="s", item="i", pixels=pixels, modality="CT", task="seg", findings=(finding,))
    return finding, case


def test_regions_that_cannot_be_told_are_left_out_with_their_reason() -> None:
    for box, reason in {
        (0, 0, 400, 300): "region covers nearly the whole image",
        (10, 10, 17, 200): "region too small to be seen",
        (10, 10, 20, 20): None,
    }.items():
        assert fault_of(region(box)[0], "box", region(box)[1]) == reason
    two_HW = np.zeros((300, 400), np.bool_)
    two_HW[10:40, 10:40] = two_HW[250:290, 340:390] = True
    finding, case = region((10, 10, 390, 290), two_HW)
    faults = {level: fault_of(finding, level, case) for level in ("box", "mask", "contour")}
    assert faults == {"box": "box shows little of what it is about", "mask": None, "contour": None}
    two_HW[10:290, 10:40] = True
    two_HW[10:290, 60:390] = False
    two_HW[10:290, 45:90] = True
    finding, case = region((10, 10, 90, 290), two_HW)
    assert fault_of(finding, "box", case) == "box is about several pieces"
    two_HW[200, 40:45] = True  # a bridge
    assert fault_of(finding, "box", case) is None
    speck_HW = np.zeros((300, 400), np.bool_)
    speck_HW[10, 10] = speck_HW[60, 60] = True
    finding, case = region((10, 10, 61, 61), speck_HW)
    assert subjects_of(case)[1] == {
        "box shows little of what it is about": 1,
        "region too small to be seen": 2,
    }


def test_equal_regions_count_once_and_nothing_found_is_right_only_where_nothing_is() -> None:
    finding, case = region((10, 10, 60, 60))
    twice = dataclasses.replace(case, findings=(finding, finding), negative=term("no finding"))
    assert [(each.granularity, each.label.en) for each in subjects_of(twice)[0]] == [("box", "liver")]
    none = dataclasses.replace(case, findings=(), negative=term("no finding"))
    assert [(each.granularity, each.label.en) for each in subjects_of(none)[0]] == [("image", "no finding")]


def test_the_corpus_is_not_touched_and_names_no_patient(corpus: Path, tmp_path: Path) -> None:
    before = content(corpus)
    build_benchmark(corpus, tmp_path / "out", per_cell=3, seed=1)
    assert content(corpus) == before
    for name, data in content(tmp_path / "out").items():
        assert b"PERSONx" not in data, name
    for row in rows_of(tmp_path / "out"):
        assert len(row["patient_id"]) == 16


def test_a_patient_has_one_hash_and_others_have_others(corpus: Path, made: Path) -> None:
    hashes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in shown(corpus, rows_of(made)):
        hashes[each.case.source, each.case.patient_id or each.case.image_sha256].add(each.row["patient_id"])
    assert all(len(found) == 1 for found in hashes.values())
    assert len(set.union(*hashes.values())) == len(hashes) == manifest_of(made)["counts"]["patients"]


def test_the_tsv_is_the_official_one_and_says_what_the_parquet_says(made: Path) -> None:
    csv.field_size_limit(10**9)
    with (made / "GMAI-MMBench_VAL.tsv").open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file, delimiter="\t")
    assert head == OFFICIAL
    rows = rows_of(made)
    assert len(lines) == len(rows) > 40
    for number, (line, row) in enumerate(zip(lines, rows, strict=True)):
        read = dict(zip(head, line, strict=True))
        assert read.pop("index") == str(number) and row["index"] == number
        assert base64.b64decode(read.pop("image"), validate=True) == row["image"]
        assert read == {name: row[name] for name in OFFICIAL[2:]}
    asked = [json.loads(line) for line in (made / "blind.jsonl").read_text().splitlines()]
    assert [each["id"] for each in asked] == [row["id"] for row in rows]
    assert len({row["id"] for row in rows}) == len(rows)
    for each, row in zip(asked, rows, strict=True):
        ((turn,), (part,)) = each["messages"], each["messages"][0]["content"]
        assert turn["role"] == "user" and part["type"] == "text"
        assert part["text"].startswith(f"{row['question']}\nA. {row['A']}\nB. {row['B']}\n")


def test_labels_and_letters_are_balanced_in_every_cell(corpus: Path, made: Path) -> None:
    gathered = gather(Corpus(corpus))
    supply: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for candidate in gathered.candidates:
        cell = candidate.cell
        level = f"{cell.granularity.capitalize()} level"
        supply[cell.modality, cell.clinical_task, cell.department, level][candidate.label.en] += 1
    for cell, rows in by_cell(rows_of(made)).items():
        english = {name: label.en for label in all_labels() for name in (label.en, label.zh) if name}
        counts = Counter(english[row["category"]] for row in rows)
        assert len(counts) > 1
        for label, number in counts.items():
            assert number >= max(counts.values()) - 1 or number == supply[cell][label]
        (number,) = {sum(bool(row[letter]) for letter in "ABCDE") for row in rows}
        letters = Counter(dict.fromkeys("ABCDE"[:number], 0)) | Counter(row["answer"] for row in rows)
        assert max(letters.values()) - min(letters[letter] for letter in "ABCDE"[:number]) <= 1
        assert set(letters) <= set("ABCDE"[:number])
    told = {tuple(each[name] for name in ("modality", "granularity")): each for each in manifest_of(made)["cells"]}
    skin = told["Dermoscopy", "image"]
    assert skin["labels"]["melanoma"] <= max(skin["labels"]["no finding"], skin["labels"]["melanocytic nevus"])


def all_labels() -> list[Term]:
    return [*all_terms(), term("no finding"), Term("melanocytic nevus", "黑素细胞痣")]


CELL = Cell(clinical_task="Disease Diagnosis", department="", modality="CT", granularity="image")


def candidate(number: int, label: str, patient: str = "", wrong: tuple[str, ...] = (), source: str = "s") -> Candidate:
    return Candidate(
        id=f"{number:04}", cell=CELL, label=Term(label), wrong=tuple(map(Term, wrong)), case_id=str(number), region="",
        patient=patient or str(number), source=source, license=None, original_task="CLS_2D",
    )  # fmt: skip


things = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("pqrst")), max_size=40)


@given(things, st.integers(0, 3), st.randoms())
def test_labels_take_turns_and_so_do_patients(pairs: list[tuple[str, str]], seed: int, rng: random.Random) -> None:
    members = [candidate(number, *pair) for number, pair in enumerate(pairs)]
    ordered = balance.in_turns(members, seed)
    shuffled = rng.sample(members, len(members))
    assert balance.in_turns(shuffled, seed) == ordered
    supply = Counter(label for label, _ in pairs)
    longest = sorted(supply.values())[-2] if len(supply) > 1 else 0
    assert Counter(each.label.en for each in ordered) == {
        label: min(n, longest) for label, n in supply.items() if longest
    }
    left, taken = list(members), Counter()
    for place, each in enumerate(ordered):
        assert taken[each.patient] == min(taken[other.patient] for other in left if other.label == each.label)
        left.remove(each)
        taken[each.patient] += 1
        so_far = Counter(other.label.en for other in ordered[: place + 1])
        for label, number in supply.items():
            assert so_far[label] >= min(max(so_far.values()) - 1, number)


labels_of_candidates = st.lists(
    st.tuples(st.sampled_from("abcdefg"), st.sets(st.sampled_from("abcdefgh"), min_size=1), st.sampled_from("st")),
    min_size=1,
    max_size=40,
)


@given(labels_of_candidates)
def test_options_are_distinct_wrong_and_evenly_placed(drawn: list[tuple[str, set[str], str]]) -> None:
    members = [
        candidate(number, label, wrong=tuple(sorted(wrong - {label})), source=source)
        for number, (label, wrong, source) in enumerate(drawn)
        if wrong - {label}
    ]
    eligible = balance.fair(balance.roomy(members)) if members else []
    choices = balance.with_letters(balance.with_options(eligible, 0), 0)
    right = {choice.label.en for choice in choices}
    numbers: dict[str, set[int]] = defaultdict(set)
    for choice in choices:
        shown_labels = [label.en for label in choice.options.values()]
        assert choice.options[choice.answer] == choice.label
        assert sorted(shown_labels) == sorted({choice.label.en, *(label.en for label in choice.wrong)})
        assert set(choice.wrong) <= set(choice.candidate.wrong)
        assert right & {label.en for label in choice.wrong}
        numbers[choice.candidate.source].add(len(shown_labels))
    assert all(len(found) == 1 for found in numbers.values())
    for number in range(2, 6):
        dealt = Counter(choice.answer for choice in choices if len(choice.options) == number)
        assert max(dealt.values(), default=0) - min(dealt["ABCDE"[place]] for place in range(number)) <= 1


def test_labels_are_wrong_about_as_often_as_each_other() -> None:
    names = "abcdefghi"
    members = [candidate(number, names[number % 9], wrong=tuple(names)) for number in range(90)]
    choices = balance.with_options(members, 0)
    offered = Counter(label.en for choice in choices for label in choice.wrong)
    assert offered.total() == 360 and max(offered.values()) - min(offered.values()) <= 2


def test_options_with_one_name_are_offered_once() -> None:
    labels = [
        Term("HCC"),
        term("hepatocellular carcinoma"),
        Term("Cyst"),
        Term("cyst"),
        Term("x", "囊肿"),
        Term("y", "囊肿"),
    ]
    assert [label.en for label in distinct(labels)] == ["HCC", "Cyst", "x"]
    assert list(distinct([Term("CYST ")], known=[Term("cyst")])) == []


ROWS = list(csv.DictReader((files("gmai_vl.vocabulary") / "terms.csv").read_text(encoding="utf-8").splitlines()))
WITHIN = {row["en"].lower(): {name for name in row["within"].lower().split(";") if name} for row in ROWS}
FINDINGS = [label for label in all_terms() if label.en.lower() in WITHIN]


def parents(name: str) -> set[str]:
    """Return all that a term lies in, read from the vocabulary's file alone."""
    found, waiting = set(), [name]
    while waiting:
        for wider in WITHIN.get(waiting.pop(), ()):
            if wider not in found:
                found.add(wider)
                waiting.append(wider)
    return found


label_sets = st.lists(st.sampled_from(FINDINGS), min_size=1, max_size=12, unique=True)


@given(label_sets, st.data(), st.booleans(), st.booleans())
def test_wrong_labels_are_never_true(known: list[Term], data: st.DataObject, boxed: bool, elsewhere: bool) -> None:
    given_labels = data.draw(st.lists(st.sampled_from(known), max_size=4, unique=True))
    extra = data.draw(st.lists(st.sampled_from(FINDINGS), max_size=6, unique=True))
    negative = None if given_labels else term("no finding")
    boxes = [(4 * place, 0, 4 * place + 4, 8) for place in range(len(given_labels))]
    findings = tuple(
        Finding(label=label, source_label=label.en, box=box if boxed else None)
        for label, box in zip(given_labels, boxes, strict=True)
    )
    case = Case(
        source="s", item="i", pixels=np.zeros((16, 32), np.uint8), modality="CT", task="cls", findings=findings,
        negative=negative, label_set=tuple(known), clinical_task="Disease Diagnosis",
    )  # fmt: skip
    branches = Branches(
        negatives={"s": (term("no finding"),)},
        akin={("CT", "Disease Diagnosis"): tuple(dict.fromkeys([*known, *extra]))},
    )
    for number, label in enumerate(given_labels or [negative]):
        subject = Subject(
            granularity="box" if findings and boxed else "image",
            label=label,
            finding=findings[number] if findings and boxed else None,
        )
        wrong = wrong_labels(case, subject, branches, elsewhere=elsewhere)
        # Labels in other places of the image may be offered for a region, where asked for; then only the region counts.
        true = [label] if elsewhere and subject.finding else (given_labels or [negative])
        true_names = {name.lower() for each in true for name in (each.en, each.zh, *synonyms(each, "en")) if name}
        for other in wrong:
            assert not {name.lower() for name in (other.en, other.zh) if name} & true_names
            assert not any(other.en.lower() in parents(each.en.lower()) for each in true)
            assert other in {*known, *extra, term("no finding")}
            if other == term("no finding"):
                assert findings and subject.finding is None
        facts = facts_of(case)
        if not elsewhere and facts.absent:  # the writer's own rule, computed apart from this one
            assert set(facts.absent) == set(wrong) - {term("no finding")}
        if not findings:
            assert set(wrong) <= set(facts.absent)


BOX = (2, 2, 12, 12)


def case_of(findings: dict[Term, tuple[int, int, int, int] | None], **changes: Any) -> Case:
    found = tuple(Finding(label=label, source_label=label.en, box=box) for label, box in findings.items())
    fields: dict[str, Any] = {
        "source": "s", "item": "i", "pixels": np.zeros((40, 60), np.uint8), "modality": "CT", "task": "cls",
        "clinical_task": "Disease Diagnosis", "findings": found,
    }  # fmt: skip
    return Case(**fields | changes)


def wrong_by_label(
    case: Case, akin: tuple[Term, ...] = (), negatives: tuple[Term, ...] = (), elsewhere: bool = False
) -> dict[str, list[str]]:
    """Return right label -> the wrong ones, in English."""
    branches = Branches(negatives={"s": negatives}, akin={("CT", "Disease Diagnosis"): akin})
    return {
        subject.label.en: [label.en for label in wrong_labels(case, subject, branches, elsewhere=elsewhere)]
        for subject in subjects_of(case)[0]
    }


MELANOMA, NO_MELANOMA, NO_FINDING = term("melanoma"), Term("no melanoma"), term("no finding")
CARCINOMA, LIVER, SPLEEN, AORTA = map(term, ("hepatocellular carcinoma", "liver", "spleen", "aorta"))


def test_what_denies_a_finding_is_no_kind_of_it_and_is_right_or_wrong_of_whole_images_only() -> None:
    known = {"label_set": (MELANOMA,), "severity": (NO_MELANOMA, MELANOMA)}
    denials = (NO_MELANOMA,)
    assert wrong_by_label(case_of({MELANOMA: None}, **known), negatives=denials) == {"melanoma": ["no melanoma"]}
    assert wrong_by_label(case_of({}, negative=NO_MELANOMA, **known), negatives=denials) == {
        "no melanoma": ["melanoma"]
    }
    assert wrong_by_label(case_of({MELANOMA: BOX}, **known), negatives=denials) == {"melanoma": []}
    grades = (Term("grade zero"), Term("grade one"), Term("grade two"))
    graded = case_of({grades[2]: BOX}, label_set=grades[1:], severity=grades)
    assert wrong_by_label(graded, negatives=grades[:1]) == {"grade two": ["grade one"]}
    # Where nothing was found, nothing of that name is offered, whatever list it stands in; nor beside a healthy organ.
    assert wrong_by_label(case_of({}, negative=NO_MELANOMA, label_set=(NO_FINDING, MELANOMA))) == {
        "no melanoma": ["melanoma"]
    }
    organs = case_of({LIVER: None}, label_set=(LIVER, SPLEEN))
    assert wrong_by_label(organs, negatives=(NO_FINDING,)) == {"liver": ["spleen"]}


def test_synonyms_of_a_right_label_are_not_offered() -> None:
    known = (CARCINOMA, Term("HCC"), Term("other", "肝细胞性肝癌"), SPLEEN)
    assert wrong_by_label(case_of({CARCINOMA: BOX}, label_set=known)) == {CARCINOMA.en: ["spleen"]}
    assert wrong_by_label(case_of({Term("hcc"): BOX}, label_set=known)) == {"hcc": ["other", "spleen"]}


def test_other_cases_lend_their_labels_only_where_a_finding_has_none_and_nothing_in_common_with_them() -> None:
    lent = (CARCINOMA, LIVER, SPLEEN, AORTA, term("liver cyst"))
    assert wrong_by_label(case_of({LIVER: BOX}, label_set=(LIVER,)), akin=lent) == {"liver": ["aorta", "spleen"]}
    assert wrong_by_label(case_of({LIVER: BOX}, label_set=(LIVER, SPLEEN)), akin=lent) == {"liver": ["spleen"]}
    assert wrong_by_label(case_of({}, negative=NO_FINDING, label_set=()), akin=lent) == {"no finding": []}


def test_labels_elsewhere_are_offered_only_apart_from_the_region_and_only_when_asked_for() -> None:
    boxes = {LIVER: (0, 0, 20, 20), AORTA: (4, 4, 16, 16), SPLEEN: (19, 0, 39, 20), term("liver cyst"): (0, 24, 10, 34)}
    case = case_of(boxes, label_set=tuple(boxes))
    assert set(map(tuple, wrong_by_label(case).values())) == {()}
    assert wrong_by_label(case, elsewhere=True) == {
        "liver": ["spleen"],  # the aorta covers a third of its box, the cyst is its own
        "aorta": ["liver cyst", "spleen"],
        "spleen": ["aorta", "liver", "liver cyst"],
        "liver cyst": ["aorta", "spleen"],
    }


def test_the_same_corpus_and_seed_give_the_same_bytes_in_any_order_of_input(
    corpus: Path, made: Path, tmp_path: Path
) -> None:
    build_benchmark(corpus, tmp_path / "again", per_cell=None, seed=0)
    assert content(tmp_path / "again") == content(made)

    def mixed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rng = random.Random(3)
        for row in rows:
            rng.shuffle(row["findings"])
            rng.shuffle(row["label_set"])
        return rng.sample(rows, len(rows))

    build_benchmark(changed(corpus, tmp_path / "mixed", mixed), tmp_path / "of-mixed", per_cell=None, seed=0)
    assert content(tmp_path / "of-mixed") == content(made)
    other = build_benchmark(corpus, tmp_path / "other", per_cell=None, seed=1)
    assert other.fingerprint != manifest_of(made)["fingerprint"]
    # A limit takes the beginning of what there is without one.
    build_benchmark(corpus, tmp_path / "few", per_cell=4, seed=0)
    for cell, rows in by_cell(rows_of(tmp_path / "few")).items():
        assert len(rows) == 4
        assert {row["id"] for row in rows} <= {row["id"] for row in by_cell(rows_of(made))[cell]}


def changed(corpus: Path, to: Path, change: Any) -> Path:
    """Copy a corpus with the rows of its cases changed; its manifest stays."""
    shutil.copytree(corpus, to)
    rows = change(pq.read_table(to / "cases.parquet").to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, schema=CASES), to / "cases.parquet")
    return to


def test_the_majority_baseline_is_what_counting_gives(corpus: Path, made: Path) -> None:
    opened = Corpus(corpus)
    train = {row["case_id"] for row in opened.rows("cases") if row["split"] == "train"}
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for case in opened.cases():
        if case.case_id not in train:
            continue
        if case.source == "skin":
            counts["Dermoscopy", "image"][(case.findings[0].label if case.findings else case.negative).en] += 1
        for finding in case.findings:
            if finding.box and min(finding.box[2] - finding.box[0], finding.box[3] - finding.box[1]) >= 5:
                for level in ("box", "mask", "contour") if finding.mask is not None else ("box",):
                    counts[case.modality or "", level][finding.label.en] += 1
    english = {name: label.en for label in all_labels() for name in (label.en, label.zh) if name}
    cells = by_cell(rows_of(made))
    told = manifest_of(made)["cells"]
    assert len(told) == len(cells) == 5
    for each in told:
        rows = cells[
            each["modality"], each["clinical_task"], each["department"], f"{each['granularity'].capitalize()} level"
        ]
        train_counts = counts[each["modality"], each["granularity"]]
        most = max(train_counts.values())
        assert each["majority"]["label"] == min(label for label, n in train_counts.items() if n == most)
        right = 0
        for row in rows:
            options = [english[row[letter]] for letter in "ABCDE" if row[letter]]
            best = max(train_counts[option] for option in options)
            right += english[row["category"]] == sorted(o for o in options if train_counts[o] == best)[0]
        assert each["majority"]["accuracy"] == round(right / len(rows), 4)
        assert each["chance"] == round(sum(1 / sum(bool(r[x]) for x in "ABCDE") for r in rows) / len(rows), 4)


def answers(path: Path, responses: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"id": id, "response": text}) + "\n" for id, text in responses.items()))
    return path


def test_what_is_answered_blind_is_dropped_and_the_rest_balanced_anew(corpus: Path, made: Path, tmp_path: Path) -> None:
    rows = rows_of(made)
    known = {row["id"] for row in rows if int(row["id"], 16) % 3 == 0}

    def said(row: dict[str, Any]) -> str:
        if row["id"] in known:
            return f"I think the answer is {row['answer']}."
        return "B" if row["answer"] == "A" else "I cannot see an image."

    file = answers(tmp_path / "blind.jsonl", {row["id"]: said(row) for row in rows})
    built = build_benchmark(corpus, tmp_path / "out", per_cell=None, seed=0, blind=file)
    left = rows_of(tmp_path / "out")
    before = {row["id"]: row for row in rows}
    assert {row["id"] for row in left} <= before.keys() - known
    unasked = built.left_out["questions"]
    assert unasked["answered right without the image"] == len(known)
    assert (
        len(left)
        == built.items
        == len(rows)
        - len(known)
        - sum(
            unasked.get(reason, 0) - manifest_of(made)["left_out"]["questions"].get(reason, 0)
            for reason in ("more of its label than of any other in its cell", "its cell has one right label only")
        )
    )
    for row in left:  # the same question with the same options; only their order may differ
        for name in ("question", "category", "patient_id", "language", "image"):
            assert row[name] == before[row["id"]][name]
        assert sorted(row[x] or "" for x in "ABCDE") == sorted(before[row["id"]][x] or "" for x in "ABCDE")
    for cell_rows in by_cell(left).values():
        dealt = Counter(row["answer"] for row in cell_rows)
        number = sum(bool(cell_rows[0][letter]) for letter in "ABCDE")
        assert max(dealt.values()) - min(dealt[letter] for letter in "ABCDE"[:number]) <= 1
    told = manifest_of(tmp_path / "out")["blind"]
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (told["asked"], told["right"]) == (len(rows), len(known))
    assert "| blind % |" in (tmp_path / "out" / "card.md").read_text()


def test_answers_to_another_build_are_refused(corpus: Path, made: Path, tmp_path: Path) -> None:
    ids = [row["id"] for row in rows_of(made)]
    few = answers(tmp_path / "few.jsonl", dict.fromkeys(ids[1:], "A"))
    with pytest.raises(
        UserError, match=rf"few\.jsonl: 1 of {len(ids)} questions have no answer, the first is `{ids[0]}`"
    ):
        build_benchmark(corpus, tmp_path / "out", per_cell=None, seed=0, blind=few)
    more = answers(tmp_path / "more.jsonl", dict.fromkeys([*ids, "x"], "A"))
    with pytest.raises(UserError, match=r"more\.jsonl: 1 ids are no questions of this build, the first is `x`"):
        build_benchmark(corpus, tmp_path / "out", per_cell=None, seed=0, blind=more)
    every = answers(tmp_path / "every.jsonl", {row["id"]: row["answer"] for row in rows_of(made)})
    with pytest.raises(UserError, match="nothing of its test split can be asked: answered right without the image"):
        build_benchmark(corpus, tmp_path / "out", per_cell=None, seed=0, blind=every)
    assert not (tmp_path / "out").exists()


def test_cells_with_one_label_and_licences_that_forbid_it_are_left_out(corpus: Path, made: Path) -> None:
    assert {row["source"] for row in rows_of(made)} == {"skin", "organs", "smears"}
    left_out = manifest_of(made)["left_out"]
    tests = Counter(row["source"] for row in Corpus(corpus).rows("cases") if row["split"] == "test")
    assert left_out["cases"] == {"licence CC-BY-ND-4.0 forbids it": tests["shut"]}
    reasons = left_out["questions"]
    polyps = [row for row in Corpus(corpus).rows("cases") if row["split"] == "test" and row["source"] == "polyps"]
    several = sum(
        ndimage.label(finding.mask)[1] > 1 for row in polyps for finding in Corpus(corpus).case(row["case_id"]).findings
    )
    assert reasons["box is about several pieces"] == several > 0
    assert reasons["no other answer is surely wrong"] == 3 * sum(len(row["findings"]) for row in polyps) - several
    assert left_out["questions"]["region too small to be seen"] == tests["smears"]
    card = (made / "card.md").read_text()
    assert "Research use only, not for diagnosis." in card and "shut" not in card and "| skin |" in card

    def one_label(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave of the test organs those of one label."""
        return [
            row
            for row in rows
            if row["source"] != "organs"
            or row["split"] != "test"
            or {finding["label"]["en"] for finding in row["findings"]} == {"liver"}
        ]

    out = made.parent / "one"
    built = build_benchmark(changed(corpus, made.parent / "one-corpus", one_label), out, per_cell=None, seed=0)
    assert {row["source"] for row in rows_of(out)} == {"skin", "smears"}
    empty = [(cell["granularity"], cell["reason"]) for cell in built.manifest["left_out"]["cells"]]
    assert empty == [(level, "its cell has one right label only") for level in ("box", "contour", "mask")]


def test_images_and_patients_of_the_other_sides_stay_out(corpus: Path, made: Path, tmp_path: Path) -> None:
    rows = pq.read_table(corpus / "cases.parquet").to_pylist()
    skin = [row for row in rows if row["source"] == "skin"]
    leaked = next(row for row in skin if row["split"] == "test")
    other = next(row for row in skin if row["split"] == "test" and row["patient_id"] != leaked["patient_id"])

    def leak(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        again = {"case_id": "skin/again", "item": "again", "split": "train", "patient_id": "somebody"}
        return [
            *rows,
            leaked | again,
            other | again | {"case_id": "skin/b", "image": "0" * 64, "patient_id": other["patient_id"]},
        ]

    built = build_benchmark(changed(corpus, tmp_path / "leaky", leak), tmp_path / "out", per_cell=None, seed=0)
    patients = sum(row["patient_id"] == other["patient_id"] and row["split"] == "test" for row in skin)
    assert built.left_out["cases"]["image also in train or val"] == 1
    assert built.left_out["cases"]["patient also in train or val"] == patients
    for each in shown(corpus, [row for row in rows_of(tmp_path / "out") if row["source"] == "skin"]):
        assert each.case.patient_id != other["patient_id"] and each.case.case_id != leaked["case_id"]


def test_only_folders_of_benchmarks_are_replaced(corpus: Path, made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"mine: holds `thesis\.txt`, which is no part of a benchmark"):
        build_benchmark(corpus, tmp_path / "mine", per_cell=None, seed=0)
    with pytest.raises(UserError, match="lies in the corpus or about it"):
        build_benchmark(corpus, corpus / "bench", per_cell=None, seed=0)
    with pytest.raises(UserError, match="lies in the corpus or about it"):
        build_benchmark(corpus, corpus.parent, per_cell=None, seed=0)
    with pytest.raises(UserError, match=r"holds `manifest\.json`, which is no part of a benchmark"):
        (tmp_path / "other").mkdir()
        shutil.copy(corpus / "manifest.json", tmp_path / "other")
        build_benchmark(corpus, tmp_path / "other", per_cell=None, seed=0)
    shutil.copytree(made, tmp_path / "old")
    build_benchmark(corpus, tmp_path / "old", per_cell=2, seed=5)
    assert manifest_of(tmp_path / "old")["per_cell"] == 2


def test_a_full_disk_leaves_the_old_benchmark_or_nothing(
    corpus: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path / "old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gmai_vl.evaluation.construction.files.pq.ParquetWriter.write_table", full)
    for out in ("new", "old"):
        with pytest.raises(OSError, match="No space left"):
            build_benchmark(corpus, tmp_path / out, per_cell=2, seed=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]
    assert content(tmp_path / "old") == content(made)


CALL = (
    "from gmai_vl.evaluation.construction import build_benchmark; "
    "call = lambda corpus, out: build_benchmark(corpus, out, per_cell=2, seed=1)"
)


def test_a_killed_build_leaves_nothing_half(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "watched" / "out"
    out.parent.mkdir()
    assert run_killed_at(CALL, [corpus, out], out.parent, 8).returncode == -signal.SIGKILL
    assert list(out.parent.glob(".out.*/pictures/*.png")) and not out.exists()


@pytest.mark.long
def test_a_build_killed_at_any_moment_leaves_the_old_benchmark_the_new_one_or_none(
    corpus: Path, made: Path, tmp_path: Path
) -> None:
    build_benchmark(corpus, tmp_path / "whole", per_cell=2, seed=1)
    whole, watched = content(tmp_path / "whole"), tmp_path / "watched"
    counted = run_killed_at(CALL, [corpus, watched / "out"], watched, 0)
    assert counted.returncode == 0, counted.stderr
    assert content(watched / "out") == whole
    for moment in range(1, int(counted.stdout) + 1, 5):
        shutil.rmtree(watched)
        shutil.copytree(made, watched / "out")
        assert run_killed_at(CALL, [corpus, watched / "out"], watched, moment).returncode == -signal.SIGKILL
        left = content(watched / "out") if (watched / "out").exists() else {}
        assert left in ({}, content(made), whole), moment


def test_every_clinical_task_has_its_questions_in_both_languages() -> None:
    for task in CLINICAL_TASKS:
        for granularity in ("image", "box", "mask", "contour"):
            cell = Cell(clinical_task=task.en, department="", modality="CT", granularity=granularity)
            english, chinese = question_of(cell, "en"), question_of(cell, "zh")
            assert english.endswith("?") and english.isascii() and "{" not in english
            assert chinese.endswith("？") and not any(letter.isascii() for letter in chinese)


def test_the_command_builds_and_tells(corpus: Path, tmp_path: Path) -> None:
    arguments = ["build", str(corpus), "--out", str(tmp_path / "out"), "--per-cell", "3", "--json", str(tmp_path / "j")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "15 questions in 5 cells" in result.output and "Research use only" in result.output
    assert json.loads((tmp_path / "j").read_text()) == manifest_of(tmp_path / "out")
    with pytest.raises(UserError, match="nothing of its test split can be asked: it is empty"):

        def no_test(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [row for row in rows if row["split"] != "test"]

        build_benchmark(changed(corpus, tmp_path / "c", no_test), tmp_path / "x", per_cell=None, seed=0)
