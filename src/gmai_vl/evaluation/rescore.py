"""Score what a model has answered before: by any protocol, without the model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gmai_vl.endpoint import EndpointSettings
from gmai_vl.evaluation.benchmarks.benchmark import Benchmark
from gmai_vl.evaluation.benchmarks.listed import prompt_of, read_benchmark
from gmai_vl.evaluation.contamination import kept_contamination
from gmai_vl.evaluation.llm_judge import OPINIONS, judge_by_llm
from gmai_vl.evaluation.predictions import read_asides, read_predictions
from gmai_vl.evaluation.protocols import PROTOCOLS
from gmai_vl.evaluation.results import leaks_of, limited, manifest_of, scored, write_results
from gmai_vl.evaluation.run import RUN, asked_of
from gmai_vl.evaluation.score import DEFAULT, judge
from gmai_vl.foundation import UserError


def score_file(
    name: str,
    data: Path,
    predictions: Path,
    *,
    protocol: str = DEFAULT,
    limit: int | None = None,
    prompt: str | None = None,
    out: Path | None = None,
    llm: EndpointSettings | None = None,
) -> dict[str, Any]:
    """Score a file of predictions by a protocol, and write score, verdicts and page to `out` where it is given.

    What the folder of the predictions tells of their run, and of leaks, is said of the score. Where there is an `llm`,
    it judges the responses besides: block `judge` of the score. Raises UserError where a question has no response, an
    id is no question, files cannot be used, or the judge cannot be reached.
    """
    whole = read_benchmark(name, data, prompt)
    responses = read_predictions(predictions)
    if unknown := responses.keys() - {question.id for question in whole.questions}:
        raise UserError(
            f"{predictions}: {len(unknown)} ids are no questions of {data}, the first is `{min(unknown)}`; "
            "give the --data that was asked"
        )
    benchmark = limited(whole, limit)
    asides = read_asides(predictions)
    _check_losses(benchmark, asides.losses, protocol, predictions)
    judged = judge(benchmark.questions, responses, protocol)
    result = scored(name, benchmark, judged, protocol, asides)
    result["leaks"] = leaks_of(judged, kept_contamination(predictions.parent, whole.sha256))
    result["manifest"] = manifest_of(
        _asked_before(predictions, whole.sha256, prompt_of(name, prompt)) | {"limit": limit}
    )
    if llm is not None:
        result["judge"] = judge_by_llm(llm, judged, responses, None if out is None else out / OPINIONS)
    if out is not None:
        write_results(out, result, benchmark, judged, responses)
    return result


def _check_losses(benchmark: Benchmark, losses: Mapping[str, object], protocol: str, predictions: Path) -> None:
    if protocol not in PROTOCOLS or not PROTOCOLS[protocol].by_likelihood:
        return
    if without := [question.id for question in benchmark.questions if question.id not in losses]:
        raise UserError(
            f"{predictions}: {len(without)} questions have no losses, the first is `{without[0]}`, and {protocol} "
            f"judges by them; run with --by-likelihood --prompt {protocol}"
        )


def _asked_before(predictions: Path, data_sha256: str, prompt: str | None) -> dict[str, Any]:
    """Return what a run.json beside predictions says of them; where none is about these data, what is known here."""
    name = predictions.parent.name or str(predictions)
    file = predictions.parent / RUN
    if file.is_file():
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            if told["data"] == data_sha256:
                return asked_of(name, told)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(f"{file}: cannot be read: {error!r}; score a copy of the predictions alone") from None
    return {"model": name, "data_sha256": data_sha256, "prompt": prompt}
