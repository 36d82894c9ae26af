"""VOC, YOLO and COCO: boxes and masks come back as they were written, and what is wrong is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from corpus_recipes import save
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from gmai_vl.foundation import BadItem, UserError
from gmai_vl.records import Case, Rejected
from gmai_vl.sources import CocoSource, PhantomSource, VocSource, YoloSource, list_items, read_item
from gmai_vl.sources.boxes import whole_box
from gmai_vl.sources.geometry import outer_box
from gmai_vl.sources.phantom.files import write_studies
from gmai_vl.sources.polygons import filled, run_lengths

WIDTH, HEIGHT = 40, 30
COMMON: dict[str, Any] = {"name": "s", "root": ".", "modality": "CT"}
VOC = VocSource(format="voc", images="images", annotations="boxes", **COMMON)
YOLO = YoloSource(format="yolo", images="images", annotations="boxes", names=("cyst", "stone"), **COMMON)
COCO = CocoSource(format="coco", images="images", annotations="boxes.json", **COMMON)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    x1, y1 = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return x1, y1, draw(st.integers(x1 + 1, WIDTH)), draw(st.integers(y1 + 1, HEIGHT))


labelled = st.lists(st.tuples(st.sampled_from(("cyst", "stone")), boxes()), min_size=1, max_size=6)


def picture(root: Path, name: str = "a.png") -> None:
    save(root / "images" / name, np.zeros((HEIGHT, WIDTH), np.uint8))


def voc(objects: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    told = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>1</depth></size>"
    return f"<annotation><filename>x</filename>{told}{objects}</annotation>"


def voc_object(label: str, x1: float, y1: float, x2: float, y2: float) -> str:
    corners = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    return f"<object><name>{label}</name><bndbox>{corners}</bndbox></object>"


def yolo_line(label: str, x1: float, y1: float, x2: float, y2: float) -> str:
    x, y, w, h = (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT
    return f"{YOLO.names.index(label)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"


def coco(annotations: list[dict[str, Any]], file_name: str = "a.png", **image: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": file_name, "width": WIDTH, "height": HEIGHT} | image],
        "categories": [{"id": 3, "name": "cyst"}, {"id": 9, "name": "stone"}],
        "annotations": [{"image_id": 7, "category_id": 3} | one for one in annotations],
    }


def write(root: Path, spec: Any, content: Any) -> None:
    """Write an annotation of the picture `a.png`."""
    picture(root)
    (root / "boxes").mkdir(exist_ok=True)
    name = {"voc": "boxes/a.xml", "yolo": "boxes/a.txt", "coco": "boxes.json"}[spec.format]
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def only_case(spec: Any, root: Path) -> Case:
    (case,) = read_item(spec, root, "images/a.png")
    assert isinstance(case, Case), case
    return case


def reason(spec: Any, root: Path, item: str = "images/a.png") -> str:
    (rejected,) = read_item(spec, root, item)
    assert isinstance(rejected, Rejected)
    assert rejected.outcome == "quarantined"
    return rejected.reason


@given(labelled)
def test_boxes_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, things: Any) -> None:
    root = tmp_path_factory.mktemp("r")
    write(root, VOC, voc("".join(voc_object(name, box[0] + 1, box[1] + 1, *box[2:]) for name, box in things)))
    write(root, YOLO, "".join(yolo_line(name, *box) for name, box in things))
    entries = [
        {"category_id": {"cyst": 3, "stone": 9}[name], "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for name, (x1, y1, x2, y2) in things
    ]
    write(root, COCO, coco(entries))
    for spec in (VOC, YOLO, COCO):
        case = only_case(spec, root)
        assert [(found.label.en, found.box) for found in case.findings] == things, spec.format
        assert case.task == "det"
        for found in case.findings:
            x1, y1, x2, y2 = found.box or ()
            assert found.area_share == pytest.approx((x2 - x1) * (y2 - y1) / WIDTH / HEIGHT)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_masks_come_back_from_run_lengths_plain_and_packed(seed: int, share: float) -> None:
    mask_HW = np.random.default_rng(seed).random((HEIGHT, WIDTH)) < share
    packed = coco_mask.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
    text = {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}
    assert np.array_equal(run_lengths(text, WIDTH, HEIGHT), mask_HW)
    flat = mask_HW.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    plain = {"size": [HEIGHT, WIDTH], "counts": ([0] if flat[0] else []) + counts}
    assert np.array_equal(run_lengths(plain, WIDTH, HEIGHT), mask_HW)


@given(boxes(), boxes())
def test_a_polygon_of_whole_corners_fills_its_box_and_two_are_united(one: Any, other: Any) -> None:
    mask_HW = np.zeros((HEIGHT, WIDTH), bool)
    polygons = []
    for x1, y1, x2, y2 in (one, other):
        mask_HW[y1:y2, x1:x2] = True
        polygons.append([float(number) for number in (x1, y1, x2, y1, x2, y2, x1, y2)])
    assert np.array_equal(filled(polygons, WIDTH, HEIGHT), mask_HW)


def test_a_mask_gives_box_and_area_and_the_case_is_segmentation(tmp_path: Path) -> None:
    triangle = [5.0, 5.0, 25.0, 5.0, 5.0, 25.0]
    write(tmp_path, COCO, coco([{"bbox": [5, 5, 20, 20], "segmentation": [triangle]}]))
    case = only_case(COCO, tmp_path)
    (found,) = case.findings
    assert found.mask is not None
    assert found.box == outer_box(found.mask) == (5, 5, 24, 24)
    assert found.area_share == pytest.approx(200 / WIDTH / HEIGHT, rel=0.1)
    assert case.task == "seg"
    write(tmp_path, YOLO, "1 0.125 0.2 0.625 0.2 0.125 0.8\n")
    (same,) = only_case(YOLO, tmp_path).findings
    assert same.mask is not None
    assert same.mask[7, 6] and not same.mask[23, 23]


@pytest.mark.parametrize(("spec", "to"), [(VOC, "voc"), (YOLO, "yolo"), (COCO, "coco")])
def test_phantoms_come_back(tmp_path: Path, spec: Any, to: Any) -> None:
    cohort = PhantomSource(
        name="p", format="phantom", families=("fundus", "abdomen-ct"), patients=2, size=96, slices_per_axis=1
    )
    root = write_studies(cohort, tmp_path / "p", to)
    places = {
        "voc": ("JPEGImages", "Annotations"),
        "yolo": ("images", "labels"),
        "coco": ("images", "annotations.json"),
    }
    changes: dict[str, Any] = dict(zip(("images", "annotations"), places[to], strict=True)) | {"no_boxes": "negative"}
    if to == "yolo":
        told = yaml.safe_load((root / "data.yaml").read_text())["names"]
        changes["names"] = YoloSource.model_validate(YOLO.model_dump() | {"names": told}).names
    spec = spec.model_copy(update=changes)
    truth = {
        case.item.replace("/", "-").replace("@", "_").replace("=", "_"): case
        for item in list_items(cohort, root)
        for case in read_item(cohort, root, item)
        if isinstance(case, Case)
    }
    items = list_items(spec, root)
    assert {Path(item).stem for item in items} == truth.keys()
    for item in items:
        (case,) = read_item(spec, root, item)
        assert isinstance(case, Case)
        drawn = truth[Path(item).stem]
        assert np.array_equal(case.pixels, drawn.pixels)
        assert [(found.label, found.box) for found in case.findings] == [
            (found.label, found.box) for found in drawn.findings
        ]
        if to == "coco":
            for found, original in zip(case.findings, drawn.findings, strict=True):
                assert np.array_equal(found.mask, original.mask)
                assert found.area_share == original.area_share


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("no xml", "no XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "document type"),
        (voc(voc_object("cyst", 1, 1, 5, 5), size=(9, 9)), "says 9 x 9"),
        (voc(voc_object("cyst", 1, 1, 90, 5)), "reaches out of the image"),
        (voc(voc_object("cyst", 9, 1, 5, 5)), "has no area"),
        (voc(voc_object("cyst", "nan", 1, 5, 5)), "not finite"),  # type: ignore[arg-type]
        (voc(voc_object("cyst", "one", 1, 5, 5)), "no number"),  # type: ignore[arg-type]
        (voc(voc_object(" ", 1, 1, 5, 5)), "without `name`"),
        (voc("<object><name>cyst</name></object>"), "without `bndbox/xmin`"),
        (voc(""), "has no boxes"),
    ],
)
def test_what_is_wrong_with_a_voc_file_is_told(tmp_path: Path, content: str, told: str) -> None:
    write(tmp_path, VOC, content)
    assert told in reason(VOC, tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("0 0.5 0.5 x 0.1", "not made of numbers"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is not in `names`"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is not"),
        ("0 0.5 0.5 0.1", "3 numbers after the class"),
        ("0 0.9 0.5 0.5 0.1", "reaches out"),
        ("0 0.1 0.1 0.5 0.1 5 0.9", "corner at x"),
        ("0 0.1 0.1 0.1 0.1 0.1 0.1", "is empty"),
        ("0 1e400 0.5 0.1 0.1", "not finite"),
        ("", "has no boxes"),
    ],
)
def test_what_is_wrong_with_a_yolo_file_is_told(tmp_path: Path, content: str, told: str) -> None:
    write(tmp_path, YOLO, content)
    assert told in reason(YOLO, tmp_path)


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        ({"category_id": 4, "bbox": [1, 1, 2, 2]}, "category 4"),
        ({}, "neither `bbox` nor `segmentation`"),
        ({"bbox": [1, 1, 2]}, "holds x, y, width and height"),
        ({"bbox": [1, 1, True, 2]}, "holds x, y"),
        ({"bbox": [1, 1, 10**400, 2]}, "holds x, y"),
        ({"bbox": [1, 1, 100, 2]}, "reaches out"),
        ({"segmentation": [[1, 1, 5, 5]]}, "three corners"),
        ({"segmentation": [[1, 1, 5, 5, float("nan"), 2]]}, "lies outside"),
        ({"segmentation": "a"}, "neither polygons nor run lengths"),
        ({"segmentation": {"size": [1, 1], "counts": [1]}}, "run lengths of size"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [7]}}, "mask of 7 pixels"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [-1, 1201]}}, "mask of 1200"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "é"}}, "compressed form"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "o"}}, "break off"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1200]}}, "is empty"),
        ({"bbox": [20, 20, 5, 5], "segmentation": [[1, 1, 9, 1, 9, 9]]}, "is not that of its mask"),
    ],
)
def test_what_is_wrong_with_a_coco_annotation_is_told(tmp_path: Path, annotation: Any, told: str) -> None:
    write(tmp_path, COCO, coco([annotation]))
    assert told in reason(COCO, tmp_path)


def test_a_size_that_is_not_the_pictures_is_told(tmp_path: Path) -> None:
    write(tmp_path, COCO, coco([{"bbox": [1, 1, 2, 2]}], width=41))
    assert "says 41 x 30" in reason(COCO, tmp_path)


@pytest.mark.parametrize(
    "name", ["../../secret.png", "/etc/secret.png", "a/../../../secret.png", "x" * 300, "a\0b", "\ud800"]
)
def test_names_that_lead_out_or_are_none_stay_out(tmp_path: Path, name: str) -> None:
    root = tmp_path / "deep" / "root"
    write(root, COCO, coco([{"bbox": [1, 1, 2, 2]}], file_name=name))
    save(tmp_path / "secret.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    items = list_items(COCO, root)
    (stranger,) = [item for item in items if item != "images/a.png"]
    assert reason(COCO, root, stranger)
    json.dumps(stranger).encode()


def test_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, VOC, voc(voc_object("cyst", 1, 1, 5, 5)))
    outside = tmp_path / "outside.xml"
    (root / "boxes" / "a.xml").rename(outside)
    (root / "boxes" / "a.xml").symlink_to(outside)
    assert "leads out" in reason(VOC, root)


def test_what_has_no_counterpart_is_told(tmp_path: Path) -> None:
    write(tmp_path, VOC, voc(voc_object("cyst", 1, 1, 5, 5)))
    picture(tmp_path, "b.png")
    (tmp_path / "boxes" / "c.xml").write_text(voc(""))
    assert list_items(VOC, tmp_path) == ["boxes/c.xml", "images/a.png", "images/b.png"]
    assert "no picture" in reason(VOC, tmp_path, "boxes/c.xml")
    (without,) = read_item(VOC, tmp_path, "images/b.png")
    assert isinstance(without, Rejected)
    assert (without.outcome, without.reason) == ("excluded", "has no annotation file")
    write(tmp_path, COCO, coco([{"bbox": [1, 1, 2, 2]}], file_name="gone.png"))
    assert list_items(COCO, tmp_path) == ["images/a.png", "images/b.png", "images/gone.png"]
    assert "no file" in reason(COCO, tmp_path, "images/gone.png")


def test_labels_are_named_excluded_and_counted_and_the_label_set_holds_all(tmp_path: Path) -> None:
    lines = yolo_line("cyst", 1, 1, 5, 5) + yolo_line("stone", 2, 2, 9, 9) + yolo_line("stone", 3, 3, 8, 8)
    write(tmp_path, YOLO, lines)
    named = YOLO.model_copy(update={"labels": YoloSource.model_validate(
        YOLO.model_dump() | {"labels": {"cyst": "renal cyst", "stone": None}}
    ).labels})  # fmt: skip
    case, left_out = read_item(named, tmp_path, "images/a.png")
    assert isinstance(case, Case)
    assert isinstance(left_out, Rejected)
    assert [found.label.en for found in case.findings] == ["renal cyst"]
    assert [label.en for label in case.label_set] == ["renal cyst"]
    assert left_out.item == "images/a.png@label=stone"
    assert left_out.reason.startswith("2 of `stone`")
    small = YOLO.model_copy(update={"min_area": 0.03})
    case, *small_ones = read_item(small, tmp_path, "images/a.png")
    assert len(small_ones) == 2
    assert isinstance(case, Case)
    assert [found.box for found in case.findings] == [(2, 2, 9, 9)]
    assert {label.en for label in case.label_set} == {"cyst", "stone"}


def test_a_file_that_is_no_coco_file_stops_the_build_in_one_line(tmp_path: Path) -> None:
    for content in ("[", "[]", '{"images": []}', '{"images": [{}], "categories": [], "annotations": []}'):
        write(tmp_path, COCO, content)
        with pytest.raises(UserError, match="is no COCO file") as error:
            list_items(COCO, tmp_path)
        assert "\n" not in str(error.value)


@given(st.lists(st.floats(-3, 50), min_size=4, max_size=4))
def test_a_whole_box_holds_what_it_was_given_but_for_a_pixel_at_the_rim(ends: list[float]) -> None:
    try:
        x1, y1, x2, y2 = whole_box(*ends, WIDTH, HEIGHT)  # type: ignore[misc]
    except BadItem:
        assert ends[0] >= ends[2] or ends[1] >= ends[3] or min(ends[:2]) < -1 or ends[2] > 41 or ends[3] > 31 or (
            ends[2] <= 0 or ends[3] <= 0 or ends[0] >= WIDTH or ends[1] >= HEIGHT
        )  # fmt: skip
        return
    assert 0 <= x1 < x2 <= WIDTH and 0 <= y1 < y2 <= HEIGHT
    assert x1 <= max(ends[0], 0) < x1 + 1 and y1 <= max(ends[1], 0) < y1 + 1
    assert x2 - 1 < min(ends[2], WIDTH) <= x2 and y2 - 1 < min(ends[3], HEIGHT) <= y2
