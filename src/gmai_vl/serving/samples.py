"""Sample cases of the page: phantoms drawn on demand, and real pictures that ship inside installed packages."""

import io
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from gmai_vl.records import Case
from gmai_vl.serving.refusals import Refusal
from gmai_vl.sources import EmbeddedSource, PhantomSource, read_item

PHANTOMS = PhantomSource(format="phantom", name="phantom", patients=1, slices_per_axis=1, size=384, seed=7)
PICTURES = EmbeddedSource(format="embedded", name="embedded", collections=("dicom", "skimage"))


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture to try a model on."""

    name: str
    """Stands in its address."""

    label: dict[str, str]
    """en, zh"""

    item: str
    """In its source: the family of a phantom, or the path of a file within a package."""

    credit: str = "phantom: drawn by this program, shows nobody"
    licence: str = "Apache-2.0"

    @property
    def is_phantom(self) -> bool:
        """Whether it is drawn."""
        return "." not in self.item


PYDICOM = {"credit": "pydicom-data", "licence": "MIT"}
SKIMAGE = {"credit": "scikit-image", "licence": "CC0-1.0"}
SAMPLES = (
    Sample("phantom-chest", {"en": "Chest X-ray (phantom)", "zh": "胸部X光（模体）"}, "chest-x-ray"),
    Sample("phantom-abdomen", {"en": "Abdomen CT (phantom)", "zh": "腹部CT（模体）"}, "abdomen-ct"),
    Sample("phantom-brain", {"en": "Brain MR (phantom)", "zh": "脑部磁共振（模体）"}, "brain-mr"),
    Sample("phantom-breast", {"en": "Breast ultrasound (phantom)", "zh": "乳腺超声（模体）"}, "breast-ultrasound"),
    Sample("phantom-skin", {"en": "Dermoscopy (phantom)", "zh": "皮肤镜（模体）"}, "dermoscopy"),
    Sample("shoulder", {"en": "Shoulder MR", "zh": "肩部磁共振"}, "data_store/data/MR2_UNCR.dcm", **PYDICOM),
    Sample("x-ray", {"en": "X-ray", "zh": "X光"}, "data_store/data/RG3_UNCR.dcm", **PYDICOM),
    Sample("retina", {"en": "Fundus photograph", "zh": "眼底照片"}, "skimage/data/retina.jpg", **SKIMAGE),
)


def samples() -> list[dict[str, Any]]:
    """Return what the page tells of each sample; real pictures only where their package is installed."""
    there = [each for each in SAMPLES if each.is_phantom or find_spec(each.item.partition("/")[0])]
    return [{key: value for key, value in asdict(each).items() if key != "item"} for each in there]


@cache
def sample_png(name: str) -> bytes:
    """Return the file of a sample. Raises Refusal (404) for a name that is none, UserError for an absent package."""
    sample = next((each for each in SAMPLES if each.name == name), None)
    if sample is None:
        raise Refusal(404, "no such sample")
    found = (
        read_item(PHANTOMS, Path(), f"{sample.item}/p0000")
        if sample.is_phantom
        else read_item(PICTURES, Path(), sample.item)
    )
    case = next(each for each in found if isinstance(each, Case))
    file = io.BytesIO()
    Image.fromarray(case.pixels).save(file, "PNG")
    return file.getvalue()
