"""Questions without options, answered by yes or no or by other words: what VQA-RAD and PathVQA have in common."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gmai_vl.evaluation.benchmarks.pictures import rows_with_images
from gmai_vl.evaluation.benchmarks.rows import Row
from gmai_vl.evaluation.prompts import Asked, turns_of
from gmai_vl.evaluation.question import Question


def questions_of_hub(name: str, files: Sequence[Path], prompt: str) -> list[Question]:
    """Return the questions of the hub's copies: parquet files with `image`, `question` and `answer`."""
    return [
        short_question(name, row, f"{name}-{number}-{row.number}", image, prompt)
        for number, row, image in rows_with_images(files, ["question", "answer"])
    ]


def short_question(
    name: str, row: Row, id: str, image: str, prompt: str, labels: Mapping[str, str] | None = None
) -> Question:
    """Return the question of a row about one image; it is closed where its answer is yes or no."""
    answer, stem = row.filled("answer"), row.filled("question")
    kind: Asked = "closed" if answer.lower() in ("yes", "no") else "open"
    return Question(
        id=id,
        kind=kind,
        language="en",
        turns=turns_of(prompt, stem, None, kind, "en", images=1),
        stem=stem,
        images=(image,),
        answer=answer,
        source=name,
        labels={"answer is yes or no": kind, **(labels or {})},
    )
