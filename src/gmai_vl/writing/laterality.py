"""The patient's left and right, told only where the picture shows the whole width of a body whose way up is known.

Axial and coronal slices are shown with the patient's right on the left of the image (the
radiological convention). That places a finding in the body only if the middle of the image is about the middle of the
body: so the examined part must be head or trunk, the image as wide as one, and the finding well off the middle.
"""

from gmai_vl.records import Case, Finding, Side
from gmai_vl.vocabulary import Term

PATIENT_SIDES: dict[Side, Term] = {
    "left": Term("the patient's left", "患者左侧"),
    "right": Term("the patient's right", "患者右侧"),
}

WHOLE_WIDTH_MM: dict[str, float] = {
    "head": 140,
    "brain": 140,
    "neck": 140,
    "chest": 250,
    "abdomen": 250,
    "pelvis": 250,
}
"""Body part -> least width of an image that shows it whole: adult heads are about 150 mm wide, trunks 300 and more."""

OFF_MIDDLE = 0.1
"""Share of the image's width by which the whole finding must lie off the middle: patients lie some cm off it too."""

MIDLINE = frozenset(
    {
        "aorta",
        "inferior vena cava",
        "superior vena cava",
        "trachea",
        "esophagus",
        "mediastinum",
        "heart",
        "thymus",
        "sternum",
        "vertebra",
        "urinary bladder",
        "prostate",
        "uterus",
        "rectum",
        "pubic symphysis",
        "spinal cord",
        "third ventricle",
        "corpus callosum",
        "brainstem",
        "cerebellum",
        "intervertebral disc",
        "skull",
        "small bowel",
        "colon",
        "duodenum",
        "cerebrospinal fluid",
        "gray matter",
        "white matter",
        "portal vein and splenic vein",
        "peritumoral edema",
        "ascites",
    }
)
"""Lie in the middle or on both sides by nature: a side of theirs would be an accident of the slice."""


def own_side(label: Term) -> Side | None:
    """Return the side that a label itself names: left kidney, 左肾."""
    words = set(label.en.lower().replace("-", " ").replace("_", " ").split())
    chinese: dict[Side, str] = {"left": "左", "right": "右"}
    sides = [side for side, sign in chinese.items() if side in words or sign in (label.zh or "")]
    return sides[0] if len(sides) == 1 else None


def laterality_of(finding: Finding, case: Case) -> Side | None:
    """Return the side of the patient that holds the finding.

    A side that the label itself names is not told again. None also in the whole case if a label's own side contradicts
    where it lies: then the picture is turned, or the body.
    """
    if own_side(finding.label) or finding.label.en.lower() in MIDLINE:
        return None
    if any((side := own_side(other.label)) and _shown_side(other, case) not in (None, side) for other in case.findings):
        return None
    return _shown_side(finding, case)


def _shown_side(finding: Finding, case: Case) -> Side | None:
    if case.plane not in ("axial", "coronal") or finding.box is None or not shows_whole_width(case):
        return None
    if finding.box[2] <= (0.5 - OFF_MIDDLE) * case.width:
        return "right"
    return "left" if finding.box[0] >= (0.5 + OFF_MIDDLE) * case.width else None


def shows_whole_width(case: Case) -> bool:
    """Say whether a case shows a head or trunk from one side to the other, as far as its pixel pitch tells."""
    if case.body_part is None or case.spacing_mm is None:
        return False
    needed = WHOLE_WIDTH_MM.get(case.body_part.en.lower())
    return needed is not None and case.width * case.spacing_mm[1] >= needed
