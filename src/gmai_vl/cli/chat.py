"""`gmai chat`: ask a model about images, once or in a conversation."""

import sys
from pathlib import Path
from typing import Annotated

import typer

NOTICE = "research use only, not for diagnosis"


def chat(
    model: Annotated[Path, typer.Option("--model", metavar="PATH", help="Folder of a checkpoint.")],
    prompt: Annotated[
        str | None, typer.Argument(help="The question; without it, a conversation on the terminal.")
    ] = None,
    image: Annotated[
        list[Path], typer.Option("--image", metavar="FILE", help="Picture to ask about; may stand several times.")
    ] = [],  # noqa: B006  typer copies it
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
) -> None:
    """Ask a model about images. Research use only, not for diagnosis.

    Example: gmai chat --model runs/smol/final --image chest.png "Which modality is this?"
    """
    from gmai_vl.foundation import BadItem, UserError
    from gmai_vl.model import Request, generate, load_to_answer
    from gmai_vl.records import ImageRef, Turn
    from gmai_vl.sources.images import read_image

    if prompt is None and not sys.stdin.isatty():
        raise UserError("PROMPT: is missing, and this is no terminal to talk on; give one")
    try:
        images = tuple(read_image(path) for path in image)
    except BadItem as bad:
        raise UserError(f"--image: {bad}") from None
    vlm = load_to_answer(model)
    typer.echo(NOTICE)
    turns: tuple[Turn, ...] = ()
    question = prompt if prompt is not None else _next_question()
    while question is not None:
        shown = () if turns else tuple(ImageRef(index) for index in range(len(images)))
        turns += (Turn("user", (*shown, question)),)
        (answer,) = generate(vlm, [Request(turns, images)], max_new_tokens=max_new_tokens, batch_size=1)
        typer.echo(answer)
        turns += (Turn("assistant", (answer,)),)
        question = _next_question() if prompt is None else None


def _next_question() -> str | None:
    """Read a line from the terminal; None at its end (Ctrl-D) or at an empty line."""
    try:
        return input("> ").strip() or None
    except EOFError:
        return None
