"""PathVQA: the parquet files of the hub's copy, or the original pickle of questions beside a folder of images.

He et al., arXiv 2003.10286; the hub's flaviagiammarino/path-vqa, whose texts are lower-cased, and pvqa of
UCSD-AI4H/PathVQA. About half of the questions ask for yes or no.
"""

import io
import pickle
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, ImageOf, variant_of
from gmai_vl.evaluation.benchmarks.checks import distinct
from gmai_vl.evaluation.benchmarks.pictures import in_folder, in_parquet
from gmai_vl.evaluation.benchmarks.rows import Row, files_of
from gmai_vl.evaluation.benchmarks.short_answers import questions_of_hub, short_question
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError, visible

NAME = "path-vqa"
KNOWN = {6_719: "test, the hub's copy without duplicates", 6_761: "test, original"}
"""Questions -> published form (the hub's flaviagiammarino/path-vqa; UCSD-AI4H/PathVQA)."""

COLUMNS = ("image", "question", "answer")

MAX_PICKLE = 2**26
"""Bytes of a pickle; the original test file has about a million."""

OTHER_CLASSES = {"BYTEARRAY8": "bytearray", "EMPTY_SET": "set", "FROZENSET": "frozenset"}
"""Operations of a pickle that make something else than plain values without naming its class."""

FAULTS = (
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
"""What unpickling raises on damaged files."""


def read_path_vqa(data: Path, prompt: str = "direct") -> Benchmark:
    """Read the test questions of PathVQA from the downloaded folder.

    That is `test-*.parquet`, all of them, or `pvqa/qas/test/test_qa.pkl` with `images/test/NAME.jpg`. The files tell
    no type of question: it is closed where its answer is yes or no. Raises UserError where neither is there, an image
    is missing, or the pickle holds anything but lists, dicts, texts, numbers and bytes.
    """
    if packed := files_of(data, "test-*.parquet", "data/test-*.parquet"):
        questions, image = questions_of_hub(NAME, packed, prompt), in_parquet("image")
    else:
        files = files_of(data, "pvqa/qas/test/test_qa.pkl", "qas/test/test_qa.pkl")
        if len(files) != 1:
            raise UserError(f"{data}: has neither test-*.parquet nor pvqa/qas/test/test_qa.pkl")
        questions, image = _of_pickle(files[0], prompt)
    variant, notes = variant_of(NAME, len(questions), KNOWN)
    return Benchmark(name=NAME, variant=variant, questions=distinct(questions, data), image=image, notes=notes)


def _of_pickle(file: Path, prompt: str) -> tuple[list[Question], ImageOf]:
    questions = [
        short_question(NAME, row, f"{NAME}-{row.number}", f"images/test/{row.text('image')}.jpg", prompt)
        for row in _pickled_rows(file)
    ]
    return questions, in_folder(file.parents[2], [question.images[0] for question in questions])


def _pickled_rows(file: Path) -> Iterator[Row]:
    """Yield the rows of a pickled list of dicts of texts. No message shows a value: it may be endless."""
    entries = _unpickled(file)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{file}: is no list of questions; download it again")
    for number, entry in enumerate(entries, start=1):
        values = entry if isinstance(entry, dict) else {}
        for column in COLUMNS:
            if not isinstance(values.get(column), str):
                raise UserError(f"{file}: row {number}: `{column}` is no text; download it again")
        yield Row(file, number, {column: values[column] for column in COLUMNS})


def _unpickled(file: Path) -> Any:
    """Return what a pickle of plain values holds; anything that names a class is an error before it is looked up."""
    if file.stat().st_size > MAX_PICKLE:
        raise UserError(f"{file}: is larger than {MAX_PICKLE} bytes; download it again")
    content = file.read_bytes()
    try:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name in OTHER_CLASSES:
                raise _forbidden(file, f"builtins.{OTHER_CLASSES[operation.name]}")
            # The C reader makes room for as many remembered values as a number says, whatever the file holds.
            if operation.name in ("PUT", "LONG_BINPUT") and (argument or 0) > len(content):
                raise UserError(f"{file}: remembers more values than it has bytes; download it again")
        return _Plain(content, file).load()
    except FAULTS as error:
        raise UserError(f"{file}: is no readable pickle: {visible(str(error)[:200])}; download it again") from None


class _Plain(pickle.Unpickler):
    """Reads what pickle writes without naming a class: lists, dicts, texts, numbers, None and bytes."""

    def __init__(self, content: bytes, file: Path) -> None:
        super().__init__(io.BytesIO(content))
        self._file = file

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _forbidden(self._file, f"{module}.{name}")


def _forbidden(file: Path, named: str) -> UserError:
    return UserError(f"{file}: holds the class `{visible(named[:100])}`, which could do harm; download it again")
