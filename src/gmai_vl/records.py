"""The records that flow from room to room: an annotated image (`Case`) and a piece of instruction data (`Sample`)."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gmai_vl.vocabulary import Language, Term

Box = tuple[int, int, int, int]
"""Pixel box (x1, y1, x2, y2), half-open, origin top left: x2 is the last column + 1."""

Plane = Literal["axial", "coronal", "sagittal"]
Side = Literal["left", "right", "both"]
Split = Literal["train", "val", "test"]
Subset = Literal["caption", "percept", "instruct", "text-single", "text-multi"]
Kind = Literal["caption", "mcq", "closed", "open", "grounding", "dialogue"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One annotated thing in one image."""

    label: Term
    """What it is."""

    source_label: str
    """The label as the annotation file writes it: class name, mask value, category."""

    box: Box | None = None
    """Outer box in pixels; None for a label of the whole image."""

    area_share: float | None = None
    """Mask area over image area, 0-1; from the mask where there is one, else from the box."""

    side: Side | None = None
    """Half of the image (the viewer's left or right) that holds the box; `both` where it crosses the middle third."""

    mask: NDArray[np.bool_] | None = None
    """[H, W], true inside; None where the annotation is a box or a label only."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """The place of an image in a message: an index into `Sample.images`."""

    index: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation: text and images in reading order."""

    role: Literal["system", "user", "assistant"]
    content: tuple[str | ImageRef, ...]

    @property
    def text(self) -> str:
        """The text parts, joined by line breaks."""
        return "\n".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What an export of a corpus tells of a sample beside its conversation, so that it comes back as what it was."""

    id: str
    subset: Subset
    kind: Kind
    granularity: str
    answer: str | None
    split: Split | None

    source: str
    """Where its image and annotation came from."""

    writer: str
    """Who wrote its text, as in `Provenance.writer`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Questions and answers that the source itself holds, by turns of user and assistant."""

    name: str
    """Its file with the id that the source gives it, or with the number of its row; unique in a source."""

    turns: tuple[Turn, ...]

    language: Language

    options: dict[str, str] | None = None
    """Letter -> text, where the source gives options."""

    answer: str | None = None
    """The letter of the right option; None where there are no options."""

    published: Published | None = None
    """For a sample that an export holds: its turns, options among them, are then said as they stand."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One annotated image: a file, a slice of a volume, a frame; or text alone, then with conversations."""

    source: str
    """Name of the source in the recipe."""

    item: str
    """Path below the source's root; slices append `@axial=12`, frames `@t=3.5`."""

    pixels: NDArray[np.uint8]
    """[H, W] grey or [H, W, 3] RGB, 0-255; [0, 0] for text alone."""

    modality: str | None
    """English name of one of the 13 modalities; None only where a source of conversations does not tell it."""

    department: str | None = None
    """English name of one of the 18 departments."""

    clinical_task: str | None = None
    """English name of one of the 18 clinical tasks."""

    task: Literal["cls", "det", "seg", "qa"]
    """What the annotation is: a label of the image, boxes, masks, or questions with their answers."""

    dimension: Literal["2d", "3d", "text"] = "2d"
    """Whether the image is a picture or was cut from a volume; text: there is no image."""

    findings: tuple[Finding, ...] = ()
    """What the annotation says is there. Empty with `negative`: it says that nothing is there."""

    negative: Term | None = None
    """The label that says "nothing found", where the annotation gives it to this image."""

    label_set: tuple[Term, ...] = ()
    """All labels that an annotator could have given, negatives apart: what is not among the findings is absent."""

    severity: tuple[Term, ...] = ()
    """The labels of `label_set` that are grades of one thing, from the least to the most severe."""

    conversations: tuple[Conversation, ...] = ()
    """Questions and answers about this image that the source itself holds."""

    patient_id: str | None = None
    """Patient, study or series; None where unknown. Images of one patient never stand on two sides of a split."""

    plane: Plane | None = None
    """Plane of a slice, where the orientation is known and within 20 degrees of the body's."""

    body_part: Term | None = None
    """Examined body part, where the source or the file header gives it."""

    body_parts: tuple[Term, ...] = ()
    """Body parts that the images of its source show, where the source knows them."""

    spacing_mm: tuple[float, float] | None = None
    """Pixel pitch (row, column) in mm, where known."""

    license: str | None = None
    """Licence of the source, an SPDX name where there is one."""

    url: str | None = None
    """Where the source comes from."""

    deidentified: dict[str, Any] | None = None
    """What de-identification did to the file: action -> names of elements, never values; None where there was none."""

    @property
    def has_image(self) -> bool:
        """Whether there is an image: not for text alone."""
        return self.pixels.size > 0

    @property
    def case_id(self) -> str:
        """Name of the case in a corpus: source and item."""
        return f"{self.source}/{self.item}"

    @property
    def width(self) -> int:
        """Columns of the image."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows of the image."""
        return int(self.pixels.shape[0])

    @cached_property
    def image_sha256(self) -> str:
        """Name of the image in a corpus."""
        return pixel_sha256(self.pixels)


def pixel_sha256(pixels: NDArray[np.uint8]) -> str:
    """Return sha256 over "mode|WxH|" and the pixel bytes: equal for equal pixels, whatever file they came from.

    `pixels` is [H, W] (mode L) or [H, W, 3] (mode RGB), uint8.
    """
    mode = "L" if pixels.ndim == 2 else "RGB"
    header = f"{mode}|{pixels.shape[1]}x{pixels.shape[0]}|".encode()
    return hashlib.sha256(header + np.ascontiguousarray(pixels).tobytes()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """An item, or a part of one, that did not become a case."""

    item: str
    """Path below the source's root, as in `Case.item`."""

    outcome: Literal["quarantined", "excluded"]
    """Quarantined: it cannot be used. Excluded: the recipe does not want it."""

    reason: str
    """One line for people: what is wrong, with values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A labelled box that a sample asks for or speaks of."""

    label: str
    """As the sample's language writes it."""

    box: Box


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How the text of a sample came to be, enough to check it again."""

    writer: str
    """`template`, `source` for what the source itself holds, or the name of the language model."""

    prompt_id: str
    """Key into the corpus's prompts.jsonl."""

    facts: dict[str, Any] = field(default_factory=dict)
    """What the text may say, from the annotation; `form` names the question form, `subject` what it asks about."""

    checks: dict[str, Any] = field(default_factory=dict)
    """Result of every check that held the text against the facts: name -> true or a reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One piece of instruction data: a conversation about images, with the answer that the annotation implies."""

    id: str
    """`2d#cls#x-ray#source#folder#label#file#n` (the official form plus a running number)."""

    subset: Subset
    kind: Kind

    granularity: str
    """What is looked at: image, box; text where there is no image."""

    language: Language

    images: tuple[str, ...]
    """sha256 names of the images; none for text alone."""

    width: int
    """Columns of the first image, 0 for text only."""

    height: int
    """Rows of the first image, 0 for text only."""

    turns: tuple[Turn, ...]

    options: dict[str, str] | None = None
    """Letter -> text for multiple choice."""

    answer: str | None = None
    """A letter (mcq), yes/no or 是/否 (closed), text (open), markup (grounding); None for captions and dialogues."""

    regions: tuple[Region, ...] = ()
    task: str
    modality: str | None
    department: str | None
    clinical_task: str | None
    source: str
    license: str | None
    case_id: str
    patient_id: str | None
    provenance: Provenance

    split: Split | None = None
    """None until a corpus has given the patient a side."""
