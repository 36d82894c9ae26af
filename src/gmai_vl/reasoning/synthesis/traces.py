"""What is kept and what is not, as files; the kept ones in the form of GMAI-Reasoning10K besides."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gmai_vl.evaluation import Question
from gmai_vl.foundation import atomic_files
from gmai_vl.reasoning.questions.r10k import SFT_FILE, Record, sft_entry
from gmai_vl.reasoning.synthesis.judging import Judged

TRACES, REJECTED, WITHOUT = "traces.jsonl", "rejected.jsonl", "without_trace.jsonl"
REPORT = "report.json"
"""Names of the files, beside the one in the form of GMAI-Reasoning10K."""

Row = dict[str, Any]


def write_traces(out: Path, questions: Sequence[Question], judged: Sequence[Judged], report: Mapping[str, Any]) -> None:
    """Write all files, each whole or not at all, the report last."""
    kept = [each for each in judged if not each.reasons]
    with_trace = {each.question.id for each in kept}
    tries_of_question: dict[str, list[Judged]] = {question.id: [] for question in questions}
    for each in judged:
        tries_of_question[each.question.id].append(each)
    written: dict[str, str] = {
        TRACES: _lines(map(_row, kept)),
        REJECTED: _lines(_row(each) | {"reasons": list(each.reasons)} for each in judged if each.reasons),
        WITHOUT: _lines(_without(id, each) for id, each in tries_of_question.items() if id not in with_trace),
        SFT_FILE: _lines(sft_entry(record_of(each)) for each in kept),
        REPORT: json.dumps(report, ensure_ascii=False, indent=2) + "\n",
    }
    with atomic_files() as temporary_for:
        for name, text in written.items():
            temporary_for(out / name).write_text(text, encoding="utf-8", newline="\n")


def record_of(trace: Judged) -> Record:
    """Return a trace as a record of GMAI-Reasoning10K; the path of its image counts from the folder of questions."""
    question = trace.question
    return Record(
        image=question.images[0] if question.images else "",
        stem=question.stem,
        options=dict(question.options or {}),
        answer=question.reference,
        reasoning=trace.thought,
    )


def _row(each: Judged) -> Row:
    answer = each.answer
    return {
        "id": f"{answer.id}-{answer.number}",
        "try": answer.number,
        "question": answer.id,
        "thought": each.thought,
        "answer": each.said,
        "response": answer.response,
        "model": answer.model,
        "checks": dict(each.checks),
    }


def _without(id: str, tries: Sequence[Judged]) -> Row:
    return {
        "question": id,
        "answered": len(tries),
        "right": sum(each.checks.get("answer") is True for each in tries),
        "reasons": sorted({reason for each in tries for reason in each.reasons}),
    }


def _lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
