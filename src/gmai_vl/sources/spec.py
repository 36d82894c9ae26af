"""What a recipe says of a source: one settings class per format."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gmai_vl.records import Plane
from gmai_vl.sources.fields import (
    AnySource,
    FileSource,
    LabelledSource,
    LabelOrNull,
    Labels,
    Modality,
    PathBelowRoot,
    Regex,
)
from gmai_vl.vocabulary import Language


class FolderSource(LabelledSource):
    """Pictures whose class is the name of the folder they lie in."""

    format: Literal["folder"]
    images: PathBelowRoot = "."


class MaskedSource(FileSource):
    """What annotations by label maps have in common, pictures or volumes."""

    modality: Modality
    masks: PathBelowRoot
    """Path of the mask with `{stem}`, `{parent}` or `{key}` of its image; a glob takes one file per instance."""
    key: Regex | None = None
    """Searched in the image's file name; its first group is `{key}`."""
    mask_labels: dict[int, LabelOrNull] = Field(default_factory=dict)
    """Mask value -> label; 0 is the background unless it stands here; null excludes the value."""
    mask_label: Regex | None = None
    """Searched in the mask's file name without its ending; its first group is the label of all that is set in it."""
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
        if self.mask_label is not None and self.mask_labels:
            raise ValueError("give either `mask_labels` (values) or `mask_label` (file names)")
        background = self.mask_labels.get(0)
        if background is not None and background.en == "background":
            raise ValueError("mask_labels: 0 is the background by itself; leave it out")
        return self


class MaskSource(MaskedSource):
    """Pictures with masks: PNG, GIF, TIFF, BMP or JPEG."""

    format: Literal["mask"]
    threshold: float | None = None
    """Mask values above this bear the one label in `labels`; for grey or lossy masks."""
    empty_mask: Literal["quarantine", "negative"] = "quarantine"
    """A mask without any label: a fault, or the finding that nothing is there."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.mask_label is None and (self.threshold is None) == (not self.mask_labels):
            raise ValueError("give either `mask_labels`, or `threshold` with one entry in `labels`, or `mask_label`")
        if self.mask_label is None and self.threshold is not None and len(self.positive_labels()) != 1:
            raise ValueError("`threshold` needs one entry in `labels` that names what is above it")
        return self

    def positive_labels(self) -> list[str]:
        """Return the keys of `labels` that name a thing: neither excluded nor negative."""
        return [name for name, label in self.labels.items() if label is not None and not label.negative]


class VolumeSource(MaskedSource):
    """Volumes (NIfTI, MetaImage, NRRD) with label volumes, cut into slices."""

    format: Literal["volume"]
    axes: tuple[Plane, ...] = Field(default=("axial", "coronal", "sagittal"), min_length=1)
    slices_per_axis: int = Field(default=3, ge=1)
    """So many slices of largest labelled area, ties to the lower index."""
    window: tuple[float, float] | None = None
    """Values shown as black and white (CT); None: `percentiles` of the volume."""
    percentiles: tuple[float, float] = (0.5, 99.5)

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if self.mask_label is None and not self.mask_labels:
            raise ValueError("give `mask_labels`, or `mask_label` where file names tell the labels")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError("window: the first value must be below the second")
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError("percentiles: must rise and lie in 0-100")
        if len(set(self.axes)) < len(self.axes):
            raise ValueError("axes: the same axis stands twice")
        return self


class TableSource(LabelledSource):
    """Pictures with labels in a table: CSV, TSV, XLSX or Parquet."""

    format: Literal["table"]
    images: PathBelowRoot = "."
    annotations: PathBelowRoot
    """The table; its first line names the columns."""
    image_column: str | None = None
    """Column with the path of the picture below `images`, or its file name."""
    image_pattern: str | None = None
    """Path of the picture below `images`, with columns in braces: "{image_id}.jpg"."""
    label_column: str | None = None
    """Column with the label."""
    label_separator: str | None = None
    """What stands between several labels in `label_column`."""
    label_columns: tuple[str, ...] = ()
    """Columns named after labels that hold 1 where the label is given and 0 where it is not."""
    otherwise: LabelOrNull = None
    """What a row means in which no one of `label_columns` is set; such rows are quarantined without it."""
    box_columns: tuple[str, str, str, str] | None = None
    """Columns with the box of the row's label, in pixels."""
    box_form: Literal["x1y1x2y2", "xywh"] = "x1y1x2y2"
    patient_column: str | None = None
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Column -> values; rows with another value are excluded."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.image_column is None) == (self.image_pattern is None):
            raise ValueError("give either `image_column` or `image_pattern`")
        if (self.label_column is None) == (not self.label_columns):
            raise ValueError("give either `label_column` or `label_columns`")
        if self.label_separator is not None and self.label_column is None:
            raise ValueError("`label_separator` goes with `label_column`")
        if self.otherwise is not None and not self.label_columns:
            raise ValueError("`otherwise` goes with `label_columns`")
        if self.box_columns is not None and self.label_column is None:
            raise ValueError("`box_columns` goes with `label_column`")
        if self.patient_column is not None and self.patient is not None:
            raise ValueError("give either `patient_column` or `patient`")
        return self


class BoxedSource(LabelledSource):
    """What annotations by boxes have in common."""

    annotations: PathBelowRoot
    min_area: float = Field(default=0.0, ge=0, lt=1)
    """Findings that cover less than this share of the image are dropped, and counted."""
    no_boxes: Literal["quarantine", "negative"] = "quarantine"
    """An image without any box: a fault, or the finding that nothing is there."""


class CocoSource(BoxedSource):
    """COCO: one JSON file with boxes, polygons or run-length masks. `annotations` is that file."""

    format: Literal["coco"]


class VocSource(BoxedSource):
    """PASCAL VOC: one XML file per image in the folder `annotations`."""

    format: Literal["voc"]


def _by_number(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if sorted(value, key=str) != sorted(range(len(value)), key=str):
        raise ValueError("the numbers of the classes are not 0, 1, 2, ... without a gap")
    return [value[number] for number in range(len(value))]


class YoloSource(BoxedSource):
    """YOLO: one text file per image in the folder `annotations`, classes by number."""

    format: Literal["yolo"]
    names: Annotated[tuple[str, ...], BeforeValidator(_by_number)] = Field(min_length=1)
    """Name of class 0, 1, 2, ...: a list, or number -> name."""


class VideoSource(LabelledSource):
    """Videos, one frame every 1 / `fps` seconds."""

    format: Literal["video"]
    fps: float = Field(default=2.0, gt=0, le=60)
    """Frames a second that are taken (GMAI-Reasoning10K takes 2)."""
    annotations: PathBelowRoot | None = None
    """Table of labels over time, one for all videos, or one for each with `{stem}` in its name."""
    label: str | None = None
    """Without a table: the label of every frame. None: the name of the folder that the video lies in."""
    video_column: str = "video"
    """Column with the video of a row, where one table is for all: its path below `images`, its name or its stem."""
    start_column: str = "start"
    """Column with the time from which the labels of a row hold."""
    end_column: str | None = None
    """Column with the time until which they hold. None, or an empty cell: until a later start in the same video. Equal
    to the start: the frame at that moment, which is then taken whatever `fps` says."""
    unit: Literal["seconds", "frames"] = "seconds"
    """Of both times; seconds may be written with colons, frames count from 0."""
    label_column: str | None = None
    """Column with the label; a row without one ends what held before."""
    label_separator: str | None = None
    """What stands between several labels in `label_column`."""
    label_columns: tuple[str, ...] = ()
    """Columns named after labels that hold 1 where the label holds and 0 where it does not: several at a time."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.annotations is None and (self.label_column is not None or self.label_columns):
            raise ValueError("`label_column` and `label_columns` go with `annotations`")
        if self.annotations is not None and self.label is not None:
            raise ValueError("give either `label` or `annotations`")
        if self.annotations is not None and (self.label_column is None) == (not self.label_columns):
            raise ValueError("give either `label_column` or `label_columns`")
        if self.label_separator is not None and self.label_column is None:
            raise ValueError("`label_separator` goes with `label_column`")
        return self


EXPORT_KEY = "gmai"
"""What `gmai data export` tells of a sample in LLaVA's form, which has no other place for it."""
EXPORTED = (
    "subset", "kind", "granularity", "language", "split", "options", "answer",
    "modality", "department", "clinical_task", "source", "license", "writer", "image_sha256",
)  # fmt: skip
"""What an export tells of a sample beside its id and its conversation."""


class TextSource(FileSource):
    """Existing questions and dialogues with or without images: JSON, JSON lines, CSV, TSV or Parquet."""

    format: Literal["text"]
    images: PathBelowRoot = "."
    """Folder that the paths of the pictures count from."""
    annotations: PathBelowRoot
    """The file with the questions, a folder of such files, or a glob."""
    question_column: str | None = None
    answer_column: str | None = None
    """Column with the answer; of multiple choice the letter of the right option, or its text."""
    options_columns: tuple[str, ...] = ()
    """Columns with the options of multiple choice, in the order of their letters; or one with a list or a mapping."""
    conversations_column: str | None = None
    """Column with whole conversations: LLaVA's (`from`, `value`) or messages (`role`, `content`)."""
    image_column: str | None = None
    """Column with the path of the picture below `images`; rows without one are text alone. None: none, or as the parts
    of messages name it."""
    id_column: str | None = None
    patient_column: str | None = None
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Column -> values; rows with another value are excluded."""
    language: Language | None = None
    """None: as `language_column` says, else Chinese where at least a fifth of the letters are Chinese characters."""
    language_column: str | None = None
    exported: Literal["llava", "messages"] | None = None
    """The entries are those of `gmai data export` in this form: they come back as the samples that they were."""
    sample_ratios: dict[PathBelowRoot, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)
    """Files that are read in place of `annotations`, each with the share of its rows that is taken: always the same
    rows, none twice."""
    may_lack: tuple[str, ...] = ()
    """Columns that a file may have nowhere."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        exported = {"llava": (EXPORT_KEY,), "messages": EXPORTED}
        single = (
            self.question_column,
            self.answer_column,
            self.conversations_column,
            self.image_column,
            self.id_column,
            self.patient_column,
            self.language_column,
        )
        told = () if self.exported is None else exported[self.exported]
        names = (*(name for name in single if name is not None), *self.options_columns, *self.where, *told)
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.question_column is None) != (self.answer_column is None):
            raise ValueError("`question_column` and `answer_column` go together")
        if (self.question_column is None) == (self.conversations_column is None):
            raise ValueError("give either `question_column` and `answer_column`, or `conversations_column`")
        if self.options_columns and self.question_column is None:
            raise ValueError("`options_columns` goes with `question_column`")
        if self.language is not None and self.language_column is not None:
            raise ValueError("give either `language` or `language_column`")
        if self.patient_column is not None and self.patient is not None:
            raise ValueError("give either `patient_column` or `patient`")
        return self


class DicomSource(FileSource):
    """DICOM files, found recursively; modality, window, body part and plane come from the header."""

    format: Literal["dicom"]
    images: PathBelowRoot = "."
    modality: Modality | None = None
    """For files whose header does not tell (OT, NM); None: those are quarantined."""
    labels: Labels = Field(default_factory=dict)
    """Label of a segment -> term. Segments are free text: those that neither this nor the vocabulary knows are
    quarantined."""
    frames: Literal["middle", "all"] | Annotated[int, Field(ge=1)] = "middle"
    """Which frames of several: the middle one, all, or so many evenly over the whole."""
    secret_env: str | None = None
    """Variable of the environment with the secret of all pseudonyms, 16 characters or more. None: they are plain
    hashes, and whoever has a list of candidate ids can try them."""
    allow_burned_in: bool = False
    """Take images whose header says that text is burned into them."""
    allow_recognizable: bool = False
    """Take images whose header says that a person can be recognized in them, as in the surface of a head."""


Collection = Literal["mni152", "dicom", "skimage"]


class EmbeddedSource(AnySource):
    """Real images that ship inside installed packages."""

    format: Literal["embedded"]
    root: str = "."
    modality: None = None
    """Each image has its own."""
    collections: tuple[Collection, ...] = Field(default=("mni152", "dicom", "skimage"), min_length=1)
    slices_per_axis: int = Field(default=30, ge=1)
    """Of the MNI brain."""


class PhantomSource(AnySource):
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
    FolderSource
    | TableSource
    | CocoSource
    | VocSource
    | YoloSource
    | MaskSource
    | VolumeSource
    | DicomSource
    | VideoSource
    | TextSource
    | EmbeddedSource
    | PhantomSource,
    Field(discriminator="format"),
]
"""One entry of `sources` in a data recipe."""
