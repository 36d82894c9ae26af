"""`gmai reason difficulty`."""

from pathlib import Path
from typing import Annotated

import typer

from gmai_vl.cli.shared import JsonFile, print_table, write_result


def difficulty(
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS", help="Folder of `gmai reason questions`.")],
    model: Annotated[Path, typer.Option(metavar="FOLDER", help="Checkpoint that answers.")],
    samples: Annotated[int, typer.Option(min=1, metavar="N", help="Answers to a question.")] = 8,
    temperature: Annotated[float, typer.Option(min=1e-6, help="Of the answers.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Longest answer.")] = 1024,
    prompt: Annotated[str, typer.Option(metavar="NAME", help="How questions are put.")] = "reason",
    seed: Annotated[int, typer.Option(metavar="N", help="The answers depend on it.")] = 0,
    json: JsonFile = None,
) -> None:
    """Estimate how hard the questions of the side `train` are: the share of a model's answers that are right.

    Writes QUESTIONS/difficulty.jsonl; `difficulty: [0.1, 0.9]` in a GRPO recipe then leaves out what is settled. Goes
    on where it was stopped.

    Example: gmai reason difficulty runs/questions --model runs/smol/final --samples 8
    """
    from gmai_vl.reasoning.difficulty import estimate_difficulty, spread

    estimates = estimate_difficulty(
        questions,
        model,
        samples=samples,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        prompt=prompt,
        seed=seed,
    )
    counts = spread(estimates)
    print_table("questions", {"train": counts})
    typer.echo(f"{questions}: estimates of {len(estimates):,} questions. Research use only, not for diagnosis.")
    write_result(json, {"questions": len(estimates), "samples": samples, **counts})
