"""What a recipe says of a source: one settings class per format."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gmai_vl import vocabulary
from gmai_vl.foundation import Settings, UserError
from gmai_vl.records import Plane
from gmai_vl.vocabulary import Term


def _known(look_up: Callable[[str], Term]) -> AfterValidator:
    """A name of the vocabulary, written as the vocabulary writes it."""

    def check(name: str) -> str:
        try:
            return look_up(name).en
        except UserError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check)


def _check_pattern(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if groups < 1:
        raise ValueError("needs a group: put round brackets about the part to keep")
    return pattern


def _check_below_root(path: str) -> str:
    if not path or PurePosixPath(path).is_absolute() or "\\" in path:
        raise ValueError("is no path below `root`; write it relative to `root`, with `/`")
    return path


def _plain_label(value: Any) -> Any:
    return {"en": str(value)} if isinstance(value, str | int) and not isinstance(value, bool) else value


def _text_keys(value: Any) -> Any:
    """Class names such as 0 and 1 are numbers in YAML."""
    if not isinstance(value, dict):
        return value
    return {str(key) if type(key) is int else key: entry for key, entry in value.items()}


Modality = Annotated[str, _known(vocabulary.modality)]
Department = Annotated[str, _known(vocabulary.department)]
ClinicalTask = Annotated[str, _known(vocabulary.clinical_task)]
Regex = Annotated[str, AfterValidator(_check_pattern)]
"""A regular expression whose first group is what counts."""
PathBelowRoot = Annotated[str, AfterValidator(_check_below_root)]
"""A file, a folder or a glob, relative to `root`; `..` leaves `root` because the recipe says so."""


class Label(Settings):
    """What a source label means: a term, or with `negative` that nothing was found."""

    en: str | None = None
    """None: the source label as it stands, underscores as blanks."""
    zh: str | None = None
    """None: the vocabulary's Chinese for `en`, where it has one."""
    negative: bool = False


LabelOrNull = Annotated[Label | None, BeforeValidator(_plain_label)]
"""A plain string is short for {en: string}; null excludes what bears the label."""
Labels = Annotated[dict[str, LabelOrNull], BeforeValidator(_text_keys)]


class Patient(Settings):
    """Where an item's patient id comes from: the first group of a regular expression, or a table."""

    regex: Regex | None = None
    of: Literal["path", "name"] = "path"
    """Where `regex` is searched: in the path below root and, if that fails, in the file name; or in the name only."""

    table: PathBelowRoot | None = None
    """CSV or TSV file with a header line."""
    key: str | None = None
    """Column that holds the path below root, the file name, or the file name without its ending."""
    value: str | None = None
    """Column that holds the patient id."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.regex is None) == (self.table is None):
            raise ValueError("give either `regex`, or `table` with `key` and `value`")
        if self.table is not None and (self.key is None or self.value is None):
            raise ValueError("`table` needs `key` and `value`, the names of its columns")
        return self


class _Source(Settings):
    """What every source has."""

    name: str = Field(min_length=1)
    modality: Modality | None = None
    department: Department | None = None
    clinical_task: ClinicalTask | None = None
    license: str | None = None
    url: str | None = None
    limit: int | None = Field(default=None, ge=1)
    """At most so many items, spread evenly over the sorted names; for trials."""


class _FileSource(_Source):
    """What a source of files below a root has."""

    root: str
    """Folder, relative to the recipe."""
    images: PathBelowRoot
    """Folder (with all below it) or glob."""
    patient: Patient | None = None


class FolderSource(_FileSource):
    """Pictures whose class is the name of the folder they lie in."""

    format: Literal["folder"]
    images: PathBelowRoot = "."
    modality: Modality
    labels: Labels = Field(default_factory=dict)
    unknown_labels: Literal["keep", "quarantine"] = "keep"


class _MaskedSource(_FileSource):
    """What annotations by label maps have in common, pictures or volumes."""

    modality: Modality
    masks: PathBelowRoot
    """Path of the mask with `{stem}`, `{parent}` or `{key}` of its image; a glob takes one file per instance."""
    key: Regex | None = None
    """Searched in the image's file name; its first group is `{key}`."""
    mask_labels: dict[int, LabelOrNull] = Field(default_factory=dict)
    """Mask value -> label; 0 is the background unless it stands here; null excludes the value."""
    labels: Labels = Field(default_factory=dict)
    unknown_labels: Literal["keep", "quarantine"] = "quarantine"
    components: bool = False
    """One finding per connected part (8-neighbourhood) instead of one per label and mask file."""
    min_area: float = Field(default=0.0, ge=0, lt=1)
    """Findings that cover less than this share of the image are dropped, and counted."""

    @model_validator(mode="after")
    def _masks_follow_images(self) -> Self:
        names = set(re.findall(r"\{(.*?)\}", self.masks))
        if unknown := names - {"stem", "parent", "key"}:
            raise ValueError(f"masks: `{{{sorted(unknown)[0]}}}` is not known; use {{stem}}, {{parent}} or {{key}}")
        if not names:
            raise ValueError("masks: names one file for all images; use {stem}, {parent} or {key} of the image")
        if ("key" in names) != (self.key is not None):
            raise ValueError("masks: `{key}` and the regular expression `key` go together")
        if any(label is not None and label.negative for label in self.mask_labels.values()):
            raise ValueError("mask_labels: a mask value cannot be `negative`; null excludes it")
        background = self.mask_labels.get(0)
        if background is not None and background.en == "background":
            raise ValueError("mask_labels: 0 is the background by itself; leave it out")
        return self


class MaskSource(_MaskedSource):
    """Pictures with masks: PNG, GIF, TIFF, BMP or JPEG."""

    format: Literal["mask"]
    threshold: float | None = None
    """Mask values above this bear the one label in `labels`; for grey or lossy masks."""
    empty_mask: Literal["quarantine", "negative"] = "quarantine"
    """A mask without any label: a fault, or the finding that nothing is there."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.threshold is None) == (not self.mask_labels):
            raise ValueError("give either `mask_labels`, or `threshold` with one entry in `labels`")
        if self.threshold is not None and len(self.positive_labels()) != 1:
            raise ValueError("`threshold` needs one entry in `labels` that names what is above it")
        return self

    def positive_labels(self) -> list[str]:
        """Return the keys of `labels` that name a thing: neither excluded nor negative."""
        return [name for name, label in self.labels.items() if label is not None and not label.negative]


class VolumeSource(_MaskedSource):
    """NIfTI volumes with label volumes, cut into slices."""

    format: Literal["volume"]
    mask_labels: dict[int, LabelOrNull] = Field(min_length=1)
    axes: tuple[Plane, ...] = Field(default=("axial", "coronal", "sagittal"), min_length=1)
    slices_per_axis: int = Field(default=3, ge=1)
    """So many slices of largest labelled area, ties to the lower index."""
    window: tuple[float, float] | None = None
    """Values shown as black and white (CT); None: `percentiles` of the volume."""
    percentiles: tuple[float, float] = (0.5, 99.5)

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError("window: the first value must be below the second")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError("percentiles: must rise and lie in 0-100")
        if len(set(self.axes)) < len(self.axes):
            raise ValueError("axes: the same axis stands twice")
        return self


class DicomSource(_FileSource):
    """DICOM files, found recursively; modality, window, body part and plane come from the header."""

    format: Literal["dicom"]
    images: PathBelowRoot = "."
    modality: Modality | None = None
    """For files whose header does not tell (OT, NM); None: those are quarantined."""


Collection = Literal["mni152", "dicom", "skimage"]


class EmbeddedSource(_Source):
    """Real images that ship inside installed packages."""

    format: Literal["embedded"]
    root: str = "."
    modality: None = None
    """Each image has its own."""
    collections: tuple[Collection, ...] = Field(default=("mni152", "dicom", "skimage"), min_length=1)
    slices_per_axis: int = Field(default=30, ge=1)
    """Of the MNI brain."""


class PhantomSource(_Source):
    """Procedural annotated studies."""

    format: Literal["phantom"]
    root: str = "."
    families: tuple[str, ...] = ()
    """Names of the families to draw; none: all."""
    patients: int = Field(default=20, ge=1)
    """Per family."""
    seed: int = 0
    slices_per_axis: int = Field(default=2, ge=1)
    size: int = Field(default=224, ge=32, le=4096)
    """Side of an image in pixels."""


SourceSpec = Annotated[
    FolderSource | MaskSource | VolumeSource | DicomSource | EmbeddedSource | PhantomSource,
    Field(discriminator="format"),
]
"""One entry of `sources` in a data recipe."""
