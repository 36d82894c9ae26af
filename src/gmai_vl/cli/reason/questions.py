"""`gmai reason questions`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmai_vl.cli.shared import JsonFile, print_table, write_result

if TYPE_CHECKING:  # the libraries of a corpus are loaded by the commands that need them
    from gmai_vl.reasoning.questions import Built


def questions(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the questions; one that it holds is replaced.")],
    corpora: Annotated[list[Path] | None, typer.Argument(metavar="[CORPUS]...", help="Folders of corpora.")] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="A dataset for held_out only, all of it; may be given several times."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="What is left to chance depends on it.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="At most N questions of a side: forms mixed, patients in turn."),
    ] = None,
    import_: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="A file of GMAI-Reasoning10K instead of corpora.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that the image paths of --import count from.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Make single-answer multiple-choice questions out of corpora, or out of a file of GMAI-Reasoning10K.

    Writes train, val, test and held_out as tables of `gmai eval run --benchmark own`; no patient, image or question is
    on two sides. Options are shuffled anew, and the right letters evened out.

    Example: gmai reason questions runs/mixed --out runs/questions --hold-out isic2017
    """
    from gmai_vl.foundation import UserError
    from gmai_vl.reasoning.questions import build_questions, import_questions

    if (import_ is None) == (not corpora):
        what = "both corpora and --import" if corpora else "neither a corpus nor --import"
        raise UserError(f"gmai reason questions: {what} given; give one of them")
    if import_ is not None:
        folder = images or import_.parent
        print_built(import_questions(import_, folder, out, hold_out=hold_out or (), seed=seed, limit=limit), json)
        return
    if images is not None:
        raise UserError("--images: goes with --import FILE; a corpus has its images in it")
    print_built(build_questions(corpora or [], out, hold_out=hold_out or (), seed=seed, limit=limit), json)


def print_built(built: "Built", json: Path | None) -> None:
    """Print what a folder of questions came to, and write its manifest as JSON where the user asked for it."""
    from gmai_vl.foundation import visible

    sources = sorted({source for counts in built.sources.values() for source in counts})
    columns = {
        side: {source: built.sources.get(side, {}).get(source, 0) for source in sources} | {"all": number}
        for side, number in built.questions.items()
    }
    print_table("source", columns)
    baselines = built.manifest["baselines"].items()
    shares = {
        name: {side: f"{100 * of_side[name]:.1f} %" for side, of_side in baselines} for name in ("chance", "majority")
    }
    print_table("who never looks", shares)
    for reason, number in built.left_out.items():
        typer.echo(visible(f"left out: {number:,}, {reason}"))
    typer.echo(f"{built.out}: {sum(built.questions.values()):,} questions, fingerprint {built.fingerprint}")
    typer.echo(f"strictest licence: {built.manifest['licences']['strictest']}")
    typer.echo("Research use only, not for diagnosis.")
    write_result(json, built.manifest)
