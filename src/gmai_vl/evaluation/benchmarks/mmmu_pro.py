"""MMMU-Pro, Health & Medicine: the parquet files of `standard (10 options)`, which hold all thirty subjects.

Yue et al., ACL 2025 (arXiv 2409.02813); the hub's MMMU/MMMU_Pro. Options were shuffled, so that marks of images do not
stand in order: `<image k>` is the image of the column `image_k` (README of mmmu-pro in MMMU-Benchmark/MMMU).
"""

from pathlib import Path

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, variant_of
from gmai_vl.evaluation.benchmarks.checks import distinct, lettered
from gmai_vl.evaluation.benchmarks.mmmu import GIVEN, IMAGES, SUBJECTS, Asking, left_out, question_of
from gmai_vl.evaluation.benchmarks.pictures import column_names, in_columns
from gmai_vl.evaluation.benchmarks.rows import files_of, rows_of
from gmai_vl.foundation import UserError

NAME = "mmmu-pro-health"
KNOWN = {1_730: "standard, 10 options"}
"""Questions of all subjects -> published form (arXiv 2409.02813); how many of them are about health it does not say."""

CONFIG = "standard (10 options)"
FEW = 4
"""Options of the other standard form at most. Some questions have fewer than ten here as well: true or false."""

_NEEDED = ("id", "question", "options", "answer", "subject")


def read_mmmu_pro(data: Path, prompt: str = "direct") -> Benchmark:
    """Read the questions of the five health subjects from `standard (10 options)/test-*.parquet`.

    The prompt is the authors' `direct`. Marks, images and options are as in MMMU, and there is no open question. Raises
    UserError where there is no such file or no question of these subjects, a marked image is missing, a letter is none
    of its options, or no question has more than four: that is the form with four options.
    """
    files = files_of(data, f"{CONFIG}/test-*.parquet", "test-*.parquet")
    if not files:
        raise UserError(f"{data}: has no `{CONFIG}/test-*.parquet`; download MMMU/MMMU_Pro")
    asked: list[Asking] = []
    counted = most = 0
    for file in files:
        rows = list(rows_of(file, [*_NEEDED, *GIVEN], may_lack=tuple(GIVEN)))
        for row, names in zip(rows, column_names(file, IMAGES), strict=True):
            counted += 1
            subject, texts = row.text("subject"), row.listed("options")
            most = max(most, len(texts))
            if subject in SUBJECTS:
                pictures = {IMAGES.index(column) + 1: name for column, name in names.items()}
                id = f"{NAME}-{row.text('id')}"
                asked.append(question_of(row, id, NAME, subject, lettered(row, texts), pictures, prompt))
    if most <= FEW:
        raise UserError(f"{data}: no question has more than {FEW} options; give the folder `{CONFIG}`")
    variant, notes = variant_of(NAME, counted, KNOWN)
    questions = distinct([question for question, _ in asked], data)
    return Benchmark(
        name=NAME, variant=variant, questions=questions, image=in_columns(), notes=notes + left_out(NAME, asked)
    )
