"""`gmai eval score`."""

from pathlib import Path
from typing import Annotated

import typer

from gmai_vl.cli.eval.shared import Benchmark, Data, Limit, Prompt, print_score
from gmai_vl.cli.shared import JsonFile, write_result


def score(
    benchmark: Benchmark,
    data: Data,
    predictions: Annotated[Path, typer.Option(metavar="FILE", help='JSON lines {"id", "response"}.')],
    protocol: Annotated[
        str, typer.Option(metavar="P", help="How answers are judged; `gmai eval list` shows protocols.")
    ] = "default",
    limit: Limit = None,
    prompt: Prompt = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write score.json, verdicts.jsonl and report.html there.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="openai:URL#MODEL: a language model judges the answers besides.")
    ] = None,
    judge_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable that holds the key of the judge's server.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Score a file of predictions. Every question needs a response; --limit takes the same questions as in `run`.

    Needs no model: what was answered once is scored by any protocol. The number is always the protocol's; what a judge
    finds, and how far it agrees with the protocol, stands beside it, its verdicts in DIR/judge.jsonl.

    Example: gmai eval score --benchmark slake --data slake --predictions runs/a/predictions.jsonl --protocol lmms-eval
    """
    from gmai_vl.evaluation.llm_judge import judge_settings
    from gmai_vl.evaluation.rescore import score_file
    from gmai_vl.foundation import UserError

    if judge_key_env is not None and judge is None:
        raise UserError("--judge-key-env: goes with --judge openai:URL#MODEL")
    llm = None if judge is None else judge_settings(judge, judge_key_env)
    result = score_file(benchmark, data, predictions, protocol=protocol, limit=limit, prompt=prompt, out=out, llm=llm)
    print_score(result)
    write_result(json, result)
