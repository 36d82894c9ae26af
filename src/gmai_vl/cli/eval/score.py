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
    json: JsonFile = None,
) -> None:
    """Score a file of predictions. Every question needs a response; --limit takes the same questions as in `run`.

    Needs no model: what was answered once is scored by any protocol.

    Example: gmai eval score --benchmark slake --data slake --predictions runs/a/predictions.jsonl --protocol lmms-eval
    """
    from gmai_vl.evaluation.run import score_file

    result = score_file(benchmark, data, predictions, protocol=protocol, limit=limit, prompt=prompt, out=out)
    print_score(result)
    write_result(json, result)
