"""Cases for the tests of writing: hypothesis draws annotations of every shape, also with labels meant to confuse."""

import numpy as np
from hypothesis import strategies as st

from gmai_vl.records import Case, Finding
from gmai_vl.sources.geometry import side_of
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
