"""The questions of a benchmark from a corpus: answered by its annotation, balanced, and the same every time."""

import base64
import csv
import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from construction_corpus import (
    HEIGHT,
    OFFICIAL,
    WIDTH,
    Shown,
    by_cell,
    changed,
    content,
    corpus_of_noise,  # noqa: F401  a fixture
    is_closed,
    made_benchmark,  # noqa: F401  a fixture
    manifest_of,
    rows_of,
    shown,
)
from scipy import ndimage

from gmai_vl.corpus import Corpus
from gmai_vl.evaluation.construction import build_benchmark
from gmai_vl.evaluation.construction.candidates import gather
from gmai_vl.evaluation.construction.draw import COLORS, line_width
from gmai_vl.evaluation.construction.subjects import Cell
from gmai_vl.evaluation.construction.wording import question_of
from gmai_vl.records import Finding
from gmai_vl.vocabulary import CLINICAL_TASKS, Term, all_terms, term


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


def test_every_clinical_task_has_its_questions_in_both_languages() -> None:
    for task in CLINICAL_TASKS:
        for granularity in ("image", "box", "mask", "contour"):
            cell = Cell(clinical_task=task.en, department="", modality="CT", granularity=granularity)
            english, chinese = question_of(cell, "en"), question_of(cell, "zh")
            assert english.endswith("?") and english.isascii() and "{" not in english
            assert chinese.endswith("？") and not any(letter.isascii() for letter in chinese)
