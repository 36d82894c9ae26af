"""What is made of a model's answers: a score with all that must be said of it, verdicts, page and manifest."""

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gmai_vl import __version__
from gmai_vl.evaluation.baselines import majority_answers
from gmai_vl.evaluation.benchmarks.benchmark import Benchmark
from gmai_vl.evaluation.choose import choose
from gmai_vl.evaluation.contamination import Contamination
from gmai_vl.evaluation.likelihood import calibration_of
from gmai_vl.evaluation.predictions import Asides
from gmai_vl.evaluation.prompts import prompts_sha256
from gmai_vl.evaluation.score import DEFAULT, Judged, judge, score, without
from gmai_vl.evaluation.verdicts import VERDICTS, write_verdicts
from gmai_vl.foundation import code_identity, write_json

NO_ASIDES = Asides(losses={}, cut_off=frozenset())

SCORE = "score.json"
"""Name of the file in a run's folder."""


def limited(benchmark: Benchmark, limit: int | None) -> Benchmark:
    """Return a benchmark with at most so many questions, chosen as `choose` does."""
    if limit is None:
        return benchmark
    return replace(benchmark, questions=tuple(choose(benchmark.questions, limit, seed=0)))


def scored(
    name: str,
    benchmark: Benchmark,
    judged: Sequence[Judged],
    protocol: str = DEFAULT,
    asides: Asides = NO_ASIDES,
) -> dict[str, Any]:
    """Return the score with what is to be said of the data, and what the most frequent answers would reach.

    Where every question has losses there is `calibration` too; `n_cut_off` counts responses that came to no end.
    """
    result = score(judged, benchmark=name, variant=benchmark.variant, protocol=protocol)
    result["n_cut_off"] = len(asides.cut_off & {question.id for question in benchmark.questions})
    if fits := calibration_of(benchmark.questions, asides.losses):
        result["calibration"] = fits.as_json()
    if benchmark.notes:
        result["notes"] = list(benchmark.notes)
    if benchmark.train is not None and protocol == DEFAULT:
        guesses = judge(benchmark.questions, majority_answers(benchmark.train(), benchmark.questions))
        result["baselines"] = {"majority": sum(guess.correct for guess in guesses) / len(guesses)}
    return result


def leaks_of(judged: Sequence[Judged], seen: Contamination) -> dict[str, Any]:
    """Return the block `leaks` of a score, with the score of the questions that were not met in training."""
    leaked = seen.leaked & {entry.question.id for entry in judged}
    rest = without(judged, leaked) if leaked else None
    return {"status": seen.status, "n": len(leaked), "why": seen.why, "without": rest}


def manifest_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was `asked` of whom, with the code and the libraries that this is."""
    versions = {"gmai-vl": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "numpy", "tokenizers"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {**asked, "prompts_sha256": prompts_sha256(), "code": code_identity(), "versions": versions}


def write_results(
    out: Path, result: dict[str, Any], benchmark: Benchmark, judged: Sequence[Judged], responses: Mapping[str, str]
) -> None:
    """Write verdicts.jsonl, report.html and score.json, which is there once the others are."""
    from gmai_vl.evaluation.reports.page import write_page

    write_verdicts(out / VERDICTS, judged)
    write_page(out, result, benchmark, judged, responses)
    write_json(out / SCORE, result)
