"""`gmai export`: a checkpoint in the format of another program."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from gmai_vl.cli.shared import JsonFile, write_result


class Precision(StrEnum):
    """How matrices are kept; typer takes no list of literals."""

    F16 = "f16"
    Q8_0 = "q8_0"


def export(
    model: Annotated[Path, typer.Option("--model", metavar="PATH", help="Folder of a checkpoint with a CLIP tower.")],
    to: Annotated[Literal["gguf"], typer.Option("--to", help="Format: gguf, which llama.cpp reads.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the files.")],
    precision: Annotated[
        list[Precision],
        typer.Option("--precision", help="16 or 8 bits a weight; may stand several times."),
    ] = [Precision.F16, Precision.Q8_0],  # noqa: B006  typer copies it
    json: JsonFile = None,
) -> None:
    """Write a checkpoint as GGUF files, language model and vision projector, read back and compared.

    Run them with llama.cpp, here as greedily as `gmai chat` answers:
    llama-mtmd-cli -m DIR/model-q8_0.gguf --mmproj DIR/mmproj-model-f16.gguf --image x.png --temp 0 -p "Which modality?"

    Example: gmai export --model runs/gmai-vl-7b/final --to gguf --out runs/gmai-vl-7b/gguf
    """
    from gmai_vl.model import export_gguf

    files = export_gguf(model, out, [kind.value for kind in dict.fromkeys(precision)])
    for file in files:
        typer.echo(
            f"{file.path}: {file.size / 1e6:,.1f} MB, {file.tensors} tensors, "
            f"at most {file.largest_error:.1e} of a tensor's largest value from the checkpoint"
        )
    write_result(json, {"files": [asdict(file) | {"path": str(file.path)} for file in files]})
