"""Samples about a case: what they take over from it, their ids, and the checks that they pass before they leave."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePosixPath

from gmai_vl.records import Case, Kind, Provenance, Region, Sample, Subset, Turn
from gmai_vl.vocabulary import Language
from gmai_vl.writing.verify import check_sample
from gmai_vl.writing.verify_facts import MeasuredCase, measured


def sample_about(
    case: Case,
    number: int,
    *,
    subset: Subset,
    kind: Kind,
    granularity: str,
    language: Language,
    turns: tuple[Turn, ...],
    options: Mapping[str, str] | None,
    answer: str | None,
    provenance: Provenance,
    regions: tuple[Region, ...] = (),
    shown: bool = True,
) -> Sample:
    """Return sample number `number` of `case`, not yet checked; without its image unless that is `shown`."""
    shown = shown and case.has_image
    return Sample(
        id=sample_id(case, number),
        subset=subset,
        kind=kind,
        granularity=granularity,
        language=language,
        images=(case.image_sha256,) if shown else (),
        width=case.width if shown else 0,
        height=case.height if shown else 0,
        turns=turns,
        options=None if options is None else dict(options),
        answer=answer,
        regions=regions,
        task=case.task,
        modality=case.modality,
        department=case.department,
        clinical_task=case.clinical_task,
        source=case.source,
        license=case.license,
        case_id=case.case_id,
        patient_id=case.patient_id,
        provenance=provenance,
    )


def checked(samples: Iterable[Sample], case: Case) -> list[Sample]:
    """Return the samples of `case` with the results of their checks.

    A failed check is a fault of the writer's: AssertionError.
    """
    measured_case = measured(case)
    return [_checked(sample, measured_case) for sample in samples]


def _checked(sample: Sample, case: MeasuredCase) -> Sample:
    checks = check_sample(sample, case)
    failed = {name: result for name, result in checks.items() if result is not True}
    assert not failed, f"{sample.id}: {failed}"
    return replace(sample, provenance=replace(sample.provenance, checks=checks))


def sample_id(case: Case, number: int) -> str:
    """Return `2d#cls#x-ray#source#folder#label#file#n`, each part with `#`, `%` and control characters escaped."""
    labels = sorted({finding.label.en for finding in case.findings}) or [case.negative.en if case.negative else ""]
    parts = (
        case.dimension,
        case.task,
        (case.modality or "any").lower().replace(" ", "-"),
        case.source,
        str(PurePosixPath(case.item).parent),
        "+".join(labels),
        case.item,
        str(number),
    )
    return "#".join(map(_escaped, parts))


@lru_cache(maxsize=64)
def _escaped(part: str) -> str:
    return re.sub(r"[#%\x00-\x1f\x7f]", lambda match: f"%{ord(match[0]):02X}", part)
