"""`gmai eval run`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gmai_vl.cli.eval.shared import Benchmark, Data, Limit, Prompt, print_score
from gmai_vl.cli.shared import JsonFile, write_result


def run(
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="Folder of a checkpoint, openai:URL#MODEL, or majority: the most frequent answers."
        ),
    ],
    benchmark: Benchmark,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for answers, score and page.")],
    limit: Limit = None,
    prompt: Prompt = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Longest answer; else what prompt and kind of question need.")
    ] = None,
    by_likelihood: Annotated[
        bool,
        typer.Option(
            "--by-likelihood", help="Multiple choice: the most likely option is the answer; checkpoints only."
        ),
    ] = False,
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        typer.Option(help="What a checkpoint computes in; without it, as it was saved. bf16 may change a few answers."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at a server.")] = 8,
    key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable that holds the server's key.")
    ] = None,
    corpora: Annotated[
        list[Path], typer.Option(metavar="DIR", help="Where training corpora lie, for the leak gate; several times.")
    ] = [],  # noqa: B006  typer copies it
    json: JsonFile = None,
) -> None:
    """Ask a model and score its answers by the protocol `default`; goes on where it was stopped.

    Writes to DIR: predictions.jsonl, run.json, score.json, verdicts.jsonl and report.html. Where the authors withhold
    the answers: predictions.jsonl and, for GMAI-MMBench, the file to hand in.

    Example: gmai eval run --model runs/smol/final --benchmark vqa-rad --data vqa_rad --out runs/smol/vqa-rad
    """
    from gmai_vl.evaluation.run import Asking
    from gmai_vl.evaluation.run import run as run_benchmark

    asking = Asking(
        model=model,
        benchmark=benchmark,
        data=data,
        limit=limit,
        prompt=prompt,
        by_likelihood=by_likelihood,
        max_new_tokens=max_new_tokens,
        precision=precision,
        concurrency=concurrency,
        key_env=key_env,
        corpora=tuple(corpora),
    )
    ran = run_benchmark(asking, out)
    if ran.score is None:
        typer.echo(f"{out}: {len(ran.responses)} answers; their authors score them, nothing is scored here")
        return
    print_score(ran.score)
    write_result(json, ran.score)
