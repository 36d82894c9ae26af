"""Pictures in class folders, picture files themselves, and the patients they belong to."""

import zlib

import numpy as np
import pytest
from PIL import Image

from gmai_vl.foundation import UserError
from gmai_vl.records import Rejected
from gmai_vl.sources import FolderSource, list_items, read_item
from gmai_vl.sources.images import read_image, read_mask
from gmai_vl.vocabulary import Term

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
COLOUR = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)


def folder(**keys):
    return FolderSource.model_validate({"format": "folder", "name": "f", "root": ".", "modality": "MR", **keys})


@pytest.fixture
def root(tmp_path):
    for name in ("glioma_tumor/p1_a.png", "glioma_tumor/p1_b.png", "no_tumor/p2_a.png", "odd/p3_a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(GREY).save(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/readme.txt").write_text("no picture")
    return tmp_path


def test_the_class_is_the_folder(root):
    spec = folder(labels={"no_tumor": {"en": "no tumor", "zh": "无肿瘤", "negative": True}, "odd": None})
    assert list_items(spec, root) == [
        "glioma_tumor/p1_a.png",
        "glioma_tumor/p1_b.png",
        "no_tumor/p2_a.png",
        "odd/p3_a.png",
    ]
    (tumor,) = read_item(spec, root, "glioma_tumor/p1_a.png")
    assert [finding.source_label for finding in tumor.findings] == ["glioma_tumor"]
    assert tumor.findings[0].label.en == "glioma tumor"
    assert tumor.findings[0].box is None
    assert tumor.negative is None
    assert [label.en for label in tumor.label_set] == ["glioma tumor"]
    assert (tumor.task, tumor.dimension, tumor.case_id) == ("cls", "2d", "f/glioma_tumor/p1_a.png")
    np.testing.assert_array_equal(tumor.pixels, GREY)

    (healthy,) = read_item(spec, root, "no_tumor/p2_a.png")
    assert healthy.findings == ()
    assert healthy.negative == Term("no tumor", "无肿瘤")
    assert healthy.label_set == tumor.label_set

    (odd,) = read_item(spec, root, "odd/p3_a.png")
    assert isinstance(odd, Rejected)
    assert odd.outcome == "excluded"


def test_unknown_classes_can_be_quarantined(root):
    spec = folder(labels={"glioma_tumor": "glioma"}, unknown_labels="quarantine")
    (unknown,) = read_item(spec, root, "odd/p3_a.png")
    assert unknown.outcome == "quarantined"
    assert "`odd`" in unknown.reason
    (known,) = read_item(spec, root, "glioma_tumor/p1_a.png")
    assert known.label_set == (Term("glioma", "胶质瘤"),)


def test_a_limit_takes_from_every_class(root):
    items = list_items(folder(limit=2), root)
    assert len(items) == 2
    assert len({item.split("/")[0] for item in items}) == 2


def test_a_picture_outside_any_class_folder_is_quarantined(root):
    Image.fromarray(GREY).save(root / "loose.png")
    (loose,) = read_item(folder(), root, "loose.png")
    assert loose.outcome == "quarantined"


@pytest.mark.parametrize("regex", [r"/(p\d)_", r"^(p\d)_"])
def test_a_regular_expression_names_the_patient(root, regex):
    spec = folder(patient={"regex": regex})
    patients = [read_item(spec, root, item)[0].patient_id for item in list_items(spec, root)]
    assert patients == ["p1", "p1", "p2", "p3"]


def test_an_item_without_a_patient_is_quarantined_where_the_recipe_wants_one(root):
    (rejected,) = read_item(folder(patient={"regex": r"(p\d)_b"}), root, "odd/p3_a.png")
    assert "odd/p3_a.png" in rejected.reason


def test_a_table_names_the_patient(root):
    (root / "patients.tsv").write_text("file\tcase\np1_a\tanna\nno_tumor/p2_a.png\tbert\n")
    spec = folder(patient={"table": "patients.tsv", "key": "file", "value": "case"})
    assert read_item(spec, root, "glioma_tumor/p1_a.png")[0].patient_id == "anna"
    assert read_item(spec, root, "no_tumor/p2_a.png")[0].patient_id == "bert"
    assert "no patient" in read_item(spec, root, "odd/p3_a.png")[0].reason
    with pytest.raises(UserError, match="no column `kase`"):
        read_item(folder(patient={"table": "patients.tsv", "key": "file", "value": "kase"}), root, "odd/p3_a.png")


def test_a_link_out_of_the_root_is_quarantined_and_an_explicit_way_out_is_followed(root):
    inside = root / "inner"
    (inside / "odd").mkdir(parents=True)
    (inside / "odd/link.png").symlink_to(root / "odd/p3_a.png")
    (link,) = read_item(folder(), inside, "odd/link.png")
    assert "root" in link.reason
    (climbed,) = read_item(folder(), inside, "../odd/p3_a.png")
    assert "root" in climbed.reason
    spec = folder(images="../odd/*.png")
    (case,) = read_item(spec, inside, list_items(spec, inside)[0])
    np.testing.assert_array_equal(case.pixels, GREY)


def written(path, image, **options):
    image.save(path, **options)
    return path


def test_pictures_come_back_as_they_were_written(tmp_path):
    np.testing.assert_array_equal(read_image(written(tmp_path / "g.png", Image.fromarray(GREY))), GREY)
    np.testing.assert_array_equal(read_image(written(tmp_path / "c.tif", Image.fromarray(COLOUR))), COLOUR)
    opaque = Image.fromarray(COLOUR).convert("RGBA")
    np.testing.assert_array_equal(read_image(written(tmp_path / "a.png", opaque)), COLOUR)
    bits = Image.fromarray(GREY > 5)
    np.testing.assert_array_equal(read_image(written(tmp_path / "b.png", bits)), np.where(GREY > 5, 255, 0))
    deep = np.linspace(0, 60000, 100 * 100).astype(np.uint16).reshape(100, 100)
    shown = read_image(written(tmp_path / "d.png", Image.fromarray(deep)))
    assert (shown.dtype, shown.min(), shown.max()) == (np.uint8, 0, 255)
    assert np.all(np.diff(shown.ravel().astype(int)) >= 0)


def test_masks_keep_their_numbers(tmp_path):
    values = np.array([[0, 1], [2, 300]], dtype=np.uint16)
    np.testing.assert_array_equal(read_mask(written(tmp_path / "deep.png", Image.fromarray(values))), values)
    np.testing.assert_array_equal(read_mask(written(tmp_path / "b.png", Image.fromarray(GREY > 5))), GREY > 5)
    grey_gif = read_mask(written(tmp_path / "g.gif", Image.fromarray(np.where(GREY > 5, 255, 0).astype(np.uint8))))
    np.testing.assert_array_equal(grey_gif, np.where(GREY > 5, 255, 0))
    indexed = Image.fromarray((GREY % 3).astype(np.uint8), mode="P")
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    np.testing.assert_array_equal(read_mask(written(tmp_path / "p.png", indexed)), GREY % 3)


def huge_png(side):
    """A PNG of a few bytes whose header says that it is `side` x `side` pixels."""

    def chunk(kind, data):
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    size = side.to_bytes(4)
    header = chunk(b"IHDR", size + size + bytes([8, 0, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_damaged_and_hostile_pictures_are_quarantined_with_their_reason(root):
    whole = (root / "odd/p3_a.png").read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(root / "odd/cut.png")
    cut = (root / "odd/cut.png").read_bytes()
    pages = [Image.fromarray(GREY), Image.fromarray(GREY)]
    pages[0].save(root / "odd/pages.tif", save_all=True, append_images=pages[1:])
    for name, content, reason in [
        ("cut.png", cut[: len(cut) // 2], "cannot be decoded"),
        ("text.png", b"hello", "is no PNG"),
        ("empty.png", b"", "is no PNG"),
        ("renamed.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n", "is no PNG"),
        ("large.png", huge_png(9000), "more than the limit"),
        ("huge.png", huge_png(60000), "exceeds limit"),
        ("pages.tif", None, "has 2 pages"),
        ("bits.png", whole[:40], "bits.png"),
    ]:
        if content is not None:
            (root / "odd" / name).write_bytes(content)
        (rejected,) = read_item(folder(), root, f"odd/{name}")
        assert rejected.outcome == "quarantined"
        assert reason in rejected.reason
        assert str(root) not in rejected.reason
        assert "\n" not in rejected.reason
