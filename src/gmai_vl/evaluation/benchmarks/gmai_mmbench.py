"""GMAI-MMBench: VAL in one TSV file of 9.3 GB, TEST in eleven without answers, and what the authors score TEST by.

Chen et al., NeurIPS 2024 (arXiv 2408.03361); the hub's OpenGVLab/GMAI-MMBench (gated), VLMEval/GMAI-MMBench for VAL.
Boxes, contours and masks are drawn into the images. 47 % of VAL is disease diagnosis: see scores by task as well.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, variant_of
from gmai_vl.evaluation.benchmarks.checks import distinct, letter_of
from gmai_vl.evaluation.benchmarks.rows import Row, files_of
from gmai_vl.evaluation.benchmarks.tsv import ABSENT, present, read_tsv, rows_of_tsv
from gmai_vl.evaluation.prompts import turns_of
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError, atomic_file

NAME = "gmai-mmbench"
KNOWN = {4_550: "val"}
"""Questions -> published form (MD5 254bd581627866f1c499d3d6b4422324 in VLMEvalKit)."""

NAME_TEST = "gmai-mmbench-test"
PARTS = 11
"""Files of TEST; how many questions they hold together is published nowhere."""

LETTERS = "ABCDE"
LABELS = {"perceptual granularity": "granularity", "original task": "original task"}
"""Column -> label. `category` is the right option's text, and stays out."""

_PART = re.compile(r"GMAI_mm_bench_TEST_part_(\d+)\.tsv")  # not `..._local.tsv`, which VLMEvalKit writes beside them
_NEEDED = ("question", *LETTERS[:2], "clinical VQA task", "department", "modality")
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML has no form of."""
_INDEX = re.compile(r"[0-9]{1,15}")

MAX_CELL = 32_767
"""Characters of a cell of a workbook (Excel's specification)."""


def read_gmai_mmbench(data: Path, prompt: str = "vlmevalkit") -> Benchmark:
    """Read VAL: `GMAI_mm_bench_VAL.tsv`, or `GMAI-MMBench_VAL.tsv` as the copy for VLMEvalKit is called.

    Names of tasks, departments and modalities are as the file has them; a blank department is None. Option E and
    others may be absent: their cells are blank or `nan`, while `None` is an option of that text. Raises UserError where
    the file is not there, a row has no image, or its letter is none of its options.
    """
    files = files_of(data, "GMAI_mm_bench_VAL.tsv", "GMAI-MMBench_VAL.tsv")
    if not files:
        raise UserError(f"{data}: has no GMAI_mm_bench_VAL.tsv; download it from OpenGVLab/GMAI-MMBench")
    rows, image = read_tsv(files, [*_NEEDED, "answer"])
    questions = distinct([_question(row, prompt) for row in rows], files[0])
    variant, notes = variant_of(NAME, len(questions), KNOWN)
    return Benchmark(name=NAME, variant=variant, questions=questions, image=image, notes=notes)


def read_gmai_mmbench_test(data: Path, prompt: str = "vlmevalkit") -> Benchmark:
    """Read TEST, `GMAI_mm_bench_TEST_part_1.tsv` and on, as `read_gmai_mmbench` does; no answer is known.

    The variant says how many parts are there, and a note which are not.
    """
    files = [file for file in files_of(data, "GMAI_mm_bench_TEST_part_*.tsv") if _PART.fullmatch(file.name)]
    if not files:
        raise UserError(f"{data}: has no GMAI_mm_bench_TEST_part_*.tsv; download them from OpenGVLab/GMAI-MMBench")
    files.sort(key=_part)
    rows, image = read_tsv(files, _NEEDED)
    questions = distinct([_question(row, prompt) for row in rows], data)
    absent = [str(part) for part in range(1, PARTS + 1) if part not in map(_part, files)]
    notes = (f"{NAME_TEST}: parts {', '.join(absent)} are not there",) if absent else ()
    variant = f"test, {len(files)} of {PARTS} parts"
    return Benchmark(name=NAME_TEST, variant=variant, questions=questions, image=image, notes=notes)


def write_submission(
    benchmark: Benchmark, responses: Mapping[str, str], letters: Mapping[str, str | None], path: Path
) -> None:
    """Write the workbook that the authors score TEST by: the files' columns without the image, and `prediction`.

    That is the letter of an id; where none was found in the response it is the response, for the authors to judge. All
    cells are texts, which nothing takes for formulas, except the index: VLMEvalKit joins by its number. The files are
    read again from where they were. Raises UserError where a response or a row is missing.
    """
    try:
        from openpyxl import Workbook
    except ImportError:
        raise UserError(f"{path}: needs the package `openpyxl`; run `pip install 'gmai-vl[sources]'`") from None
    predictions = {
        question.id: letters.get(question.id) or responses.get(question.id, "") for question in benchmark.questions
    }
    if lacking := [id for id in predictions if id not in responses]:
        raise UserError(f"{path}: {len(lacking)} questions have no response, the first is {lacking[0]}; ask them first")
    rows = list(_rows_again(benchmark))
    if gone := sorted(predictions.keys() - {_id(row) for row in rows}):
        raise UserError(f"{path}: {len(gone)} questions are in their file no more, the first is {gone[0]}")
    columns = [column for column in rows[0].values if column != "image"]
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append([*columns, "prediction"])
    for row in rows:
        cells = [_cell(sheet, row.values.get(column, "")) for column in columns]
        index = row.text("index")
        cells[columns.index("index")] = int(index) if _INDEX.fullmatch(index) else index
        sheet.append([*cells, _cell(sheet, predictions[_id(row)])])
    with atomic_file(path) as temporary:
        book.save(temporary)


def _rows_again(benchmark: Benchmark) -> Iterator[Row]:
    """Yield the rows of the questions without their images."""
    asked = {question.id for question in benchmark.questions}
    for file in dict.fromkeys(question.images[0].rsplit("#", 1)[0] for question in benchmark.questions):
        for row, _ in rows_of_tsv(Path(file)):
            if _id(row) in asked:
                yield Row(row.file, row.number, row.values | {"image": ""})  # a million times smaller


def _cell(sheet: Any, text: str) -> Any:
    """Return a cell that holds a text whatever it begins with; None for none."""
    from openpyxl.cell import WriteOnlyCell

    if text in ABSENT:
        return None
    cell = WriteOnlyCell(sheet, _ILLEGAL.sub(" ", text)[:MAX_CELL])
    cell.data_type = "s"
    return cell


def _question(row: Row, prompt: str) -> Question:
    if len(row.values["image"]) != 1:
        raise UserError(f"{row.place}: has {len(row.values['image'])} images; one is needed")
    options = {letter: text for letter in LETTERS if (text := present(row, letter))}
    if len(options) < 2:
        raise UserError(f"{row.place}: has {len(options)} options; two to five are needed")
    stem = row.text("question")
    return Question(
        id=_id(row),
        kind="mcq",
        language="en",
        turns=turns_of(prompt, stem, options, "mcq", "en", images=1),
        stem=stem,
        images=tuple(row.values["image"]),
        options=options,
        answer=None if _PART.fullmatch(row.file.name) else letter_of(row, "answer", options),
        modality=present(row, "modality"),
        department=present(row, "department"),
        clinical_task=present(row, "clinical VQA task"),
        source=NAME,
        labels={label: text for column, label in LABELS.items() if (text := present(row, column))},
    )


def _id(row: Row) -> str:
    part = _PART.fullmatch(row.file.name)
    return f"{NAME_TEST}-{part[1]}-{row.text('index')}" if part else f"{NAME}-{row.text('index')}"


def _part(file: Path) -> int:
    part = _PART.fullmatch(file.name)
    assert part is not None, file
    return int(part[1])
