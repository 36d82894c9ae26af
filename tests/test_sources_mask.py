"""Pictures with masks: pairing, values, thresholds, parts, and every reason to turn one away."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from gmai_vl.records import Case, Rejected
from gmai_vl.sources import MaskSource, list_items, read_item

PICTURE = np.full((20, 30, 3), 90, dtype=np.uint8)


def source(**keys):
    defaults = {"format": "mask", "name": "m", "root": ".", "modality": "Endoscopy"}
    files = {"images": "images", "masks": "masks/{stem}.png"}
    return MaskSource.model_validate({**defaults, **files, **keys})


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def mask_of(*boxes, shape=(20, 30)):
    """A mask with value v inside each (v, x1, y1, x2, y2)."""
    mask = np.zeros(shape, dtype=np.uint8)
    for value, x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = value
    return mask


@pytest.fixture
def root(tmp_path):
    put(tmp_path / "images/a.png", PICTURE)
    return tmp_path


def read(root, mask=None, item="images/a.png", **keys):
    if mask is not None:
        put(root / "masks/a.png", mask)
    return read_item(source(**keys), root, item)


def test_one_finding_per_label_with_box_share_side_and_mask(root):
    labels = {1: {"en": "polyp", "zh": "息肉"}, 2: "ulcer", 3: None, 4: "instrument"}
    mask = mask_of((1, 2, 3, 8, 9), (1, 10, 1, 12, 2), (2, 20, 0, 30, 20), (3, 0, 15, 4, 20))
    (case,) = read(root, mask, mask_labels=labels)
    assert isinstance(case, Case)
    assert (case.task, case.dimension, case.negative) == ("seg", "2d", None)
    polyp, ulcer = case.findings
    assert (polyp.label.en, polyp.label.zh, polyp.source_label) == ("polyp", "息肉", "1")
    assert (polyp.box, polyp.side) == ((2, 1, 12, 9), "left")
    assert polyp.area_share == pytest.approx((6 * 6 + 2) / 600)
    np.testing.assert_array_equal(polyp.mask, mask == 1)
    assert (ulcer.box, ulcer.side) == ((20, 0, 30, 20), "right")
    assert [label.en for label in case.label_set] == ["polyp", "ulcer", "instrument"]


def test_names_in_mask_labels_are_looked_up_in_labels(root):
    (case,) = read(root, mask_of((7, 0, 0, 5, 5)), mask_labels={7: "P"}, labels={"P": {"en": "polyp", "zh": "瘤"}})
    assert (case.findings[0].label.en, case.findings[0].label.zh) == ("polyp", "瘤")


def test_a_threshold_reads_lossy_masks(root):
    lossy = mask_of((250, 4, 4, 10, 10)) + np.random.default_rng(0).integers(0, 5, (20, 30), dtype=np.uint8)
    labels = {"lesion": "polyp", "none": {"negative": True}}
    (case,) = read(root, lossy, threshold=127, labels=labels)
    assert [(f.box, f.source_label, f.label.en) for f in case.findings] == [((4, 4, 10, 10), "lesion", "polyp")]


def test_one_file_per_instance(root):
    put(root / "cells/c1/images/c[1].png", PICTURE)
    put(root / "cells/c1/masks/x.png", mask_of((255, 0, 0, 4, 4)))
    put(root / "cells/c1/masks/y.png", mask_of((255, 20, 10, 25, 15)))
    put(root / "cells/c1/masks/z.png", mask_of())
    spec = source(
        images="cells/*/images/*.png",
        masks="cells/{key}/{parent}/../masks/*.png",
        key=r"(c)",
        mask_labels={255: "nucleus"},
    )
    assert list_items(spec, root) == ["cells/c1/images/c[1].png"]
    spec = source(
        images="cells/*/images/*.png", masks="cells/c1/masks/*.png{key}", key=r"(c)", mask_labels={255: "nucleus"}
    )
    assert "no mask" in read_item(spec, root, "cells/c1/images/c[1].png")[0].reason
    spec = source(
        images="cells/*/images/*.png", masks="cells/{key}1/masks/*.png", key=r"^(c)", mask_labels={255: "nucleus"}
    )
    (case,) = read_item(spec, root, "cells/c1/images/c[1].png")
    assert [finding.box for finding in case.findings] == [(0, 0, 4, 4), (20, 10, 25, 15)]


def test_stem_and_parent_name_the_mask(root):
    put(root / "case[7]/photo.png", PICTURE)
    put(root / "case[7]/photo_mask.png", mask_of((1, 1, 1, 2, 2)))
    spec = source(images="*/photo.png", masks="{parent}/{stem}_mask.png", mask_labels={1: "polyp"})
    (case,) = read_item(spec, root, "case[7]/photo.png")
    assert case.findings[0].box == (1, 1, 2, 2)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    mask=hnp.arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2])),
    components=st.booleans(),
    min_area=st.sampled_from([0, 0.05, 0.2]),
)
def test_findings_and_dropped_parts_add_up(root, mask, components, min_area):
    put(root / "images/a.png", PICTURE[:6, :7])
    results = read(root, mask, mask_labels={1: "polyp", 2: "ulcer"}, components=components, min_area=min_area)
    parts = []
    for value in (1, 2):
        if components:
            numbers, count = ndimage.label(mask == value, np.ones((3, 3)))
            parts += [numbers == number for number in range(1, count + 1)]
        elif (mask == value).any():
            parts.append(mask == value)
    kept = [part for part in parts if part.mean() >= min_area]
    if not kept:
        assert results[0].outcome == ("excluded" if parts else "quarantined")
        return
    case, *dropped = results
    assert len(case.findings) == len(kept)
    for finding, part in zip(case.findings, kept, strict=True):
        rows, columns = np.nonzero(part)
        assert finding.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert sum(int(record.reason.split()[0]) for record in dropped) == len(parts) - len(kept)
    assert all(record.outcome == "excluded" for record in dropped)


def test_an_empty_mask_is_a_fault_or_a_negative(root):
    (fault,) = read(root, mask_of(), mask_labels={1: "polyp"})
    assert isinstance(fault, Rejected)
    assert "empty" in fault.reason
    (case,) = read(root, mask_of(), mask_labels={1: "polyp"}, empty_mask="negative")
    assert case.findings == ()
    assert case.negative.en == "no finding"
    assert [label.en for label in case.label_set] == ["polyp"]
    labels = {"nothing": {"en": "normal mucosa", "negative": True}}
    (case,) = read(root, mask_of(), mask_labels={1: "polyp"}, empty_mask="negative", labels=labels)
    assert case.negative.en == "normal mucosa"


def test_a_mask_with_excluded_labels_only_is_not_called_negative(root):
    (excluded,) = read(root, mask_of((1, 0, 0, 3, 3)), mask_labels={1: None}, empty_mask="negative")
    assert excluded.outcome == "excluded"


def test_unknown_values_are_quarantined_or_kept(root):
    mask = mask_of((1, 0, 0, 3, 3), (9, 5, 5, 6, 6))
    (unknown,) = read(root, mask, mask_labels={1: "polyp"})
    assert unknown.outcome == "quarantined"
    assert "9" in unknown.reason
    (kept,) = read(root, mask, mask_labels={1: "polyp"}, unknown_labels="keep")
    assert [finding.label.en for finding in kept.findings] == ["polyp", "9"]


def test_zero_is_the_background_unless_it_is_named(root):
    (case,) = read(root, mask_of((255, 0, 0, 30, 10)), mask_labels={0: "polyp", 255: None})
    assert [finding.box for finding in case.findings] == [(0, 10, 30, 20)]


def test_every_other_cause_is_quarantined_with_its_reason(root):
    labels = {"mask_labels": {1: "polyp"}}
    (missing,) = read(root, **labels)
    assert "masks/a.png" in missing.reason
    (size,) = read(root, mask_of(shape=(20, 31)), **labels)
    assert "30 x 20" in size.reason
    assert "31 x 20" in size.reason
    (coloured,) = read(root, np.dstack([mask_of((1, 0, 0, 3, 3)), mask_of(), mask_of()]), **labels)
    assert "coloured" in coloured.reason
    (root / "masks/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (damaged,) = read(root, **labels)
    assert "a.png" in damaged.reason
    speckled = np.indices((200, 200)).sum(axis=0) % 4 == 0
    speckled[::2] = False
    put(root / "images/a.png", np.zeros((200, 200), dtype=np.uint8))
    (speckles,) = read(root, speckled.astype(np.uint8), components=True, **labels)
    assert "connected parts" in speckles.reason
    (no_key,) = read(root, item="images/a.png", masks="masks/{key}.png", key=r"(\d+)", **labels)
    assert "`key`" in no_key.reason
    for record in (missing, size, coloured, damaged, speckles, no_key):
        assert record.outcome == "quarantined"
        assert record.item == "images/a.png"


def test_a_mask_outside_the_root_is_not_read(root):
    inside = root / "inner"
    put(inside / "images/a.png", PICTURE)
    put(root / "masks/a.png", mask_of((1, 0, 0, 3, 3)))
    (inside / "masks").symlink_to(root / "masks")
    (rejected,) = read_item(source(mask_labels={1: "polyp"}), inside, "images/a.png")
    assert "root" in rejected.reason
    (case,) = read_item(source(mask_labels={1: "polyp"}, masks="../masks/{stem}.png"), inside, "images/a.png")
    assert case.findings[0].box == (0, 0, 3, 3)
