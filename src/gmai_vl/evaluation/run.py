"""A run: a model is asked a benchmark's questions, the answers are kept, scored, and shown with where they are from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gmai_vl.evaluation.answers.extraction import extract
from gmai_vl.evaluation.baselines import majority_answers
from gmai_vl.evaluation.benchmarks.benchmark import Benchmark, readable
from gmai_vl.evaluation.benchmarks.listed import prompt_of, read_benchmark
from gmai_vl.evaluation.contamination import UNSEEING, contamination, write_contamination
from gmai_vl.evaluation.likelihood import weigh
from gmai_vl.evaluation.predictions import read_asides
from gmai_vl.evaluation.prompts import BY_LIKELIHOOD, LONG_ANSWERS
from gmai_vl.evaluation.remote import PREFIX, ask_endpoint, endpoint_of
from gmai_vl.evaluation.results import leaks_of, limited, manifest_of, scored, write_results
from gmai_vl.evaluation.runner import ask, checkpoint_sha256, claim
from gmai_vl.evaluation.saved import saved_answers
from gmai_vl.evaluation.score import judge
from gmai_vl.foundation import UserError

PREDICTIONS, RUN = "predictions.jsonl", "run.json"
"""Files of a run's folder."""

MAJORITY = "majority"
"""The model that never looks: it says the most frequent answers of the benchmark's train side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """What is asked of whom, and how."""

    model: str
    """Folder of a checkpoint, `openai:URL#MODEL`, or `majority`."""

    benchmark: str
    data: Path
    limit: int | None = None
    prompt: str | None = None
    """Name of a prompt; None for the usual one of the benchmark."""

    by_likelihood: bool = False
    """The most likely option is the answer, nothing is written."""

    max_new_tokens: int | None = None
    """Longest answer; None for what the prompt or else the kind of question needs."""

    precision: Literal["fp32", "bf16"] | None = None
    """What a checkpoint computes in; None for what it was saved in."""

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

    Writes predictions.jsonl and run.json into the folder `out` and, where there are answers to score by, leaks.json,
    verdicts.jsonl, report.html and score.json. Raises UserError where the model, the data or the folder cannot be used.
    """
    _check(asking)
    whole = read_benchmark(asking.benchmark, asking.data, asking.prompt)
    benchmark = limited(whole, asking.limit)
    identity = {
        "benchmark": asking.benchmark,
        "data": whole.sha256,
        "prompt": prompt_of(asking.benchmark, asking.prompt),
        "max_new_tokens": asking.max_new_tokens,
        **({"by": "likelihood"} if asking.by_likelihood else {}),
        **({"precision": asking.precision} if asking.precision else {}),
    }
    responses = _asked(asking, benchmark, identity, out)
    if any(question.answer is None for question in benchmark.questions):
        _hand_in(asking.benchmark, benchmark, responses, out)
        return Ran(benchmark=benchmark, responses=responses, score=None)
    judged = judge(benchmark.questions, responses)
    if asking.model == MAJORITY:
        seen = UNSEEING
    else:
        seen = contamination(None if asking.model.startswith(PREFIX) else Path(asking.model), benchmark, asking.corpora)
    write_contamination(out, seen, whole.sha256)
    told = json.loads((out / RUN).read_text(encoding="utf-8"))
    result = scored(asking.benchmark, benchmark, judged, asides=read_asides(out / PREDICTIONS)) | {
        "leaks": leaks_of(judged, seen),
        "manifest": manifest_of(asked_of(asking.model, told) | {"limit": asking.limit}),
    }
    write_results(out, result, benchmark, judged, responses)
    return Ran(benchmark=benchmark, responses=responses, score=result)


def asked_of(model: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest says of a run, from what its run.json tells."""
    by_likelihood = told.get("by") == "likelihood"
    return {
        "model": model,
        "model_sha256": told["model"],
        "data_sha256": told["data"],
        "prompt": told["prompt"],
        "decoding": {"by_likelihood": True}
        if by_likelihood
        else {"greedy": True, "max_new_tokens": told["max_new_tokens"]},
        **({"precision": told["precision"]} if "precision" in told else {}),
    }


def _check(asking: Asking) -> None:
    if asking.by_likelihood and (asking.model == MAJORITY or asking.model.startswith(PREFIX)):
        raise UserError(f"--by-likelihood: {asking.model} tells no losses; give the folder of a checkpoint")
    if asking.by_likelihood and asking.max_new_tokens is not None:
        raise UserError("--max-new-tokens: nothing is written with --by-likelihood; leave it out")
    if asking.prompt == BY_LIKELIHOOD and not asking.by_likelihood:
        raise UserError(f"--prompt {BY_LIKELIHOOD}: shows no options to choose from; add --by-likelihood")


def _hand_in(name: str, benchmark: Benchmark, responses: Mapping[str, str], out: Path) -> None:
    """Write what the authors of a benchmark ask for, where they withhold the answers and say in which form."""
    if name == "gmai-mmbench-test":
        from gmai_vl.evaluation.benchmarks.gmai_mmbench import write_submission

        letters = {
            question.id: extract(question.kind, question.stem, question.options, responses[question.id]).choice
            for question in benchmark.questions
        }
        write_submission(benchmark, responses, letters, out / "submission.xlsx")


def _asked(asking: Asking, benchmark: Benchmark, identity: dict[str, Any], out: Path) -> dict[str, str]:
    """Return the answers: id -> response."""
    place = asking.data if asking.data.is_dir() else asking.data.parent
    questions, image, file = benchmark.questions, readable(benchmark, place), out / PREDICTIONS
    if asking.model == MAJORITY:
        guesses = _majority(asking, benchmark)
        claim(out, identity | {"model": MAJORITY})
        with saved_answers(file) as saved:
            saved.add({id: guess for id, guess in guesses.items() if id not in saved.responses})
        return guesses
    tokens = asking.max_new_tokens or LONG_ANSWERS.get(identity["prompt"])
    if asking.model.startswith(PREFIX):
        settings = endpoint_of(asking.model, concurrency=asking.concurrency, key_env=asking.key_env)
        claim(out, identity | {"model": f"{PREFIX}{settings.url}#{settings.model}"})
        return ask_endpoint(settings, questions, image, file, max_new_tokens=tokens)
    from gmai_vl.model import load_to_answer

    folder = Path(asking.model)
    vlm = load_to_answer(folder, asking.precision)
    claim(out, identity | {"model": checkpoint_sha256(folder)})
    if asking.by_likelihood:
        return weigh(vlm, questions, image, file, prompt=asking.prompt)
    return ask(vlm, questions, image, file, max_new_tokens=tokens)


def _majority(asking: Asking, benchmark: Benchmark) -> dict[str, str]:
    if benchmark.train is None:
        raise UserError(f"--model {MAJORITY}: `{asking.benchmark}` has no train side here that tells frequent answers")
    return majority_answers(benchmark.train(), benchmark.questions)
