"""The whole way of one sample: pixel file, annotation, facts, prompt, text, licence and hashes."""

from pathlib import Path
from typing import Any

from gmai_vl.corpus.images import image_path
from gmai_vl.corpus.reader import Corpus
from gmai_vl.records import Case, ImageRef, Sample, Turn


def trace(corpus: Path, sample_id: str) -> dict[str, Any]:
    """Return where a sample comes from, as JSON values, in the order of the way. Reads the image and checks its hash.

    Raises UserError if there is no such corpus or sample, or if its image is not the one it was written about.
    """
    opened = Corpus(corpus)
    sample = opened.sample(sample_id)
    case = opened.case(sample.case_id)
    return {
        "sample": sample.id,
        "image": _image(corpus, case),
        "source": _source(opened, case, sample),
        "annotation": _annotation(case) | {"conversation": _said(case, sample)},
        "facts": sample.provenance.facts,
        "prompt": {
            "id": sample.provenance.prompt_id,
            "text": opened.prompts.get(sample.provenance.prompt_id),
            "writer": sample.provenance.writer,
        },
        "text": {
            "subset": sample.subset,
            "kind": sample.kind,
            "language": sample.language,
            "granularity": sample.granularity,
            "conversation": [{"role": turn.role, "text": _shown(turn)} for turn in sample.turns],
            "answer": sample.answer,
            "regions": [{"label": region.label, "box": list(region.box)} for region in sample.regions],
        },
        "checks": sample.provenance.checks,
        "corpus": {
            key: opened.manifest[key] for key in ("name", "recipe_sha256", "tool_version", "fingerprint", "use")
        },
    }


def _image(corpus: Path, case: Case) -> dict[str, Any] | None:
    if not case.has_image:
        return None
    sha256 = case.image_sha256
    return {"file": str(image_path(corpus, sha256)), "sha256": sha256, "width": case.width, "height": case.height}


def _source(corpus: Corpus, case: Case, sample: Sample) -> dict[str, Any]:
    recipe = next(source for source in corpus.manifest["recipe"]["sources"] if source["name"] == case.source)
    return {
        "name": case.source,
        "format": recipe.get("format"),
        "root": recipe.get("root"),
        "item": case.item,
        "patient": case.patient_id,
        "split": sample.split,
        "license": case.license,
        "url": case.url,
    }


def _annotation(case: Case) -> dict[str, Any]:
    return {
        "task": case.task,
        "modality": case.modality,
        "department": case.department,
        "clinical_task": case.clinical_task,
        "dimension": case.dimension,
        "plane": case.plane,
        "body_part": case.body_part.en if case.body_part else None,
        "findings": [
            {
                "label": finding.label.en,
                "source_label": finding.source_label,
                "box": list(finding.box) if finding.box else None,
                "area_share": finding.area_share,
                "side": finding.side,
                "mask_pixels": int(finding.mask.sum()) if finding.mask is not None else None,
            }
            for finding in case.findings
        ],
        "negative": case.negative.en if case.negative else None,
        "label_set": [label.en for label in case.label_set],
    }


def _said(case: Case, sample: Sample) -> list[dict[str, str]] | None:
    """Return what the source itself asks and answers, where the sample repeats that."""
    name = sample.provenance.facts.get("conversation")
    turns = [turn for each in case.conversations if each.name == name for turn in each.turns]
    return [{"role": turn.role, "text": _shown(turn)} for turn in turns] or None


def _shown(turn: Turn) -> str:
    pieces = (f"<image {piece.index + 1}>" if isinstance(piece, ImageRef) else piece for piece in turn.content)
    return "\n".join(pieces)
