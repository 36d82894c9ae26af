"""What commands share: arguments, tables for people, JSON for machines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

CorpusFolder = Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a corpus.")]
TrainRecipeFile = Annotated[Path, typer.Argument(help="Train recipe (YAML), such as recipes/train/smol.yaml.")]
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the recipe; may stand several times."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove an earlier run from the output folder.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the training in the output folder stopped.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result there as JSON.")]


def print_table(title: str, columns: Mapping[str, Mapping[str, float | str]]) -> None:
    """Print value -> number or word, a column for each entry of `columns`; what a column lacks stays empty."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gmai_vl.foundation import visible

    table = Table(title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right")
    for value in dict.fromkeys(value for numbers in columns.values() for value in numbers):
        table.add_row(Text(visible(value)), *(_cell(numbers.get(value)) for numbers in columns.values()))
    console = Console()
    console.print(table)
    console.print()


def _cell(value: float | str | None) -> str:
    return value if isinstance(value, str) else "" if value is None else f"{value:,}"


def print_step(step: str, content: Any) -> None:
    """Print one step of the way of a sample."""
    from rich.console import Console
    from rich.text import Text

    from gmai_vl.foundation import visible

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


def write_result(path: Path | None, value: Any) -> None:
    """Write the result of a command as JSON, where the user asked for it."""
    from gmai_vl.foundation import write_json

    if path is not None:
        write_json(path, value)
