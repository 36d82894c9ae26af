"""A run: a model is asked a benchmark's questions, the answers are kept, scored, and shown with where they are from."""

import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gmai_vl import __version__
from gmai_vl.evaluation.answers.extraction import extract
from gmai_vl.evaluation.baselines import majority_answers
from gmai_vl.evaluation.benchmarks.benchmark import Benchmark
from gmai_vl.evaluation.benchmarks.listed import read_benchmark
from gmai_vl.evaluation.choose import choose
from gmai_vl.evaluation.contamination import Contamination, contamination
from gmai_vl.evaluation.predictions import read_predictions
from gmai_vl.evaluation.prompts import prompts_sha256
from gmai_vl.evaluation.remote import PREFIX, ask_endpoint, endpoint_of
from gmai_vl.evaluation.runner import ask, checkpoint_sha256, claim
from gmai_vl.evaluation.score import DEFAULT, Judged, judge, score, without
from gmai_vl.evaluation.verdicts import VERDICTS, write_verdicts
from gmai_vl.foundation import UserError, write_json

PREDICTIONS, SCORE, RUN = "predictions.jsonl", "score.json", "run.json"
"""Files of a run's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """What is asked of whom, and how."""

    model: str
    """Folder of a checkpoint, or `openai:URL#MODEL`."""

    benchmark: str
    data: Path
    limit: int | None = None
    prompt: str | None = None
    """Name of a prompt; None for the usual one of the benchmark."""

    max_new_tokens: int | None = None
    """Longest answer; None for what the kind of question needs."""

    concurrency: int = 8
    key_env: str | None = None
    corpora: tuple[Path, ...] = ()
    """Where training corpora may lie, for the leak gate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """A finished run."""

    benchmark: Benchmark
    """With the questions that were asked."""

    responses: dict[str, str]
    score: dict[str, Any] | None
    """None where the answers are withheld."""


def run(asking: Asking, out: Path) -> Ran:
    """Ask a model and score its answers by the protocol `default`; goes on where it was stopped.

    Writes OUT/predictions.jsonl, OUT/run.json and, where there are answers to score by, OUT/score.json. Raises
    UserError where the model, the data or the folder cannot be used.
    """
    whole = read_benchmark(asking.benchmark, asking.data, asking.prompt)
    benchmark = limited(whole, asking.limit)
    identity = {
        "benchmark": asking.benchmark,
        "data": whole.sha256,
        "prompt": asking.prompt or "the usual one",
        "max_new_tokens": asking.max_new_tokens,
    }
    responses, model = _asked(asking, benchmark, identity, out)
    if any(question.answer is None for question in benchmark.questions):
        _hand_in(asking.benchmark, benchmark, responses, out)
        return Ran(benchmark=benchmark, responses=responses, score=None)
    judged = judge(benchmark.questions, responses)
    seen = contamination(model, benchmark, asking.corpora)
    told = json.loads((out / RUN).read_text(encoding="utf-8"))
    result = scored(asking.benchmark, benchmark, judged) | {
        "leaks": _leaks(judged, seen),
        "manifest": _manifest(asking, told),
    }
    _write(out, result, benchmark, judged, responses)
    return Ran(benchmark=benchmark, responses=responses, score=result)


def score_file(
    name: str,
    data: Path,
    predictions: Path,
    *,
    protocol: str = DEFAULT,
    limit: int | None = None,
    prompt: str | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Score a file of predictions by a protocol, and write score, verdicts and page to `out` where it is given.

    Raises UserError where a question has no response, an id is no question, or files cannot be used.
    """
    whole = read_benchmark(name, data, prompt)
    responses = read_predictions(predictions)
    if unknown := responses.keys() - {question.id for question in whole.questions}:
        raise UserError(
            f"{predictions}: {len(unknown)} ids are no questions of {data}, the first is `{min(unknown)}`; "
            "give the --data that was asked"
        )
    benchmark = limited(whole, limit)
    judged = judge(benchmark.questions, responses, protocol)
    result = scored(name, benchmark, judged, protocol)
    result["manifest"] = {"model": predictions.parent.name or str(predictions), "data_sha256": whole.sha256}
    if out is not None:
        _write(out, result, benchmark, judged, responses)
    return result


def _write(
    out: Path, result: dict[str, Any], benchmark: Benchmark, judged: Sequence[Judged], responses: Mapping[str, str]
) -> None:
    from gmai_vl.evaluation.reports.page import write_page

    write_verdicts(out / VERDICTS, judged)
    write_page(out, result, benchmark, judged, responses)
    write_json(out / SCORE, result)


def _hand_in(name: str, benchmark: Benchmark, responses: Mapping[str, str], out: Path) -> None:
    """Write what the authors of a benchmark ask for, where they withhold the answers and say in which form."""
    if name == "gmai-mmbench-test":
        from gmai_vl.evaluation.benchmarks.gmai_mmbench import write_submission

        letters = {
            question.id: extract(question.kind, question.stem, question.options, responses[question.id]).choice
            for question in benchmark.questions
        }
        write_submission(benchmark, responses, letters, out / "submission.xlsx")


def limited(benchmark: Benchmark, limit: int | None) -> Benchmark:
    """Return a benchmark with at most so many questions, chosen as `choose` does."""
    if limit is None:
        return benchmark
    return replace(benchmark, questions=tuple(choose(benchmark.questions, limit, seed=0)))


def scored(name: str, benchmark: Benchmark, judged: Sequence[Judged], protocol: str = DEFAULT) -> dict[str, Any]:
    """Return the score with what is to be said of the data, and what the most frequent answers would reach."""
    result = score(judged, benchmark=name, variant=benchmark.variant, protocol=protocol)
    if benchmark.notes:
        result["notes"] = list(benchmark.notes)
    if benchmark.train is not None and protocol == DEFAULT:
        guesses = judge(benchmark.questions, majority_answers(benchmark.train(), benchmark.questions))
        result["baselines"] = {"majority": sum(guess.correct for guess in guesses) / len(guesses)}
    return result


def _asked(
    asking: Asking, benchmark: Benchmark, identity: dict[str, Any], out: Path
) -> tuple[dict[str, str], Path | None]:
    """Return the answers, and the folder of the model where it has one."""
    questions, image, file = benchmark.questions, benchmark.image, out / PREDICTIONS
    if asking.model.startswith(PREFIX):
        settings = endpoint_of(asking.model, concurrency=asking.concurrency, key_env=asking.key_env)
        claim(out, identity | {"model": f"{PREFIX}{settings.url}#{settings.model}"})
        return ask_endpoint(settings, questions, image, file, max_new_tokens=asking.max_new_tokens), None
    from gmai_vl.model import load_model

    folder = Path(asking.model)
    vlm = load_model(folder)
    claim(out, identity | {"model": checkpoint_sha256(folder)})
    return ask(vlm, questions, image, file, max_new_tokens=asking.max_new_tokens), folder


def _leaks(judged: Sequence[Judged], seen: Contamination) -> dict[str, Any]:
    rest = without(judged, seen.leaked) if seen.leaked else None
    return {"status": seen.status, "n": len(seen.leaked), "why": seen.why, "without": rest}


def _manifest(asking: Asking, identity: Mapping[str, Any]) -> dict[str, Any]:
    versions = {"gmai-vl": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "numpy", "tokenizers"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "model": asking.model,
        "model_sha256": identity["model"],
        "data_sha256": identity["data"],
        "prompt": asking.prompt or "usual",
        "prompts_sha256": prompts_sha256(),
        "decoding": {"greedy": True, "max_new_tokens": asking.max_new_tokens},
        "limit": asking.limit,
        "versions": versions,
    }
