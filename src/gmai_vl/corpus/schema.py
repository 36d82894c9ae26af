"""The columns of a corpus on disk, and the way from records to rows and back."""

import json
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gmai_vl.corpus.looks import look_of
from gmai_vl.foundation import canonical_json, sha256_of_text
from gmai_vl.records import Box, Case, Conversation, Finding, ImageRef, Provenance, Published, Region, Sample, Turn
from gmai_vl.sources.rle import decode_mask, encode_mask
from gmai_vl.vocabulary import Term
from gmai_vl.writing import Draft

Row = dict[str, Any]
Table = Literal["cases", "samples", "ledger", "drafts"]

_TERM = pa.struct([("en", pa.string()), ("zh", pa.string())])
_BOX = pa.list_(pa.int32())
_FINDING = pa.struct(
    [
        ("label", _TERM),
        ("source_label", pa.string()),
        ("box", _BOX),
        ("area_share", pa.float64()),
        ("side", pa.string()),
        ("mask", pa.list_(pa.int32())),
    ]
)
_PIECE = pa.struct([("type", pa.string()), ("text", pa.string()), ("image", pa.int32())])
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.list_(_PIECE))])

CASES = pa.schema(
    [
        ("case_id", pa.string()),
        ("source", pa.string()),
        ("item", pa.string()),
        ("split", pa.string()),
        ("image", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("modality", pa.string()),
        ("department", pa.string()),
        ("clinical_task", pa.string()),
        ("task", pa.string()),
        ("dimension", pa.string()),
        ("findings", pa.list_(_FINDING)),
        ("negative", _TERM),
        ("label_set", pa.list_(_TERM)),
        ("severity", pa.list_(_TERM)),
        ("conversations", pa.string()),
        ("patient_id", pa.string()),
        ("plane", pa.string()),
        ("body_part", _TERM),
        ("body_parts", pa.list_(_TERM)),
        ("spacing_mm", pa.list_(pa.float64())),
        ("license", pa.string()),
        ("url", pa.string()),
        ("deidentified", pa.string()),
        ("look", pa.binary()),
    ]
)

SAMPLES = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("subset", pa.string()),
        ("kind", pa.string()),
        ("granularity", pa.string()),
        ("language", pa.string()),
        ("images", pa.list_(pa.string())),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("messages", pa.list_(_MESSAGE)),
        ("options", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("regions", pa.list_(pa.struct([("label", pa.string()), ("box", _BOX)]))),
        ("task", pa.string()),
        ("modality", pa.string()),
        ("department", pa.string()),
        ("clinical_task", pa.string()),
        ("source", pa.string()),
        ("license", pa.string()),
        ("case_id", pa.string()),
        ("patient_id", pa.string()),
        ("writer", pa.string()),
        ("prompt_id", pa.string()),
        ("facts", pa.string()),
        ("checks", pa.string()),
    ]
)

LEDGER = pa.schema([("source", pa.string()), ("item", pa.string()), ("outcome", pa.string()), ("reason", pa.string())])

DRAFTS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("case_id", pa.string()),
        ("source", pa.string()),
        ("route", pa.string()),
        ("language", pa.string()),
        ("writer", pa.string()),
        ("prompt_id", pa.string()),
        ("outcome", pa.string()),
        ("failed", pa.list_(pa.struct([("text", pa.string()), ("faults", pa.string())]))),
    ]
)
"""What became of every text that a language model was asked for; only a corpus of such a writer has this table."""

SCHEMAS: dict[Table, pa.Schema] = {"cases": CASES, "samples": SAMPLES, "ledger": LEDGER, "drafts": DRAFTS}


def case_row(case: Case) -> Row:
    """Return the row of a case that has no side of the split yet; its pixels stay in the image store."""
    return {
        "case_id": case.case_id,
        "source": case.source,
        "item": case.item,
        "split": None,
        "image": case.image_sha256 if case.has_image else None,
        "width": case.width,
        "height": case.height,
        "modality": case.modality,
        "department": case.department,
        "clinical_task": case.clinical_task,
        "task": case.task,
        "dimension": case.dimension,
        "findings": [_finding_row(finding) for finding in case.findings],
        "negative": _term_row(case.negative),
        "label_set": [_term_row(label) for label in case.label_set],
        "severity": [_term_row(label) for label in case.severity],
        "conversations": canonical_json([_conversation_row(conversation) for conversation in case.conversations]),
        "patient_id": case.patient_id,
        "plane": case.plane,
        "body_part": _term_row(case.body_part),
        "body_parts": [_term_row(part) for part in case.body_parts],
        "spacing_mm": None if case.spacing_mm is None else list(case.spacing_mm),
        "license": case.license,
        "url": case.url,
        "deidentified": None if case.deidentified is None else canonical_json(case.deidentified),
        "look": look_of(case.pixels).tobytes() if case.has_image else None,
    }


def content_of(row: Row) -> str:
    """Return what no two cases of a corpus may share: the name of the image, or for text alone a hash of what is said.

    `row` needs the columns `image` and `conversations`.
    """
    if row["image"] is not None:
        return str(row["image"])
    said = [conversation | {"name": None} for conversation in json.loads(row["conversations"])]
    return f"text-{sha256_of_text(canonical_json(said))}"


def case_of(row: Row, pixels: NDArray[np.uint8]) -> Case:
    """Return the case of a row and its image. Raises ValueError if a mask does not fit the image."""
    return Case(
        source=row["source"],
        item=row["item"],
        pixels=pixels,
        modality=row["modality"],
        department=row["department"],
        clinical_task=row["clinical_task"],
        task=row["task"],
        dimension=row["dimension"],
        findings=tuple(_finding_of(finding, row["width"], row["height"]) for finding in row["findings"]),
        negative=_term_of(row["negative"]),
        label_set=tuple(Term(**label) for label in row["label_set"]),
        severity=tuple(Term(**label) for label in row["severity"]),
        conversations=tuple(map(_conversation_of, json.loads(row["conversations"]))),
        patient_id=row["patient_id"],
        plane=row["plane"],
        body_part=_term_of(row["body_part"]),
        body_parts=tuple(Term(**part) for part in row["body_parts"]),
        spacing_mm=None if row["spacing_mm"] is None else tuple(row["spacing_mm"]),
        license=row["license"],
        url=row["url"],
        deidentified=None if row["deidentified"] is None else json.loads(row["deidentified"]),
    )


def sample_row(sample: Sample) -> Row:
    """Return the row of a sample."""
    options = sample.options
    assert options is None or list(options) == letters(len(options)), sample.id
    return {
        "id": sample.id,
        "split": sample.split,
        "subset": sample.subset,
        "kind": sample.kind,
        "granularity": sample.granularity,
        "language": sample.language,
        "images": list(sample.images),
        "width": sample.width,
        "height": sample.height,
        "messages": [_turn_row(turn) for turn in sample.turns],
        "options": None if options is None else list(options.values()),
        "answer": sample.answer,
        "regions": [{"label": region.label, "box": list(region.box)} for region in sample.regions],
        "task": sample.task,
        "modality": sample.modality,
        "department": sample.department,
        "clinical_task": sample.clinical_task,
        "source": sample.source,
        "license": sample.license,
        "case_id": sample.case_id,
        "patient_id": sample.patient_id,
        "writer": sample.provenance.writer,
        "prompt_id": sample.provenance.prompt_id,
        "facts": canonical_json(sample.provenance.facts),
        "checks": canonical_json(sample.provenance.checks),
    }


def draft_row(draft: Draft) -> Row:
    """Return the row of a draft."""
    failed = [{"text": attempt.text, "faults": canonical_json(attempt.faults)} for attempt in draft.failed]
    return {name: getattr(draft, name) for name in DRAFTS.names} | {"failed": failed}


def sample_of(row: Row) -> Sample:
    """Return the sample of a row."""
    options = row["options"]
    return Sample(
        id=row["id"],
        split=row["split"],
        subset=row["subset"],
        kind=row["kind"],
        granularity=row["granularity"],
        language=row["language"],
        images=tuple(row["images"]),
        width=row["width"],
        height=row["height"],
        turns=tuple(map(turn_of, row["messages"])),
        options=None if options is None else dict(zip(letters(len(options)), options, strict=True)),
        answer=row["answer"],
        regions=tuple(Region(label=region["label"], box=_box_of(region["box"])) for region in row["regions"]),
        task=row["task"],
        modality=row["modality"],
        department=row["department"],
        clinical_task=row["clinical_task"],
        source=row["source"],
        license=row["license"],
        case_id=row["case_id"],
        patient_id=row["patient_id"],
        provenance=Provenance(
            writer=row["writer"],
            prompt_id=row["prompt_id"],
            facts=json.loads(row["facts"]),
            checks=json.loads(row["checks"]),
        ),
    )


def letters(count: int) -> list[str]:
    """Return the letters of `count` options: A, B, C, ..."""
    return [chr(ord("A") + index) for index in range(count)]


def _conversation_row(conversation: Conversation) -> Row:
    # Only where there is one: the hash of a text, and with it its side of the split, is taken over this row.
    published = {} if conversation.published is None else {"published": asdict(conversation.published)}
    return published | {
        "name": conversation.name,
        "turns": [_turn_row(turn) for turn in conversation.turns],
        "language": conversation.language,
        "options": conversation.options,
        "answer": conversation.answer,
    }


def _conversation_of(row: Row) -> Conversation:
    published = row.get("published")
    return Conversation(
        **row
        | {
            "turns": tuple(map(turn_of, row["turns"])),
            "published": None if published is None else Published(**published),
        }
    )


def _turn_row(turn: Turn) -> Row:
    return {"role": turn.role, "content": [_piece_row(piece) for piece in turn.content]}


def turn_of(row: Row) -> Turn:
    """Return the turn of one of a row's `messages`."""
    return Turn(row["role"], tuple(_piece_of(piece) for piece in row["content"]))


def _finding_row(finding: Finding) -> Row:
    return {
        "label": _term_row(finding.label),
        "source_label": finding.source_label,
        "box": None if finding.box is None else list(finding.box),
        "area_share": finding.area_share,
        "side": finding.side,
        "mask": None if finding.mask is None else encode_mask(finding.mask),
    }


def _finding_of(row: Row, width: int, height: int) -> Finding:
    return Finding(
        label=Term(**row["label"]),
        source_label=row["source_label"],
        box=None if row["box"] is None else _box_of(row["box"]),
        area_share=row["area_share"],
        side=row["side"],
        mask=None if row["mask"] is None else decode_mask(row["mask"], width, height),
    )


def _piece_row(piece: str | ImageRef) -> Row:
    if isinstance(piece, ImageRef):
        return {"type": "image", "text": None, "image": piece.index}
    return {"type": "text", "text": piece, "image": None}


def _piece_of(row: Row) -> str | ImageRef:
    return ImageRef(row["image"]) if row["type"] == "image" else row["text"]


def _term_row(term: Term | None) -> Row | None:
    return None if term is None else {"en": term.en, "zh": term.zh}


def _term_of(row: Row | None) -> Term | None:
    return None if row is None else Term(**row)


def _box_of(numbers: list[int]) -> Box:
    x1, y1, x2, y2 = numbers
    return x1, y1, x2, y2
