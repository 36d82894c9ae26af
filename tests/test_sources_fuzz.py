"""Damaged and hostile files: every reader gives cases, rejections or one clear line, in bounded time and memory."""

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import SimpleITK
from corpus_recipes import save
from forks import forks
from mutation import mutations
from PIL import Image
from pycocotools import mask as coco_mask
from pydantic import TypeAdapter
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit
from test_sources_dicom import LOSSLESS, compressed, stored_in
from test_sources_segments import ORIENTATIONS, segmentation, some_masks, stored, write
from test_sources_video import even, make

from gmai_vl.foundation import BadItem, UserError
from gmai_vl.records import Case, Rejected
from gmai_vl.sources import SourceSpec, list_items, read_item, segments

WATCHDOG_SECONDS = 60
MOST_MEMORY = 1 << 30
FEW, MANY = 60, 2_000
VOLUMES = ("nii", "nii.gz", "mha", "mhd", "nrrd", "nhdr")

Trial = tuple[dict[str, Any], str]
"""Source of a recipe, and the file that is damaged."""

PATCH = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
VOC = """<annotation><size><width>40</width><height>30</height><depth>3</depth></size><object><name>cyst</name>
<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>12</xmax><ymax>13</ymax></bndbox></object></annotation>"""
MASK = np.zeros((30, 40), np.uint8)
MASK[5:15, 5:15] = 255
PACKED = coco_mask.encode(np.asfortranarray(MASK > 0))["counts"].decode()
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "categories": [{"id": 1, "name": "cyst"}],
    "annotations": [
        {"image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 10], "segmentation": [[2, 3, 12, 3, 12, 13, 2, 13]]},
        {"image_id": 1, "category_id": 1, "segmentation": {"size": [30, 40], "counts": [100, 50, 1050]}},
        {"image_id": 1, "category_id": 1, "segmentation": {"size": [30, 40], "counts": PACKED}},
    ],
}
TABLE = [{"image": "a.png", "label": "mass", "x": 1, "y": 2, "w": 3, "h": 4}]
BOXES = {"label_column": "label", "image_column": "image", "box_columns": ["x", "y", "w", "h"], "box_form": "xywh"}


def picture(root: Path, name: str) -> str:
    (root / "images").mkdir(exist_ok=True)
    Image.fromarray(PATCH if not name.endswith("gif") else PATCH[..., 0]).save(root / "images" / name)
    return f"images/{name}"


def pictures(root: Path, ending: str) -> Trial:
    save(root / "images" / "b" / "whole.png", PATCH)
    (root / "images" / "a").mkdir()
    return {"format": "folder", "images": "images"}, picture(root, f"a/a.{ending}")


def voc(root: Path) -> Trial:
    picture(root, "a.png")
    (root / "a.xml").write_text(VOC)
    return {"format": "voc", "images": "images", "annotations": "."}, "a.xml"


def yolo(root: Path) -> Trial:
    picture(root, "a.png")
    (root / "a.txt").write_text("0 0.5 0.5 0.25 0.25\n0 0.1 0.1 0.5 0.1 0.1 0.9\n")
    return {"format": "yolo", "images": "images", "annotations": ".", "names": ["cyst"]}, "a.txt"


def coco(root: Path) -> Trial:
    picture(root, "a.png")
    (root / "coco.json").write_text(json.dumps(COCO))
    return {"format": "coco", "images": "images", "annotations": "coco.json"}, "coco.json"


def csv_table(root: Path) -> Trial:
    picture(root, "a.png")
    (root / "t.csv").write_text("image,label,x,y,w,h\na.png,mass,1,2,3,4\n")
    return {"format": "table", "images": "images", "annotations": "t.csv", **BOXES}, "t.csv"


def xlsx_table(root: Path) -> Trial:
    picture(root, "a.png")
    book = openpyxl.Workbook()
    for row in (list(TABLE[0]), list(TABLE[0].values())):
        book.worksheets[0].append(row)
    book.save(root / "t.xlsx")
    return {"format": "table", "images": "images", "annotations": "t.xlsx", **BOXES}, "t.xlsx"


def parquet_table(root: Path) -> Trial:
    picture(root, "a.png")
    pq.write_table(pa.Table.from_pylist(TABLE), root / "t.parquet")
    return {"format": "table", "images": "images", "annotations": "t.parquet", **BOXES}, "t.parquet"


def mask(root: Path, ending: str) -> Trial:
    picture(root, "a.png")
    Image.fromarray(MASK).save(root / f"a.{ending}")
    return {"format": "mask", "images": "images", "masks": "{stem}.*", "mask_labels": {255: "cyst"}}, f"a.{ending}"


def text(root: Path, ending: str) -> Trial:
    picture(root, "a.png")
    rows: list[dict[str, Any]] = [
        {"question": "Is it large?", "answer": "No", "image": "images/a.png", "A": None, "B": None},
        {"question": "What is it?" * 40, "answer": "B", "image": None, "A": "bone", "B": "nerve"},
    ] * 8
    file = root / f"q.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif ending == "csv":
        lines = (",".join(str(value or "") for value in row.values()) for row in rows)
        file.write_text("\n".join([",".join(rows[0]), *lines]))
    else:
        file.write_text("\n".join(map(json.dumps, rows)) if ending == "jsonl" else json.dumps(rows))
    columns = {"question_column": "question", "answer_column": "answer", "image_column": "image"}
    return {"format": "text", "annotations": file.name, "options_columns": ["A", "B"], **columns}, file.name


def dialogue(root: Path) -> Trial:
    picture(root, "a.png")
    parts = [{"type": "image", "image": "images/a.png"}, {"type": "text", "text": "What is it?"}]
    talk = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A bone."}]
    (root / "q.json").write_text(json.dumps([{"m": talk}] * 3))
    return {"format": "text", "annotations": "q.json", "conversations_column": "m"}, "q.json"


def volume(root: Path, ending: str, damaged: str = "") -> Trial:
    labels = np.zeros((9, 10, 11), np.uint8)
    labels[2:6, 3:7, 4:8] = 1
    for name, values in (("a", np.random.default_rng(0).integers(-999, 999, labels.shape, np.int16)), ("m", labels)):
        image = SimpleITK.GetImageFromArray(values)
        image.SetSpacing((1, 2, 3))
        SimpleITK.WriteImage(image, root / f"{name}.{ending}", useCompression="z" in damaged)
    source = {"format": "volume", "images": f"a.{ending}", "mask_labels": {1: "cyst"}}
    return source | {"masks": f"m{{key}}.{ending}", "key": "^a()"}, damaged or f"a.{ending}"


def video(root: Path, name: str, codec: tuple[str, str]) -> Trial:
    make(root / "polyp" / name, even(30, 10), codec, rate=10)
    return {"format": "video", "images": "."}, f"polyp/{name}"


def dicom(root: Path, syntax: UID) -> Trial:
    values = np.add.outer(np.arange(64) * 30, np.arange(48) * 40).astype(np.uint16)
    ds = compressed("JPEG", syntax) if syntax == JPEGBaseline8Bit else stored_in(syntax, values)
    ds.save_as(root / "a.dcm", enforce_file_format=True)
    return {"format": "dicom"}, "a.dcm"


def dicom_segmentation(root: Path) -> Trial:
    images = [stored(ORIENTATIONS["as shown"], number) for number in range(2)]
    write(root, images, segmentation(images, some_masks(2, 2), ["liver", "spleen"]))
    return {"format": "dicom"}, "seg0.dcm"


SYNTAXES = (*LOSSLESS, JPEGBaseline8Bit, JPEGExtended12Bit)

VIDEOS: dict[str, tuple[str, str]] = {
    "a.mp4": ("libx264", "yuv420p"),
    "a.avi": ("mpeg4", "yuv420p"),
    "a.mkv": ("ffv1", "bgr0"),
    "a.mov": ("mjpeg", "yuvj420p"),
    "a.mpg": ("mpeg2video", "yuv420p"),
    "a.webm": ("libvpx", "yuv420p"),
    "a.wmv": ("wmv2", "yuv420p"),
}

TRIALS: dict[str, Callable[[Path], Trial]] = {
    **{f"folder-{ending}": lambda root, e=ending: pictures(root, e) for ending in ("png", "jpg", "tif", "webp", "bmp")},
    **{f"mask-{ending}": lambda root, e=ending: mask(root, e) for ending in ("png", "gif", "tif")},
    "voc": voc,
    "yolo": yolo,
    "coco": coco,
    "table-csv": csv_table,
    "table-xlsx": xlsx_table,
    "table-parquet": parquet_table,
    **{f"text-{ending}": lambda root, e=ending: text(root, e) for ending in ("json", "jsonl", "csv", "parquet")},
    "text-messages": dialogue,
    **{f"volume-{ending}": lambda root, e=ending: volume(root, e) for ending in VOLUMES},
    **{f"video-{name}": lambda root, n=name, c=codec: video(root, n, c) for name, codec in VIDEOS.items()},
    **{f"dicom-{syntax.keyword}": lambda root, s=syntax: dicom(root, s) for syntax in SYNTAXES},
    "dicom-seg": dicom_segmentation,
    "volume-mask": lambda root: volume(root, "nii.gz", "m.nii.gz"),
    "volume-raw": lambda root: volume(root, "mhd", "a.raw"),
    "volume-zraw": lambda root: volume(root, "mhd", "a.zraw"),
    "volume-rawgz": lambda root: volume(root, "nhdr", "a.raw.gz"),
}


def read_all(source: dict[str, Any], root: Path) -> list[Case | Rejected]:
    segments._segmentations.cache_clear()  # a build reads files once, and here they change
    spec = TypeAdapter(SourceSpec).validate_python({"name": "s", "root": ".", "modality": "X-Ray"} | source)
    return [outcome for item in list_items(spec, root) for outcome in read_item(spec, root, item)]


def read_damaged(name: str, folder: Path, count: int) -> None:
    """Read `count` damaged copies of a file; what comes out but cases, rejections and UserError ends the process."""
    folder.mkdir(exist_ok=True)
    source, file = TRIALS[name](folder)
    whole = (folder / file).read_bytes()
    assert any(isinstance(outcome, Case) for outcome in read_all(source, folder)), "the undamaged file is readable"
    there = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    ground = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, mutant in enumerate(mutations(whole, count, seed=len(name))):
        (folder / file).write_bytes(mutant)
        signal.alarm(WATCHDOG_SECONDS)
        try:
            for outcome in read_all(source, folder):
                assert isinstance(outcome, Case | Rejected)
        except UserError as error:
            assert "\n" not in str(error), f"mutant {number}: {error}"
        except BadItem as error:
            raise AssertionError(f"mutant {number}: BadItem got out: {error}") from error
        signal.alarm(0)
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == there, "nothing is written"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - ground) * 1024
    assert grown < MOST_MEMORY, f"grew by {grown >> 20} MiB"


def run(name: str, folder: Path, count: int) -> None:
    """In a process of its own: a crash of a library would end the tests. A fork: imports take longer than a trial."""
    told = folder.parent / "told"
    trial = forks.Process(target=read_and_tell, args=(name, folder, count, told))
    trial.start()
    trial.join()
    assert trial.exitcode == 0, f"{trial.exitcode}: {told.read_text()[-2000:]}"


def read_and_tell(name: str, folder: Path, count: int, told: Path) -> None:
    os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT), 2)
    read_damaged(name, folder, count)


@pytest.mark.parametrize("name", TRIALS)
def test_damaged_files_are_cases_or_reasons(tmp_path: Path, name: str) -> None:
    run(name, tmp_path / "few", FEW)


@pytest.mark.long
@pytest.mark.parametrize("name", TRIALS)
def test_two_thousand_damaged_files_are_cases_or_reasons(tmp_path: Path, name: str) -> None:
    run(name, tmp_path / "many", MANY)


def test_a_polygon_of_very_many_corners_is_read_or_refused_in_bounded_memory(tmp_path: Path) -> None:
    source, _ = coco(tmp_path)
    rng = np.random.default_rng(0)
    for corners, kind in ((100_000, Rejected), (1_000, Case)):
        polygon = (rng.random((corners, 2)) * (40, 30)).ravel().tolist()
        annotation = {"image_id": 1, "category_id": 1, "segmentation": [polygon]}
        (tmp_path / "coco.json").write_text(json.dumps(COCO | {"annotations": [annotation]}))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        (outcome,) = read_all(source, tmp_path)
        assert isinstance(outcome, kind)
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_MEMORY


def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("L", (30_000, 30_000)).save(tmp_path / "bomb.png", compress_level=9)
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "bomb.png").rename(tmp_path / "images" / "a" / "bomb.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (outcome,) = read_all({"format": "folder", "images": "images"}, tmp_path)
    assert isinstance(outcome, Rejected)
    assert "limit" in outcome.reason
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100 * 1024


def test_loops_of_links_are_not_followed(tmp_path: Path) -> None:
    source, _ = pictures(tmp_path, "png")
    (tmp_path / "images" / "a" / "loop").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "a" / "self.png").symlink_to(tmp_path / "images" / "a" / "self.png")
    outcomes = read_all(source, tmp_path)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Case", "Case", "Rejected"]
