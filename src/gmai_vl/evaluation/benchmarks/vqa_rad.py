"""VQA-RAD: the JSON file of OSF or of the MEVF split beside a folder of images, or the parquet of the hub's copy.

Lau et al., Scientific Data 5:180251 (2018). All test images also occur in train, by design of the set.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, variant_of
from gmai_vl.evaluation.benchmarks.checks import distinct
from gmai_vl.evaluation.benchmarks.pictures import in_folder, in_parquet
from gmai_vl.evaluation.benchmarks.rows import Row, files_of, rows_of
from gmai_vl.evaluation.benchmarks.short_answers import questions_of_hub, short_question
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError

NAME = "vqa-rad"
KNOWN = {451: "test", 2_248: "test and train, OSF", 3_515: "test and train, MEVF split"}
"""Questions -> published form (OSF osf.io/89kps; MEVF's data_RAD; the hub's flaviagiammarino/vqa-rad)."""

TEST_PHRASES = ("test_freeform", "test_para")
"""`phrase_type` of the 451 test questions in the OSF file."""

_ORGANS = {"HEAD": "head", "CHEST": "chest", "ABD": "abdomen"}


def read_vqa_rad(data: Path, prompt: str = "direct") -> Benchmark:
    """Read the test questions of VQA-RAD from the downloaded folder.

    That is `VQA_RAD Dataset Public.json` (its test phrases are taken), `testset.json` or `test-*.parquet`. A question
    is closed where its answer is yes or no, the only definition that all copies allow; `labels` has the file's own.
    The train side is what else the same files hold. Raises UserError where none of them is there, or an image is
    missing.
    """
    train: Callable[[], list[Question]] | None
    if packed := files_of(data, "test*.parquet", "data/test*.parquet"):
        questions, image = questions_of_hub(NAME, packed, prompt), in_parquet("image")
        others = files_of(data, "train*.parquet", "data/train*.parquet")
        train = partial(questions_of_hub, NAME, others, prompt) if others else None
    else:
        files = files_of(data, "testset.json", "VQA_RAD Dataset Public.json")
        if len(files) != 1:
            raise UserError(f"{data}: has neither testset.json nor `VQA_RAD Dataset Public.json` nor test-*.parquet")
        questions, learnt = _of_json(files[0], prompt)
        image = in_folder(files[0].parent, [question.images[0] for question in questions])
        train = (lambda: learnt) if learnt else None
    variant, notes = variant_of(NAME, len(questions), KNOWN)
    asked = distinct(questions, data)
    return Benchmark(name=NAME, variant=variant, questions=asked, image=image, train=train, notes=notes)


def _of_json(file: Path, prompt: str) -> tuple[list[Question], list[Question]]:
    """Return the questions of test and of train; all are of test in a file without test phrases."""
    needed = ["qid", "image_name", "question", "answer", "answer_type", "question_type"]
    rows = list(rows_of(file, needed, may_lack=["phrase_type", "image_organ"]))
    tests = [row for row in rows if row.values.get("phrase_type") in TEST_PHRASES] or rows
    others = [] if tests is rows else [row for row in rows if row.values.get("phrase_type") not in TEST_PHRASES]
    asked, learnt = ([_question(row, prompt) for row in some] for some in (tests, others))
    return asked, learnt


def _question(row: Row, prompt: str) -> Question:
    labels: dict[str, str] = {}
    if told := row.optional("answer_type"):
        labels["answer_type"] = told.lower()
    if types := row.optional("question_type"):
        labels["question type"] = ", ".join(sorted(name.strip().upper() for name in types.split(",")))
    if organ := row.optional("image_organ"):
        labels["organ"] = _ORGANS.get(organ.upper(), organ.lower())
    return short_question(NAME, row, f"{NAME}-{row.text('qid')}", row.text("image_name"), prompt, labels)
