"""SLAKE: test.json beside imgs.zip or the unpacked imgs, in English, Chinese or both.

Liu et al., ISBI 2021 (arXiv 2102.09542); the hub's BoKelvin/SLAKE, or the folder Slake1.0. The two languages were split
separately: 72 of the 96 images of the English test are in the Chinese train file.
"""

from pathlib import Path

from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, variant_of
from gmai_vl.evaluation.benchmarks.checks import distinct
from gmai_vl.evaluation.benchmarks.pictures import in_folder
from gmai_vl.evaluation.benchmarks.rows import Row, files_of, rows_of
from gmai_vl.evaluation.prompts import Asked, turns_of
from gmai_vl.evaluation.question import Question
from gmai_vl.foundation import UserError
from gmai_vl.vocabulary import Language

NAME = "slake"
KNOWN = {1_061: "test, English", 1_033: "test, Chinese", 2_094: "test, English and Chinese"}
"""Questions -> published form (test.json of the hub and of Slake1.0)."""

YES_OR_NO = frozenset(["yes", "no", "是的", "不是", "包含", "不包含", "有", "没有", "可以", "不可以", "是", "否"])
"""Answers that say yes or no in the test file. 正常 and 不正常 are none: which is yes depends on the question."""

_NEEDED = ("qid", "img_name", "question", "answer", "q_lang", "answer_type")
_GIVEN = ("content_type", "base_type", "location")
"""Columns that become labels."""


def read_slake(data: Path, prompt: str = "direct", *, language: Language | None = None) -> Benchmark:
    """Read the test questions of SLAKE in one language, or in both, from the downloaded folder.

    A question is closed where `answer_type` says so. That is not the same as yes or no: closed answers are also words
    such as `Lung` or T2, so `labels` tells both. Answers stay in their language and as they are written.
    Raises UserError where test.json, the language or an image is not there, a row lacks a value, or two have one id.
    """
    files = files_of(data, "test.json", "Slake1.0/test.json")
    if len(files) != 1:
        raise UserError(f"{data}: has no test.json; download BoKelvin/SLAKE")
    rows = [
        row for row in rows_of(files[0], _NEEDED, may_lack=[*_GIVEN, "modality"]) if language in (None, _language(row))
    ]
    if not rows:
        raise UserError(f"{files[0]}: has no questions in `{language}`; download BoKelvin/SLAKE, which has en and zh")
    questions = [_question(row, prompt) for row in rows]
    unpacked = files[0].parent / "imgs"  # where it is there, the archive beside it holds the same images again
    image = in_folder(unpacked if unpacked.is_dir() else files[0].parent, [one.images[0] for one in questions])
    variant, notes = variant_of(NAME, len(questions), KNOWN)
    return Benchmark(name=NAME, variant=variant, questions=distinct(questions, files[0]), image=image, notes=notes)


def _language(row: Row) -> Language:
    told = row.text("q_lang")
    if told == "en":
        return "en"
    if told == "zh":
        return "zh"
    raise UserError(f"{row.place}: `q_lang` is {told!r}; en or zh is needed")


def _question(row: Row, prompt: str) -> Question:
    answer, language = row.filled("answer"), _language(row)
    told = row.text("answer_type").lower()
    kind: Asked = "closed" if told == "closed" else "open"
    labels = {"answer is yes or no": "closed" if answer.lower() in YES_OR_NO else "open", "answer_type": told}
    for column in _GIVEN:
        if value := row.optional(column):
            labels[column.replace("_", " ")] = value
    stem = row.text("question")
    return Question(
        id=f"{NAME}-{row.text('qid')}",
        kind=kind,
        language=language,
        turns=turns_of(prompt, stem, None, kind, language, images=1),
        stem=stem,
        images=(row.text("img_name"),),
        answer=answer,
        modality=row.optional("modality"),
        source=NAME,
        labels=labels,
    )
