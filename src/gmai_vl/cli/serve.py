"""`gmai serve`: a checkpoint behind an OpenAI-compatible API, with a page to try it on."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def serve(
    model: Annotated[
        list[str],
        typer.Option("--model", metavar="[NAME=]PATH", help="Folder of a checkpoint; may stand several times."),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other than this machine's needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free.")] = 8000,
    name: Annotated[
        list[str],
        typer.Option("--name", metavar="HOST", help="Name that requests may call the server by, besides `--host`."),
    ] = [],  # noqa: B006  typer copies it
    key_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable with the key.")
    ] = "GMAI_API_KEY",
    precision: Annotated[
        Literal["fp32", "bf16"] | None, typer.Option(help="Default: as the checkpoint was saved.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Answers that are written together.")] = 8,
    waiting: Annotated[int, typer.Option(min=0, help="Answers that may wait; more are refused.")] = 64,
    allow_remote_images: Annotated[
        bool, typer.Option("--allow-remote-images", help="Fetch pictures from public https addresses.")
    ] = False,
    audit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Add a line for every answer, without pictures and words.")
    ] = None,
) -> None:
    """Serve checkpoints: an OpenAI-compatible API and a page to try them on. Research use only, not for diagnosis.

    Example: gmai serve --model runs/smol/final, then open http://127.0.0.1:8000
    """
    from gmai_vl import serving
    from gmai_vl.serving.remote import fetch_picture

    address = serving.Address(host=host, port=port)
    access = serving.Access(
        key=serving.key_for(address, key_env),
        hosts=serving.LOOPBACK | {address.in_url, *name},
        fetch=fetch_picture if allow_remote_images else None,
        audit=audit,
        limits=serving.Limits(running=concurrency, waiting=waiting),
    )
    serving.serve(serving.named_checkpoints(model), address, access, precision)
