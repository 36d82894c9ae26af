"""`gmai backbones`: list the pretrained parts and bring them onto this machine."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Pretrained parts: list them, bring them onto this machine.", no_args_is_help=True)


@app.command("list")
def list_backbones(
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the list there as JSON.")] = None,
) -> None:
    """Print the backbones that install from the Python package index. Any hub id (owner/name) can be pulled too.

    Example: gmai backbones list
    """
    from gmai_vl.foundation import write_json
    from gmai_vl.model import BACKBONES, cache_folder, is_present

    typer.echo(f"{'name':<20} {'part':<9} {'parameters':>11} {'licence':<11} {'download':>8}  here")
    rows = []
    for backbone in BACKBONES.values():
        here = cache_folder() / backbone.name if is_present(backbone.name) else None
        typer.echo(
            f"{backbone.name:<20} {backbone.part:<9} {backbone.parameters / 1e6:>9.1f} M {backbone.license:<11} "
            f"{backbone.download_mb:>5} MB  {here or 'no'}"
        )
        rows.append(
            {
                "name": backbone.name,
                "part": backbone.part,
                "parameters": backbone.parameters,
                "license": backbone.license,
                "package": backbone.requirement,
                "download_mb": backbone.download_mb,
                "path": str(here) if here else None,
            }
        )
    if json is not None:
        write_json(json, rows)


@app.command("pull")
def pull_backbone(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Name from the list, hub id owner/name[@revision], or folder."),
    ],
) -> None:
    """Download backbones, check them and keep them as safetensors in the cache; prints the folders.

    An InternLM2 becomes a Llama, an official GMAI-VL checkpoint a stock LLaVA: neither needs code of its own then.

    Example: gmai backbones pull efficientnet-lite0 smollm2-135m
    """
    from gmai_vl.model import pull

    for name in names:
        typer.echo(pull(name))
