"""`gmai eval`: ask a model, score its answers, read answers out of responses."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gmai_vl.evaluation import Question

app = typer.Typer(help="Ask a model the questions of a benchmark and score its answers.", no_args_is_help=True)

BENCHMARKS = {"corpus": "the multiple-choice, closed and grounding questions of a corpus's test split; --data CORPUS"}

Benchmark = Annotated[str, typer.Option(metavar="NAME", help="Benchmark; `gmai eval list` shows them.")]
Data = Annotated[Path, typer.Option(metavar="DIR", help="Data of the benchmark; a corpus for `corpus`.")]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Only N questions: patients in turn, mix of forms kept.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result there as JSON.")]


@app.command()
def run(
    model: Annotated[Path, typer.Option(metavar="PATH", help="Folder of a checkpoint.")],
    benchmark: Benchmark,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the predictions and the score.")],
    limit: Limit = None,
    json: JsonFile = None,
) -> None:
    """Ask a model and score its answers; goes on where it was stopped. Writes OUT/predictions.jsonl and OUT/score.json.

    Example: gmai eval run --model runs/smol/final --benchmark corpus --data runs/phantom --out runs/smol/eval
    """
    from gmai_vl.corpus import Corpus
    from gmai_vl.evaluation import ask, checkpoint_sha256, claim
    from gmai_vl.foundation import write_json
    from gmai_vl.model import load_model

    questions = _questions(benchmark, data, limit)
    corpus = Corpus(data)
    vlm = load_model(model)
    identity = {"benchmark": benchmark, "data": corpus.manifest["fingerprint"], "model": checkpoint_sha256(model)}
    claim(out, identity)
    responses = ask(vlm, questions, corpus.image, out / "predictions.jsonl")
    result = _score(benchmark, questions, responses)
    write_json(out / "score.json", result)
    _report(result, json)


@app.command()
def score(
    benchmark: Benchmark,
    data: Data,
    predictions: Annotated[Path, typer.Option(metavar="FILE", help='JSON lines {"id", "response"}.')],
    limit: Limit = None,
    json: JsonFile = None,
) -> None:
    """Score a file of predictions. Every question needs a response; --limit takes the same questions as in `run`.

    Example: gmai eval score --benchmark corpus --data runs/phantom --predictions P.jsonl --json score.json
    """
    from gmai_vl.evaluation import choose, read_predictions
    from gmai_vl.foundation import UserError

    questions = _questions(benchmark, data, None)
    responses = read_predictions(predictions)
    unknown = responses.keys() - {question.id for question in questions}
    if unknown:
        raise UserError(
            f"{predictions}: {len(unknown)} ids are no questions of {data}, the first is `{min(unknown)}`; "
            "give the --data that was asked"
        )
    chosen = questions if limit is None else choose(questions, limit, seed=0)
    _report(_score(benchmark, chosen, responses), json)


@app.command()
def parse(
    source: Annotated[
        Path,
        typer.Option("--input", metavar="FILE", help="JSON lines with id, kind, lang, question, options, response."),
    ],
    target: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="JSON lines with id, choice, text, unparsed, correct.")
    ],
    json: JsonFile = None,
) -> None:
    """Read the answers out of responses, by the same rules as scoring.

    Example: gmai eval parse --input cases.jsonl --output answers.jsonl
    """
    from gmai_vl.evaluation import parse_file
    from gmai_vl.foundation import write_json

    counts = parse_file(source, target)
    typer.echo(f"{target}: {counts['cases']} cases, {counts['unparsed']} unparsed")
    if json is not None:
        write_json(json, counts)


@app.command("list")
def list_benchmarks(json: JsonFile = None) -> None:
    """List the benchmarks.

    Example: gmai eval list
    """
    from gmai_vl.foundation import write_json

    for name, what in BENCHMARKS.items():
        typer.echo(f"{name}: {what}")
    if json is not None:
        write_json(json, BENCHMARKS)


def _questions(benchmark: str, data: Path, limit: int | None) -> "list[Question]":
    from gmai_vl.corpus import Corpus
    from gmai_vl.evaluation import questions_of
    from gmai_vl.foundation import UserError, nearest

    if benchmark not in BENCHMARKS:
        raise UserError(f"--benchmark {benchmark}: no benchmark of that name; {nearest(benchmark, BENCHMARKS)}")
    questions = questions_of(Corpus(data), limit=limit)
    if not questions:
        raise UserError(f"{data}: its test split has no questions; give `split` a larger test share and build it anew")
    return questions


def _score(benchmark: str, questions: "list[Question]", responses: dict[str, str]) -> dict[str, Any]:
    from gmai_vl.evaluation import judge
    from gmai_vl.evaluation import score as score_of

    return score_of(judge(questions, responses), benchmark=benchmark, variant="test")


def _report(result: dict[str, Any], json: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gmai_vl.foundation import write_json

    table = Table("group", box=None, pad_edge=False, header_style="bold")
    for column in ("accuracy %", "95 % interval", "n", "patients", "unparsed"):
        table.add_column(column, justify="right")
    overall = {**result, "accuracy": result["micro"]}
    rows = [("all", overall)] + [
        (f"{name}: {value}", row) for name, values in result["groups"].items() for value, row in values.items()
    ]
    for label, row in rows:
        low, high = row["interval"]
        numbers = f"{row['accuracy']:.1%}"[:-1], f"{100 * low:.1f} - {100 * high:.1f}"
        table.add_row(Text(label), *numbers, str(row["n"]), str(row["n_patients"]), str(row["n_unparsed"]))
    Console().print(table)
    typer.echo(f"macro over {result['macro_over']}s: {100 * result['macro']:.1f} %; intervals are clustered by patient")
    typer.echo("Research use only, not for diagnosis.")
    if json is not None:
        write_json(json, result)
