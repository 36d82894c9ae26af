"""`gmai data review`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gmai_vl.cli.shared import CorpusFolder, JsonFile, print_table, write_result


def review(
    corpus: CorpusFolder,
    out: Annotated[Path | None, typer.Option(metavar="SHEETS", help="Draw pairs and write sheets there.")] = None,
    scores: Annotated[Path | None, typer.Option(metavar="SHEETS", help="Read the scores that came back.")] = None,
    pairs: Annotated[int, typer.Option(min=1, help="With --out: pairs of each source.")] = 30,
    seed: Annotated[int, typer.Option(help="With --out: another seed draws other pairs.")] = 0,
    judge: Annotated[str | None, typer.Option(metavar="URL", help="With --out: a model scores them too.")] = None,
    judge_model: Annotated[str | None, typer.Option(metavar="NAME", help="The model, as the server names it.")] = None,
    key_env: Annotated[str | None, typer.Option(metavar="VAR", help="Variable that holds the server's key.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to the judge at a time.")] = 8,
    structured: Annotated[
        Literal["schema", "object", "none"], typer.Option(help="How the judge's server is asked for JSON.")
    ] = "schema",
    images: Annotated[bool, typer.Option("--images/--no-images", help="Whether the judge gets the images.")] = True,
    pass_mark: Annotated[
        float, typer.Option(min=1, max=5, help="With --scores: a source passes with at most this mean.")
    ] = 3.0,
    json: JsonFile = None,
) -> None:
    """Have people, and a model, judge a corpus source by source: sheets out, scores in, a verdict for each source.

    --out draws pairs of text and image and writes a page and a table for raters. --scores reads the files that they
    sent back, put into the same folder, and writes CORPUS/review.json, which `quality: pass` of a mixture asks.

    Example: gmai data review runs/mixed --out sheets; gmai data review runs/mixed --scores sheets
    """
    from gmai_vl.foundation import UserError

    if (out is None) == (scores is None):
        raise UserError("gmai data review: give --out SHEETS to draw pairs, or --scores SHEETS to read scores")
    if scores is not None:
        if judge is not None:
            raise UserError("--judge: goes with --out SHEETS; run that first, then --scores")
        write_result(json, _read(corpus, scores, pass_mark))
        return
    assert out is not None
    if (judge is None) != (judge_model is None):
        raise UserError("--judge: needs --judge-model NAME, and --judge-model needs --judge URL")
    from gmai_vl.corpus.reader import Corpus
    from gmai_vl.corpus.review.draw import draw
    from gmai_vl.corpus.review.sheets import write_sheets

    settings = None if judge is None else _settings(judge, judge_model, key_env, concurrency, structured)
    opened = Corpus(corpus)
    drawn = draw(opened, pairs, seed)
    is_new = write_sheets(opened, drawn, out)
    print_table("source", {"pairs": drawn.sources})
    typer.echo(f"{out / 'sheet.html'}: for raters" + ("" if is_new else " (lay there already, as does sheet.csv)"))
    result: dict[str, Any] = {"corpus": str(corpus), "sheets": str(out), "pairs": drawn.sources, "seed": seed}
    if settings is not None:
        from gmai_vl.corpus.review.judge import judge as have_judged

        failed = have_judged(opened, drawn, settings, out, with_images=images)
        for pair, reason in failed.items():
            typer.echo(f"{pair}: no scores: {reason}")
        typer.echo(f"{settings.model} scored {len(drawn.pairs) - len(failed)} of {len(drawn.pairs)} pairs")
        result["judge"] = {"model": settings.model, "failed": failed}
    write_result(json, result)


def _settings(url: str, model: str | None, key_env: str | None, concurrency: int, structured: str) -> Any:
    from gmai_vl.endpoint import EndpointSettings
    from gmai_vl.foundation import load_settings

    given = {"url": url, "model": model, "key_env": key_env, "concurrency": concurrency, "structured": structured}
    return load_settings(EndpointSettings, given, "--judge")


def _read(corpus: Path, sheets: Path, pass_mark: float) -> dict[str, Any]:
    """Read scores, write and print the verdicts."""
    from gmai_vl.corpus.reader import Corpus
    from gmai_vl.corpus.review.record import check_fingerprint, write_record
    from gmai_vl.corpus.review.scores import read_review, read_scores
    from gmai_vl.corpus.review.verdict import verdicts
    from gmai_vl.foundation import UserError

    opened = Corpus(corpus)
    handed_out = read_review(sheets)
    check_fingerprint(opened, handed_out)
    returned = read_scores(sheets, handed_out)
    for note in returned.notes:
        typer.echo(f"note: {note}")
    for fault in returned.faults:
        typer.echo(fault, err=True)
    if returned.faults:
        number = f"{len(returned.faults)} fault{'s' if len(returned.faults) > 1 else ''}"
        raise UserError(f"{sheets}: {number} in the scores, named above; mend and run again")
    if not returned.raters:
        raise UserError(f"{sheets}: no scores yet; put the raters' CSV files there and run again")
    sources = [entry["name"] for entry in opened.manifest["recipe"]["sources"]]
    found = verdicts(handed_out, returned.raters, sources, pass_mark)
    record = write_record(opened, handed_out, returned.raters, found, pass_mark)
    _print(record)
    typer.echo(f"{corpus / 'review.json'}: pass mark {pass_mark:g}, 1 is best")
    return record


def _print(record: dict[str, Any]) -> None:
    sources = record["sources"]
    blocks = {name: entry["people"] or entry["judge"] or {} for name, entry in sources.items()}
    columns: dict[str, dict[str, Any]] = {
        "verdict": {name: entry["verdict"] for name, entry in sources.items()},
        "by": {name: entry["by"] or "" for name, entry in sources.items()},
        "pairs": {name: f"{block.get('pairs', 0)}/{sources[name]['drawn']}" for name, block in blocks.items()},
        "raters": {name: block.get("raters", 0) for name, block in blocks.items()},
        "mean": {name: _told(block.get("mean")) for name, block in blocks.items()},
        "95 %": {name: _range(block.get("interval")) for name, block in blocks.items()},
    }
    print_table("source", columns)
    means = {
        axis.replace("_", " "): {name: _told(block["means"][axis]) for name, block in blocks.items() if block}
        for axis in record["axes"]
    }
    print_table("means, 1 best", means)
    for name, entry in sources.items():
        if entry["verdict"] == "none":
            typer.echo(f"{name}: no verdict: {entry['why']}")
    agreement = record["agreement"]
    rows = {f"{record['people']} people": {axis: {"alpha": alpha} for axis, alpha in agreement["people"].items()}}
    rows |= {f"{judge} with people": axes for judge, axes in agreement["judges"].items()}
    table = {
        axis.replace("_", " "): {row: _agreed(axes[axis]) for row, axes in rows.items()} for axis in record["axes"]
    }
    print_table("agreement (alpha)", table)
    if agreement["judges"] and record["people"]:
        typer.echo("in brackets: the judge's scores less those of people\n")


def _agreed(value: dict[str, float | None]) -> str:
    difference = value.get("difference")
    return _told(value["alpha"]) + ("" if difference is None else f" ({difference:+.2f})")


def _told(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def _range(interval: list[float] | tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.2f}-{interval[1]:.2f}"
