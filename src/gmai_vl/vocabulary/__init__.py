"""Names of the field in English and Chinese: modalities, departments, clinical tasks, subsets, anatomy and findings."""

from gmai_vl.vocabulary.terms import (
    CLINICAL_TASKS,
    DEPARTMENTS,
    GRANULARITIES,
    MODALITIES,
    SUBSETS,
    Language,
    Term,
    branch,
    branch_of,
    clinical_task,
    department,
    granularity,
    modality,
    overlap,
    siblings,
    term,
)

__all__ = [
    "CLINICAL_TASKS",
    "DEPARTMENTS",
    "GRANULARITIES",
    "MODALITIES",
    "SUBSETS",
    "Language",
    "Term",
    "branch",
    "branch_of",
    "clinical_task",
    "department",
    "granularity",
    "modality",
    "overlap",
    "siblings",
    "term",
]
