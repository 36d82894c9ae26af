"""`gmai data`: build a corpus, check it, look into it."""

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Build instruction data from annotated images, check it, look into it.", no_args_is_help=True)

CorpusFolder = Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a corpus.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result there as JSON.")]


@app.command()
def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Data recipe (YAML).")],
    out: Annotated[Path, typer.Option(metavar="CORPUS", help="Folder of the corpus.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes; the corpus is the same for any number.")] = 1,
    json: JsonFile = None,
) -> None:
    """Build a corpus from a recipe, or go on with one that was interrupted.

    Example: gmai data build recipes/data/phantom.yaml --out runs/phantom --workers 2
    """
    from gmai_vl.corpus import build as build_corpus

    summary = build_corpus(recipe, out, workers=workers)
    counts = summary.counts
    if summary.new_parts == summary.reused_parts == 0:
        typer.echo(f"{out}: was finished before; nothing to do")
    elif summary.reused_parts:
        typer.echo(f"{out}: went on after {summary.reused_parts} parts of an interrupted build")
    typer.echo(f"{summary.name}: {counts['samples']} samples about {counts['cases']} images")
    _print_table("outcome of the items", {"items": counts["outcomes"]})
    _print_table(
        "split",
        {
            "images": {side: counts["cases_by_split"].get(side, 0) for side in ("train", "val", "test")},
            "samples": counts["samples_by_split"],
        },
    )
    typer.echo(f"fingerprint {summary.fingerprint}")
    result = {"corpus": str(out), "name": summary.name, "counts": counts, "fingerprint": summary.fingerprint}
    _write_json(json, result)


@app.command()
def verify(corpus: CorpusFolder, json: JsonFile = None) -> None:
    """Hold a corpus against everything it promises; exit code 1 and a list where something is broken.

    Example: gmai data verify runs/phantom
    """
    from gmai_vl.corpus import verify as verify_corpus

    findings = verify_corpus(corpus)
    for finding in findings:
        typer.echo(finding)
    _write_json(json, {"corpus": str(corpus), "findings": findings})
    if findings:
        typer.echo(f"{corpus}: {len(findings)} findings", err=True)
        raise typer.Exit(1)
    typer.echo(f"{corpus}: every invariant holds")


@app.command()
def stats(corpus: CorpusFolder, json: JsonFile = None) -> None:
    """Count the samples by source, modality, department, task and more; write plots and the card.

    Example: gmai data stats runs/phantom
    """
    from gmai_vl.corpus.stats import stats as count_samples

    tables = count_samples(corpus)
    for column, numbers in tables.items():
        _print_table(column.replace("_", " "), {"samples": numbers})
    typer.echo(f"plots: {corpus / 'stats'}, card: {corpus / 'card.md'}")
    _write_json(json, tables)


@app.command()
def trace(
    corpus: CorpusFolder,
    sample_id: Annotated[str, typer.Argument(metavar="SAMPLE_ID", help="Id of a sample; put it in quotes.")],
    json: JsonFile = None,
) -> None:
    """Show how a sample came to be: pixel file, annotation, facts, prompt, text, licence, hashes.

    Example: gmai data trace runs/phantom '3d#seg#mr#phantom#...#0'
    """
    from gmai_vl.corpus import trace as trace_sample

    way = trace_sample(corpus, sample_id)
    for step, content in way.items():
        _print_step(step, content)
    _write_json(json, way)


@app.command()
def browse(corpus: CorpusFolder) -> None:
    """Write one HTML file to look through a corpus: images, boxes, texts, search and filters.

    Example: gmai data browse runs/phantom
    """
    from gmai_vl.corpus.browse import browse as write_page

    typer.echo(write_page(corpus))


def _print_table(title: str, columns: dict[str, dict[str, int]]) -> None:
    """Print value -> number, a column for each entry of `columns`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gmai_vl.corpus.verify import visible

    table = Table(title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right")
    for value in dict.fromkeys(value for numbers in columns.values() for value in numbers):
        table.add_row(Text(visible(value)), *(f"{numbers.get(value, 0):,}" for numbers in columns.values()))
    console = Console()
    console.print(table)
    console.print()


def _print_step(step: str, content: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    from gmai_vl.corpus.verify import visible

    console = Console()
    console.print(Text(step, style="bold cyan"))
    for line in (content if isinstance(content, str) else _as_yaml(content)).splitlines():
        console.print(Text(f"  {visible(line)}"), soft_wrap=True)
    console.print()


def _as_yaml(content: Any) -> str:
    """Return YAML for people: boxes on one line, texts of several lines as they stand."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    def sequence(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
        is_plain = not any(isinstance(entry, dict | list) for entry in value)
        return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=is_plain)

    Dumper.add_representer(str, text)
    Dumper.add_representer(list, sequence)
    return yaml.dump(content, Dumper=Dumper, allow_unicode=True, sort_keys=False, width=10_000)


def _write_json(path: Path | None, value: Any) -> None:
    from gmai_vl.foundation import write_json

    if path is not None:
        write_json(path, value)
