"""`gmai plan`: what a train recipe would do, before it does it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gmai_vl.cli.shared import JsonFile, Overrides, TrainRecipeFile, print_table, write_result

if TYPE_CHECKING:
    from gmai_vl.training.plan import StagePlan


def plan(
    recipe: TrainRecipeFile,
    overrides: Overrides = [],  # noqa: B006  typer copies it
    devices: Annotated[int, typer.Option(min=1, help="Devices to spread the model over.")] = 1,
    gpu: Annotated[bool, typer.Option("--gpu", help="Estimate memory for GPUs, not for a CPU.")] = False,
    json: JsonFile = None,
) -> None:
    """Tell what a recipe would do: samples, tokens, packs and how full they are, steps, what learns, memory.

    Reads corpora and tokenizer, and keeps the tokens for `gmai train`; loads no weights and needs no GPU.

    Example: gmai plan recipes/train/smol.yaml --set packing=bfd
    """
    from gmai_vl.training import plan as make_plan
    from gmai_vl.training import read_recipe
    from gmai_vl.training.plan import as_json

    stages = make_plan(read_recipe(recipe, overrides), recipe.parent, devices=devices, on_gpu=gpu)
    print_table("stage", {stage.name: _lines(stage) for stage in stages})
    write_result(json, {"stages": as_json(stages)})


def _lines(stage: "StagePlan") -> dict[str, str]:
    """Return a line of the table for everything there is to tell of a stage."""
    lines = {
        "samples an epoch": f"{stage.samples:,}",
        "  left out, too long": f"{stage.left_out:,}",
        "  cut": f"{stage.cut:,}",
        "tokens an epoch": f"{stage.tokens:,}",
        "  learnt": f"{stage.supervised_tokens:,}",
        "  longest sample": f"{stage.longest:,}",
        "images an epoch": f"{stage.images:,}",
    }
    if stage.packs:
        lines |= {
            "packs an epoch": f"{stage.packs.packs:,}",
            "  fill": f"{stage.packs.fill:.1%}",
            "  empty room, tokens": f"{stage.packs.padding:,}",
            "  samples a pack": f"{stage.packs.samples_per_pack:.1f}",
            "  images a pack (most)": f"{stage.packs.images_per_pack:.1f} ({stage.packs.most_images})",
        }
    lines |= {"steps": f"{stage.steps:,}", "  epochs": f"{stage.epochs:.2f}"}
    lines |= {"parameters": f"{stage.parameters:,}"}
    lines |= {f"  {part} learns": f"{count:,}" for part, count in stage.learns.items()}
    if stage.flops is not None:
        lines["operations an epoch"] = f"{stage.flops:.2e}"
    if stage.memory is not None:
        lines["memory a device, MiB"] = f"{stage.memory.total / 2**20:,.0f}"
        lines |= {f"  {name}": f"{count / 2**20:,.0f}" for name, count in asdict(stage.memory).items()}
    return lines
