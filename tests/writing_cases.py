"""Cases for the tests of writing: hypothesis draws annotations of every shape, also with labels meant to confuse."""

import numpy as np
from hypothesis import strategies as st

from gmai_vl.records import Case, Finding
from gmai_vl.sources.geometry import outer_box, side_of
from gmai_vl.vocabulary import MODALITIES, Term, branch, term

POOLS = (
    [term(name) for name in ("lung nodule", "consolidation", "pleural effusion", "pneumothorax", "lung opacity")],
    [term(name) for name in ("liver", "spleen", "kidney", "left kidney", "right kidney", "small bowel", "kidney cyst")],
    [term(name) for name in ("glioma", "brain tumor", "meningioma", "gray matter", "T12 vertebra")],
    [term(name) for name in ("red blood cell", "white blood cell", "platelet", "nucleus", "neutrophil")],
    # Names as files bring them: words and numbers that the templates use too, capitals, brackets, braces, Chinese.
    [Term(name) for name in ("1", "12", "large", "center", "left half", "RBC", "rbc", "image", "A", "{x}", "no (x)")],
    [Term("grade 2", "2级"), Term("other", "中央"), Term("yes"), Term("肿块"), Term("a, b"), Term("No finding")],
)
NEGATIVES = (term("no finding"), Term("no tumor"), Term("normal", "正常"))


@st.composite
def cases(draw):
    """Draw a case: of 0 to 8 findings, boxed or not, with or without masks, from one pool of labels."""
    width, height = draw(st.integers(8, 300)), draw(st.integers(8, 300))
    pool = draw(st.sampled_from(POOLS))
    task = draw(st.sampled_from(["cls", "det", "seg"]))
    count = draw(st.integers(0, 2 if task == "cls" else 8))
    findings = tuple(draw(finding(task, pool, width, height)) for _ in range(count))
    pitch = st.sampled_from([0.1, 0.3, 0.7, 1.0, 1.37, 4.0])
    return Case(
        source=draw(st.sampled_from(["phantom", "odd#50% name"])),
        item=draw(st.sampled_from(["a.png", "p1/x.nii.gz@axial=12", "一/二#.png"])),
        pixels=np.zeros((height, width), np.uint8),
        modality=draw(st.sampled_from(MODALITIES)).en,
        task=task,
        findings=findings,
        negative=draw(st.sampled_from([None, *NEGATIVES])) if not findings else None,
        label_set=tuple(draw(st.permutations(pool)))[: draw(st.integers(0, len(pool)))],
        plane=draw(st.sampled_from([None, "axial", "coronal", "sagittal"])),
        body_part=draw(st.sampled_from([None, *branch("body part"), term("colon tissue"), Term("odd part")])),
        severity=tuple(draw(st.permutations(pool)))[: draw(st.sampled_from([0, 0, 2, 4]))],
        spacing_mm=draw(st.one_of(st.none(), st.tuples(pitch, pitch))),
        body_parts=tuple(draw(st.lists(st.sampled_from(branch("body part")), max_size=6, unique=True))),
    )


@st.composite
def finding(draw, task, pool, width, height):
    """Draw a finding; its mask may be in pieces."""
    label = draw(st.sampled_from(pool))
    if task == "cls":
        return Finding(label=label, source_label=label.en)
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = (x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height)))
    mask = None
    if task == "seg":
        mask = np.zeros((height, width), bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        if draw(st.booleans()):
            mask[:, (box[0] + box[2]) // 2] = False
            mask[box[1], box[0]] = mask[box[3] - 1, box[2] - 1] = True
    share = float(mask.mean()) if mask is not None else (box[2] - x1) * (box[3] - y1) / (width * height)
    side = side_of(box, width)
    return Finding(label=label, source_label=label.en, box=box, area_share=share, side=side, mask=mask)


PARTS = [term(name) for name in ("head", "brain", "chest", "abdomen", "pelvis", "colon")]
GRADES = (
    Term("no retinopathy", "无视网膜病变"),
    Term("mild", "轻度"),
    Term("moderate", "中度"),
    Term("severe", "重度"),
)


@st.composite
def slices(draw):
    """Draw a slice of a volume: masks that are discs, some cut out of each other, some nested, some side by side."""
    width, height = draw(st.integers(40, 120)), draw(st.integers(40, 120))
    pool = draw(st.sampled_from(POOLS))
    labels = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=5))
    discs = [draw(disc(width, height)) for _ in labels]
    free = np.ones((height, width), bool)
    findings = []
    for label, mask in zip(labels, discs, strict=True):
        cut = mask & free if draw(st.booleans()) else mask
        if not cut.any():
            continue
        free &= ~mask
        findings.append(mask_finding(label, cut))
    pitch = st.sampled_from([0.2, 0.7, 1.0, 2.6, 5.0])
    return Case(
        source="volume",
        item="p1/x.nii.gz@axial=12",
        pixels=np.zeros((height, width), np.uint8),
        modality="CT",
        task="seg",
        dimension="3d",
        findings=tuple(findings),
        negative=None if findings else term("no finding"),
        label_set=tuple(pool),
        severity=draw(st.sampled_from([(), tuple(pool)])),
        plane=draw(st.sampled_from(["axial", "coronal", "sagittal"])),
        body_part=draw(st.sampled_from([None, *PARTS])),
        spacing_mm=draw(st.one_of(st.none(), st.tuples(pitch, pitch))),
    )


@st.composite
def disc(draw, width, height):
    """Draw the mask of a disc or ellipse that reaches into the image, perhaps in two pieces."""
    rows, columns = np.mgrid[0:height, 0:width]
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    rx, ry = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    mask = ((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 <= 1
    if draw(st.integers(0, 3)) == 0:
        mask[:, min(x + 1, width - 1)] = x + 1 >= width - 1
    return mask


def mask_finding(label, mask):
    """Return the finding of a mask [H, W]."""
    box = outer_box(mask)
    share, side = float(mask.mean()), side_of(box, mask.shape[1])
    return Finding(label=label, source_label=label.en, box=box, area_share=share, side=side, mask=mask)


def rectangle(name, box, height=100, width=100, hole=None):
    """Return the finding of a rectangle, without the pixels of the box `hole`."""
    mask = np.zeros((height, width), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    if hole:
        mask[hole[1] : hole[3], hole[0] : hole[2]] = False
    return mask_finding(term(name), mask)


def abdomen(**changes):
    """Return an axial CT slice of 100 x 100 pixels of 3.5 mm: a liver about a cyst, and a spleen far to its right."""
    values = {
        "source": "s",
        "item": "p1/a.nii.gz@axial=3",
        "pixels": np.zeros((100, 100), np.uint8),
        "modality": "CT",
        "task": "seg",
        "dimension": "3d",
        "findings": (
            rectangle("liver cyst", (15, 45, 25, 53)),
            rectangle("liver", (5, 30, 38, 70), hole=(15, 45, 25, 53)),
            rectangle("spleen", (75, 40, 90, 60)),
        ),
        "label_set": tuple(map(term, ("liver cyst", "liver", "spleen", "pancreas", "left kidney", "right kidney"))),
        "plane": "axial",
        "body_part": term("abdomen"),
        "spacing_mm": (3.5, 3.5),
    }
    return Case(**(values | changes))


def graded(grade=2, **changes):
    """Return a fundus photograph with one of four grades."""
    found = (Finding(label=GRADES[grade], source_label=str(grade)),)
    values = {"modality": "Fundus Photography", "task": "cls", "findings": found, "label_set": GRADES}
    return chest(**(values | {"severity": GRADES, "body_part": term("retina")} | changes))


def box_finding(name, box, width=100, height=100):
    """Return a finding with a box in an image of the given size."""
    share = (box[2] - box[0]) * (box[3] - box[1]) / (width * height)
    label = term(name)
    return Finding(label=label, source_label=name, box=box, area_share=share, side=side_of(box, width))


def chest(**changes):
    """Return an X-ray of 100 x 100 pixels with one nodule at the upper left; keywords change the case."""
    values = {
        "source": "s",
        "item": "p1/a.png",
        "pixels": np.zeros((100, 100), np.uint8),
        "modality": "X-Ray",
        "task": "det",
        "findings": (box_finding("lung nodule", (10, 10, 20, 20)),),
        "label_set": (term("lung nodule"), term("consolidation"), term("pleural effusion")),
        "body_part": term("chest"),
    }
    return Case(**(values | changes))
