"""`gmai chat`: ask a model about pictures, slices and volumes, once or in a conversation."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gmai_vl import NOTICE

if TYPE_CHECKING:
    from gmai_vl.serving.chat import Chat

HELP = """\
/image FILE[@axial=12] [WINDOW]   show a picture, a DICOM file or folder, or a NIfTI volume with the next question
/reset                            forget what was said and shown
/save FILE                        write the conversation, as JSON or as Markdown (.md)
/quit                             end, as Ctrl-D does; Ctrl-C stops an answer"""

Window = Literal["auto", "stored", "lung", "bone", "brain", "soft-tissue"]


def chat(
    model: Annotated[Path, typer.Option("--model", metavar="PATH", help="Folder of a checkpoint.")],
    prompt: Annotated[
        str | None, typer.Argument(help="The question; without it, a conversation on the terminal.")
    ] = None,
    image: Annotated[
        list[str],
        typer.Option(
            "--image",
            metavar="FILE[@axial=12]",
            help="Picture, DICOM file or folder, or NIfTI volume, and which slice of it; may stand several times.",
        ),
    ] = [],  # noqa: B006  typer copies it
    window: Annotated[
        Window | None, typer.Option(help="How grey values are shown; default: as training shows them.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0: the most likely words.")] = 0,
    seed: Annotated[int, typer.Option(help="With a temperature: the same seed draws the same answers.")] = 0,
    precision: Annotated[
        Literal["fp32", "bf16"] | None, typer.Option(help="Default: as the checkpoint was saved.")
    ] = None,
) -> None:
    """Ask a model about images. Research use only, not for diagnosis.

    Example: gmai chat --model runs/smol/final --image ct.nii.gz@axial=40 --window lung "Is a nodule visible?"
    """
    from gmai_vl.foundation import UserError
    from gmai_vl.model import Sampling, load_to_answer
    from gmai_vl.serving.chat import Chat, open_picture

    if prompt is None and not sys.stdin.isatty():
        raise UserError("PROMPT: is missing, and this is no terminal to talk on; give one")
    try:
        pictures = [open_picture(each, window) for each in image]
    except UserError as error:
        raise UserError(f"--image: {error}") from None
    vlm = load_to_answer(model, precision)
    typer.echo(NOTICE)
    sampling = Sampling(temperature=temperature, seed=seed) if temperature else None
    with Chat(vlm, max_tokens=max_new_tokens, sampling=sampling) as talk:
        for picture in pictures:
            talk.show(picture)
        if prompt is not None:
            _answer(talk, prompt)
            return
        typer.echo("/help says what can be typed besides questions")
        for line in _lines():
            try:
                _do(talk, line)
            except UserError as error:
                typer.echo(f"gmai: {error}", err=True)


def _do(talk: "Chat", line: str) -> None:
    """Answer a question, or do what a line that begins with a slash says. Raises UserError where it cannot be done."""
    from gmai_vl.foundation import UserError
    from gmai_vl.serving.chat import open_picture

    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if not line.startswith("/"):
        _answer(talk, line)
    elif command == "/image" and rest:
        name, _, last = rest.rpartition(" ")
        windows = Window.__args__  # type: ignore[attr-defined]
        picture = open_picture(name, last) if name and last in windows else open_picture(rest)
        talk.show(picture)
        typer.echo(picture.told)
        for note in picture.notes:
            typer.echo(f"its header warns: {note.replace('_', ' ')}", err=True)
    elif command == "/save" and rest:
        talk.save(Path(rest))
        typer.echo(f"written to {rest}")
    elif command == "/reset":
        talk.reset()
    elif command == "/help":
        typer.echo(HELP)
    else:
        raise UserError(f"{command}: is no command, or lacks its FILE; /help lists them")


def _answer(talk: "Chat", question: str) -> None:
    """Print an answer as it comes; an interrupt stops it and leaves the conversation open."""
    try:
        for piece in talk.ask(question):
            typer.echo(piece, nl=False)
    except KeyboardInterrupt:
        typer.echo(" (stopped)", nl=False)
    typer.echo()


def _lines() -> Iterator[str]:
    """Yield what is typed, without empty lines, until Ctrl-D or /quit."""
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if line == "/quit":
            return
        if line:
            yield line
